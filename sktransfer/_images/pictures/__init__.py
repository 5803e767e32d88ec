"""Files of pictures, and PIL images: which are read, and as what pixels."""
