"""What skorch calls between epochs and steps: stages opened, weights, progress."""
