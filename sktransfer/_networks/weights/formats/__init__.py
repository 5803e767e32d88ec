"""Formats of weight files, read within bounds and without running code."""
