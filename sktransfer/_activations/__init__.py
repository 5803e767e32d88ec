"""The output of frozen stages: found, or computed and kept, in memory or on disk."""
