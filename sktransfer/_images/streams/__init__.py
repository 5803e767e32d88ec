"""Images that are read when they are asked for, and never all in memory."""
