"""The output of the frozen prefix: found, or computed and kept, in memory and on disk."""
