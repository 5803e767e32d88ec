"""Pictures: content computed by functions that do not draw, then drawn."""
