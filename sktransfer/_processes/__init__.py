"""What other processes mean for this one: ranks of one job, workers of an engine."""
