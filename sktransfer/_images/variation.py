"""Every image of a batch cropped, mirrored, changed in one way and partly erased."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch.nn import functional as F

from sktransfer._images.colours import (
    change_brightness,
    change_contrast,
    change_saturation,
    change_sharpness,
    equalize,
    posterize,
    solarize,
    stretch,
)
from sktransfer._images.shapes import find_range
from sktransfer._images.streams.ahead import Images

Recolour = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]

# Share of the area that a crop keeps, and its width over its height, both in units of
# the image. ImageNet is learnt from shares of 0.08 on; fastai's examples of fine-tuning
# begin at 0.35, with the same shapes.
CROP_AREA, CROP_SHAPE = (0.35, 1.0), (3 / 4, 4 / 3)
# As in torchvision's recipes and its RandomErasing.
ERASE_CHANCE, ERASE_AREA, ERASE_SHAPE = 0.1, (0.02, 0.33), (0.3, 3.3)
# Weaker than in TrivialAugment (Müller and Hutter 2021), whose strengths were chosen
# for long training from scratch.
MAX_DEGREES, MAX_SHEAR, MAX_SHIFT = 20.0, 0.2, 0.1
# A few images stay in the cache of a CPU; all at once take twice as long.
AT_ONCE = 4
# Floats may leave [0, 1] by so much, for instance after resizing.
TOLERANCE = 0.5

# One of these is drawn for each image, as in TrivialAugment. None changes no colours:
# the pixels move instead, or nothing happens.
CHANGES: dict[str, Recolour | None] = {
    "nothing": None,
    "rotate": None,
    "shear_x": None,
    "shear_y": None,
    "shift_x": None,
    "shift_y": None,
    "brightness": change_brightness,
    "contrast": change_contrast,
    "saturation": change_saturation,
    "sharpness": change_sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "stretch": stretch,
    "equalize": equalize,
}


class Variation(NamedTuple):
    """How each of n images is varied.

    Attributes
    ----------
    affine : tensor of shape (n, 2, 3), float32
        Where the pixels of the result lie in the image, as in
        :func:`torch.nn.functional.affine_grid`: crop, mirror, rotation, shear, shift.

    change : tensor of shape (n,), int64
        Position in `CHANGES`.

    strength : tensor of shape (n,), float32
        Of the change, in [-1, 1].

    erased : tensor of shape (n, 4), float32
        Top, left, bottom and right of what is erased, in [0, 1]; all 0 for nothing.
    """

    affine: torch.Tensor
    change: torch.Tensor
    strength: torch.Tensor
    erased: torch.Tensor

    def take(self, at: torch.Tensor | slice) -> Variation:
        """Return how some of the images are varied."""
        return Variation(*(part[at] for part in self))


def check_brightness(images: Images) -> None:
    """Raise a ValueError unless images are uint8, or about within [0, 1]."""
    darkness, brightness = find_range(images)
    if darkness < -TOLERANCE or brightness > 1 + TOLERANCE:
        raise ValueError(
            f"augment='advanced' changes colours and needs images in [0, 1], but X "
            f"holds {images.dtype} values from {darkness:g} to {brightness:g}; pass X "
            "as uint8 or scaled to [0, 1], or augment='flip_crop'."
        )


def draw_variation(
    n_images: int, height: int, width: int, generator: torch.Generator
) -> Variation:
    """Draw how each image of a batch is varied.

    Parameters
    ----------
    n_images, height, width : int
        Number of images, and their size in pixels.

    generator : torch.Generator
        Of the CPU; nothing else is drawn from.

    Returns
    -------
    Variation
        On the CPU.
    """
    change = torch.randint(len(CHANGES), (n_images,), generator=generator)
    strength = 2 * torch.rand(n_images, generator=generator) - 1
    top, left, bottom, right = _draw_boxes(
        n_images, CROP_AREA, CROP_SHAPE, generator
    ).unbind(1)
    is_mirrored = torch.rand(n_images, generator=generator) < 0.5
    affine = _move(change, strength, width / height)
    affine[:, :, 0] *= torch.where(is_mirrored, -1, 1)[:, None]
    affine *= torch.stack([right - left, bottom - top], 1)[:, :, None]
    affine[:, :, 2] += torch.stack([left + right, top + bottom], 1) - 1
    erased = _draw_boxes(n_images, ERASE_AREA, ERASE_SHAPE, generator)
    is_erased = torch.rand(n_images, generator=generator) < ERASE_CHANCE
    return Variation(affine, change, strength, erased * is_erased[:, None])


def vary(images: torch.Tensor, variation: Variation) -> torch.Tensor:
    """Vary each image of a batch.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width, n_channels)
        uint8, or float32 in [0, 1].

    variation : Variation
        Of the same number of images.

    Returns
    -------
    tensor of the same shape and dtype
    """
    result = torch.empty_like(images)
    n_at_once = AT_ONCE if images.device.type == "cpu" else len(images)
    for first in range(0, len(images), n_at_once):
        some = slice(first, first + n_at_once)
        shown = _vary(images[some], variation.take(some))
        result[some] = shown.permute(0, 2, 3, 1)
    return result


def _draw_boxes(
    n: int,
    area: tuple[float, float],
    shape: tuple[float, float],
    generator: torch.Generator,
) -> torch.Tensor:
    """Draw tops, lefts, bottoms and rights (n, 4) of boxes in the unit square."""
    at = torch.rand(4, n, generator=generator)
    areas = area[0] + (area[1] - area[0]) * at[0]
    low, high = (math.log(limit) for limit in shape)
    ratios = torch.exp(low + (high - low) * at[1])
    # A box that is too long is cut, as wide or as high as the image.
    heights, widths = (areas / ratios).sqrt().clamp(max=1), (areas * ratios).sqrt()
    widths = widths.clamp(max=1)
    tops, lefts = at[2] * (1 - heights), at[3] * (1 - widths)
    return torch.stack([tops, lefts, tops + heights, lefts + widths], 1)


def _move(change: torch.Tensor, strength: torch.Tensor, aspect: float) -> torch.Tensor:
    """Return the affine map (n, 2, 3) of those changes that move pixels."""
    amount = {name: strength * (change == i) for i, name in enumerate(CHANGES)}
    angle = math.radians(MAX_DEGREES) * amount["rotate"]
    # Both sides count as 2 units long, whatever their length in pixels.
    affine = torch.zeros(len(change), 2, 3)
    affine[:, 0, 0] = affine[:, 1, 1] = angle.cos()
    affine[:, 0, 1] = (MAX_SHEAR * amount["shear_x"] - angle.sin()) / aspect
    affine[:, 1, 0] = (MAX_SHEAR * amount["shear_y"] + angle.sin()) * aspect
    affine[:, 0, 2] = 2 * MAX_SHIFT * amount["shift_x"]
    affine[:, 1, 2] = 2 * MAX_SHIFT * amount["shift_y"]
    return affine


def _vary(images: torch.Tensor, variation: Variation) -> torch.Tensor:
    """Vary images; return floats (n, n_channels, height, width) on the same scale."""
    is_uint8 = images.dtype == torch.uint8
    x = images.permute(0, 3, 1, 2).float()
    if is_uint8:
        x = x / 255
    affine = variation.affine.to(x.device)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False)
    # Nothing is made smaller, so there is nothing to smooth.
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)
    for recolour, at in _group_by_colour(variation.change):
        strength = variation.strength[at, None, None, None].to(x.device)
        x[at] = recolour(x[at], strength).clamp(0, 1)
    x = _erase(x, variation.erased)
    return (x * 255).round_() if is_uint8 else x


def _group_by_colour(
    change: torch.Tensor,
) -> Iterator[tuple[Recolour, torch.Tensor]]:
    """Yield each change of colours, and the positions of the images that it changes."""
    for i, recolour in enumerate(CHANGES.values()):
        at = (change == i).nonzero()[:, 0]
        if recolour is not None and len(at):
            yield recolour, at


def _erase(images: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    """Fill a box in some images (n, n_channels, height, width) with their mean."""
    at = boxes.any(1).nonzero()[:, 0]
    if not len(at):
        return images
    some = images[at]
    height, width = images.shape[2:]
    top, left, bottom, right = boxes[at].to(images.device).unbind(1)
    is_inside = (
        _is_between(top, bottom, height)[:, None, :, None]
        & _is_between(left, right, width)[:, None, None, :]
    )
    images[at] = torch.where(is_inside, some.mean((2, 3), keepdim=True), some)
    return images


def _is_between(low: torch.Tensor, high: torch.Tensor, n: int) -> torch.Tensor:
    """Return which of n pixels in a row lie between shares of it, (n_images, n)."""
    centres = (torch.arange(n, device=low.device) + 0.5) / n
    return (centres >= low[:, None]) & (centres < high[:, None])
