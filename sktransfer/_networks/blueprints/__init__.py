"""Networks described, so that they can be built again without their weights."""
