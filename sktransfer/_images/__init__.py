"""Pixels: what ``X`` may be, one checked array of it, and batches for a network."""
