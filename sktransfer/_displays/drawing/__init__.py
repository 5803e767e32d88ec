"""How the displays draw their content, with matplotlib."""
