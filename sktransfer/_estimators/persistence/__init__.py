"""Fitted estimators as files: saved, inspected and loaded without running code."""
