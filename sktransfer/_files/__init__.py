"""Files: opened only if they are files, read within bounds, and replaced whole."""
