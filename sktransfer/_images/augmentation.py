"""A batch of images mirrored, shifted, or changed by a function of the user."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from sktransfer._images.views import AS_IT_IS, View, max_shift


# By hand: torchvision's v2 transforms draw once per batch rather than once per image,
# and kornia, which draws once per image, is a large dependency for two operations.
class Placement(NamedTuple):
    """How each of n images is shown.

    Attributes
    ----------
    down, right : tensor of shape (n,), int64
        Shift in pixels; the border is reflected.

    is_mirrored : tensor of shape (n,), bool
        Whether left and right are swapped, after the shift.
    """

    down: torch.Tensor
    right: torch.Tensor
    is_mirrored: torch.Tensor

    def split(self, sizes: list[int]) -> list[Placement]:
        """Cut into one placement per batch."""
        parts = (torch.split(tensor, sizes) for tensor in self)
        return [Placement(*part) for part in zip(*parts, strict=True)]

    def take(self, at: torch.Tensor) -> Placement:
        """Return how some of the images are shown."""
        return Placement(*(tensor[at] for tensor in self))

    def to(self, device: torch.device) -> Placement:
        """Move to a device."""
        return Placement(*(tensor.to(device) for tensor in self))


def draw_views(
    n_images: int, n_views: int, generator: torch.Generator | None
) -> np.ndarray:
    """Choose a view per image at random, (n_images,) int; the first if no generator."""
    if generator is None or n_views == 1:
        return np.zeros(n_images, np.int64)
    return torch.randint(n_views, (n_images,), generator=generator).numpy()


def select_placement(views: Sequence[View], chosen: np.ndarray) -> Placement:
    """Return the placement of images from the view chosen for each."""
    down, right, is_mirrored = (
        torch.tensor(values) for values in zip(*views, strict=True)
    )
    at = torch.from_numpy(chosen)
    return Placement(down[at], right[at], is_mirrored[at])


def draw_placement(
    n_images: int,
    height: int,
    width: int,
    shifts: bool,
    generator: torch.Generator,
) -> Placement:
    """Mirror each image with probability 1/2 and, if `shifts`, shift it at random."""
    is_mirrored = torch.rand(n_images, generator=generator) < 0.5
    down = right = torch.zeros(n_images, dtype=torch.int64)
    if shifts:
        down, right = (
            torch.randint(-most, most + 1, (n_images,), generator=generator)
            for most in (max_shift(height), max_shift(width))
        )
    return Placement(down, right, is_mirrored)


def place(images: torch.Tensor, placement: Placement) -> torch.Tensor:
    """Shift and mirror each image of a batch.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width, n_channels)
        uint8 or float.

    placement : Placement
        Of the same number of images, on the same device.

    Returns
    -------
    tensor of the same shape and dtype
    """
    n, height, width, _ = images.shape
    on = images.device
    rows = _reflect(torch.arange(height, device=on) + placement.down[:, None], height)
    cols = _reflect(torch.arange(width, device=on) + placement.right[:, None], width)
    cols = torch.where(placement.is_mirrored[:, None], cols.flip(1), cols)
    index = torch.arange(n, device=on)[:, None, None]
    return images[index, rows[:, :, None], cols[:, None, :]]


def apply_views(
    images: torch.Tensor, views: Sequence[View], chosen: np.ndarray
) -> torch.Tensor:
    """Show each image of a batch in the view that was chosen for it.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width, n_channels)
        uint8 or float.

    views : sequence of View
        The views to choose from.

    chosen : ndarray of shape (n_images,), int
        Positions in `views`.

    Returns
    -------
    tensor of the same shape and dtype
    """
    if all(views[i] == AS_IT_IS for i in np.unique(chosen)):
        return images
    return place(images, select_placement(views, chosen).to(images.device))


def call_augment(augment: Callable[[Any], Any], images: torch.Tensor) -> torch.Tensor:
    """Return what a function of the user makes of a batch of images.

    Raises
    ------
    ValueError
        If it returns anything but a batch of the same dtype and number of images.
    """
    changed: Any = augment(images)
    if isinstance(changed, torch.Tensor) and changed.ndim == 4:
        (n, *_, channels), (n_wanted, *_, channels_wanted) = changed.shape, images.shape
        if changed.dtype != images.dtype:
            raise ValueError(
                f"augment returned {changed.dtype} for a batch of {images.dtype}; "
                "return the dtype of the batch, since it decides the scale."
            )
        if (n, channels) == (n_wanted, channels_wanted):
            return changed
    is_tensor = isinstance(changed, torch.Tensor)
    got = tuple(changed.shape) if is_tensor else type(changed).__name__
    raise ValueError(
        f"augment returned {got} for a batch of shape {tuple(images.shape)}; it must "
        "return a tensor of shape (n_images, height, width, n_channels) with the same "
        "number of images and channels."
    )


def _reflect(index: torch.Tensor, n: int) -> torch.Tensor:
    """Reflect positions outside ``[0, n)`` at the border."""
    index = index.abs()
    return (n - 1 - (n - 1 - index).abs()).clamp(0, n - 1)
