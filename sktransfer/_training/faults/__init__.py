"""What a fit survives: Ctrl-C, too little memory, and the end of its process."""
