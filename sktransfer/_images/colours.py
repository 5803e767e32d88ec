"""Changes of brightness and colour, each of a strength of its own for every image."""

from __future__ import annotations

import torch
from torch.nn import functional as F

# The strongest changes, about half as strong as in TrivialAugment (Müller and Hutter
# 2021): the share of a blend, the bits that remain, the brightness that turns dark.
MAX_BLEND, FEWEST_BITS, LOWEST_TURN = 0.5, 4, 0.5

# All functions take images of shape (n, n_channels, height, width), float32 in [0, 1],
# and strengths of shape (n, 1, 1, 1) in [-1, 1]. Their results may leave [0, 1].
# torchvision's take one strength per call, so that only those without any serve here.


def change_brightness(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Blend with black, or away from it."""
    return _blend(images, torch.zeros_like(images), strength)


def change_contrast(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Blend with the mean of all pixels, or away from it."""
    return _blend(images, images.mean((1, 2, 3), keepdim=True), strength)


def change_saturation(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Blend with the mean of the channels, or away from it."""
    return _blend(images, images.mean(1, keepdim=True), strength)


def change_sharpness(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Blend with the mean of 3 x 3 pixels, or away from it."""
    smooth = F.avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
    return _blend(images, smooth, 2 * strength)


def posterize(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Keep only the highest bits of every value."""
    n_bits = 8 - (strength.abs() * (8 - FEWEST_BITS)).round()
    step = 2 ** (8 - n_bits)
    return (images * 255).div(step).floor() * step / 255


def solarize(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Turn the brightest values into dark ones."""
    turn = 1 - strength.abs() * (1 - LOWEST_TURN)
    return torch.where(images < turn, images, 1 - images)


def stretch(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Make the darkest value of every channel black and the brightest white."""
    from torchvision.transforms.v2.functional import autocontrast

    stretched: torch.Tensor = autocontrast(images.flatten(0, 1)[:, None])
    return stretched.view_as(images)


def equalize(images: torch.Tensor, strength: torch.Tensor) -> torch.Tensor:
    """Make all values of every channel equally frequent, as far as possible."""
    from torchvision.transforms.v2 import functional

    levelled: torch.Tensor = functional.equalize(images.flatten(0, 1)[:, None])
    return levelled.view_as(images)


def _blend(
    images: torch.Tensor, others: torch.Tensor, strength: torch.Tensor
) -> torch.Tensor:
    """Go from images towards others, or away from them if `strength` is positive."""
    return images + MAX_BLEND * strength * (images - others)
