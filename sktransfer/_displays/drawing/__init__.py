"""How the displays draw it, with matplotlib."""
