"""Pretrained backbones: described, built as stages, and given their weights."""
