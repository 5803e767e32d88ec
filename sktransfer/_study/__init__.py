"""Transfer against scratch: measured, and reported as text, JSON and one HTML page."""
