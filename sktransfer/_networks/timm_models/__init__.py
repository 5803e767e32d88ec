"""Image models of timm: cut into stages by what they say of themselves."""
