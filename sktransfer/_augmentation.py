"""Flips and shifts of a batch of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from sktransfer._views import AS_IT_IS, Augment, View, most_shift, views_of


def _reflect(index: torch.Tensor, n: int) -> torch.Tensor:
    """Fold positions outside ``[0, n)`` back at the borders."""
    index = index.abs()
    return (n - 1 - (n - 1 - index).abs()).clamp(0, n - 1)


def _shifted(n_images: int, n: int, generator: torch.Generator) -> torch.Tensor:
    """Pixel positions of each image after a random shift: (n_images, n)."""
    most = most_shift(n)
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


def _moved(
    images: torch.Tensor, rows: torch.Tensor, cols: torch.Tensor
) -> torch.Tensor:
    """Put together each image from pixel positions, (n, height) and (n, width)."""
    index = torch.arange(len(images))[:, None, None].to(images.device)
    return images[
        index, rows[:, :, None].to(images.device), cols[:, None, :].to(images.device)
    ]


def draw_views(
    n_images: int, n_views: int, generator: torch.Generator | None
) -> np.ndarray:
    """A view for each image by lot, (n_images,) int; the first without a generator."""
    if generator is None or n_views == 1:
        return np.zeros(n_images, np.int64)
    return torch.randint(n_views, (n_images,), generator=generator).numpy()


def apply_views(
    images: torch.Tensor, views: Sequence[View], chosen: np.ndarray
) -> torch.Tensor:
    """Show each image of a batch in the view that was chosen for it.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width, n_channels)
        uint8 or float.

    views : sequence of View
        What may be chosen.

    chosen : ndarray of shape (n_images,), int
        Positions in `views`.

    Returns
    -------
    tensor of the same shape and dtype
    """
    if all(views[i] == AS_IT_IS for i in np.unique(chosen)):
        return images
    _, height, width, _ = images.shape
    rows = torch.stack([_reflect(torch.arange(height) + v.down, height) for v in views])
    cols = torch.stack([_reflect(torch.arange(width) + v.right, width) for v in views])
    mirrored = torch.tensor([[v.is_mirrored] for v in views])
    cols = torch.where(mirrored, cols.flip(1), cols)
    at = torch.from_numpy(chosen)
    return _moved(images, rows[at], cols[at])


def augment_batch(
    images: torch.Tensor, augment: Augment, generator: torch.Generator
) -> torch.Tensor:
    """Change each image of a batch at random.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width, n_channels)
        uint8 or float.

    augment : {"flip", "flip_crop"}, DrawnViews, callable or None
        ``"flip"`` mirrors half of the images left to right; ``"flip_crop"`` also
        shifts them by up to an eighth of their size, the border reflected;
        :class:`DrawnViews` takes one of its views of each; a callable maps the batch
        to a batch.

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
    n, height, width, _ = images.shape
    views = views_of(augment, height, width)
    if views is not None:
        return apply_views(images, views, draw_views(n, len(views), generator))
    if callable(augment):
        return _checked(augment(images), images)
    rows = _shifted(n, height, generator)
    cols = _shifted(n, width, generator)
    flip = torch.rand(n, 1, generator=generator) < 0.5
    return _moved(images, rows, torch.where(flip, cols.flip(1), cols))
