"""What the displays show, computed without drawing."""
