"""What estimators do where several processes share the work."""
