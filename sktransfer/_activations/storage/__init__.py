"""Rows of numbers under keys, in memory and in files; knows no network."""
