"""Weights from files and downloads: found, read, named, and loaded into stages."""
