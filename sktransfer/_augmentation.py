"""Random flips and shifts of a batch of images, seeded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

Augment = str | Callable[[torch.Tensor], torch.Tensor] | None

# The customary shift for 32-pixel images is 4 pixels (He et al. 2016, section 4.2).
SHIFT = 1 / 8


def has_finite_views(augment: Augment) -> bool:
    """Whether an image has at most two views: as it is, and mirrored."""
    return augment is None or augment == "flip"


def _reflect(index: torch.Tensor, n: int) -> torch.Tensor:
    """Fold positions outside ``[0, n)`` back at the borders."""
    index = index.abs()
    return (n - 1 - (n - 1 - index).abs()).clamp(0, n - 1)


def _shifted(n_images: int, n: int, generator: torch.Generator) -> torch.Tensor:
    """Pixel positions of each image after a random shift: (n_images, n)."""
    most = max(1, round(SHIFT * n))
    shift = torch.randint(-most, most + 1, (n_images, 1), generator=generator)
    return _reflect(torch.arange(n) + shift, n)


def _checked(changed: Any, images: torch.Tensor) -> torch.Tensor:
    """Return what a user's function made of the images, if it is a batch of as many."""
    if isinstance(changed, torch.Tensor) and changed.ndim == 4:
        (n, *_, channels), (n_wanted, *_, channels_wanted) = changed.shape, images.shape
        if changed.dtype != images.dtype:
            raise ValueError(
                f"augment returned {changed.dtype} for a batch of {images.dtype}, on "
                "another scale; return the dtype that came in."
            )
        if (n, channels) == (n_wanted, channels_wanted):
            return changed
    is_tensor = isinstance(changed, torch.Tensor)
    got = tuple(changed.shape) if is_tensor else type(changed).__name__
    raise ValueError(
        f"augment returned {got} for a batch of shape {tuple(images.shape)}; it must "
        "return a tensor (n_images, height, width, n_channels) of as many images."
    )


def augment_batch(
    images: torch.Tensor, augment: Augment, generator: torch.Generator
) -> torch.Tensor:
    """Change each image of a batch at random.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width, n_channels)
        uint8 or float.

    augment : {"flip", "flip_crop"}, callable or None
        ``"flip"`` mirrors half of the images left to right; ``"flip_crop"`` also
        shifts them by up to an eighth of their size, the border reflected; a callable
        maps the batch to a batch.

    generator : torch.Generator
        Source of chance, on the CPU.

    Returns
    -------
    tensor of the same shape and dtype

    Raises
    ------
    ValueError
        If a callable returns anything but a batch of as many images.
    """
    if augment is None:
        return images
    if callable(augment):
        return _checked(augment(images), images)
    n, height, width, _ = images.shape
    rows = torch.arange(height).expand(n, height)
    cols = torch.arange(width).expand(n, width)
    if augment == "flip_crop":
        rows = _shifted(n, height, generator)
        cols = _shifted(n, width, generator)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    cols = torch.where(flip, cols.flip(1), cols)
    index = torch.arange(n)[:, None, None].to(images.device)
    return images[
        index, rows[:, :, None].to(images.device), cols[:, None, :].to(images.device)
    ]
