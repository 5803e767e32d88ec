"""What the displays show, computed by functions that do not draw."""
