"""A network as stages: built, given pretrained weights, frozen, and run on a device."""
