"""Pixels: what X may be, read and checked; a batch augmented, resized, normalised."""
