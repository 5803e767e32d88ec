"""What a network takes from its training images before it learns."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from sktransfer._images.shapes import scale_of
from sktransfer._images.streams.ahead import Images, read_ahead

# Number of images whose mean and deviation per channel normalise all others.
N_FOR_STATISTICS = 10_000
# Pixels processed at a time: 256 images of CIFAR-10. The patches of so many pixels, in
# double precision, take some ten megabytes per channel.
PIXELS_AT_ONCE = 2**18
# Below this share of the mean, a deviation is the rounding error of a constant.
ROUNDING = 1e-12

# Added to variances, in the unit of normalised pixels, so that directions without
# variance are not blown up. Jordan (2024) uses 5e-4, for files without JPEG noise; with
# few images that is worse than no whitening (benchmarks/ablation.py).
WHITENING_EPSILON = 1e-2


def choose_evenly(images: Images, rows: np.ndarray, most: int) -> list[np.ndarray]:
    """Choose at most `most` evenly spaced rows, in parts that can be read at once."""
    few = rows[:: -(-len(rows) // most)]
    n_at_once = max(1, PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    return np.array_split(few, -(-len(few) // n_at_once))


def measure_channels(
    images: Images, rows: np.ndarray
) -> tuple[list[float], list[float]]:
    """Measure mean and standard deviation of each channel of scaled images.

    Parameters
    ----------
    images : Images of shape (n_images, height, width, n_channels)
        Read a few at a time.

    rows : ndarray of int
        Images to measure; evenly spaced ones if there are many.

    Returns
    -------
    mean, std : list of float of length n_channels
        A deviation of zero, up to rounding, is returned as 1.
    """
    parts = choose_evenly(images, rows, N_FOR_STATISTICS)
    n_pixels = sum(map(len, parts)) * images.shape[1] * images.shape[2]

    def mean_of(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        sums = [
            function(some.astype(np.float64)).sum(axis=(0, 1, 2))
            for some in read_ahead(images, parts)
        ]
        mean: np.ndarray = np.sum(sums, axis=0) / n_pixels
        return mean

    mean = mean_of(lambda part: part)
    std = np.sqrt(mean_of(lambda part: (part - mean) ** 2))
    scale = scale_of(images.dtype)
    std = np.where(std > ROUNDING * np.abs(mean), std / scale, 1.0)
    return (mean / scale).tolist(), std.tolist()


@torch.no_grad()
def make_whitening_filters(
    batches: Iterable[torch.Tensor], patch: int, n_directions: int
) -> torch.Tensor:
    """Make filters that whiten patches: principal directions scaled to variance 1.

    Parameters
    ----------
    batches : iterable of tensor of shape (n, channels, height, width), float32
        Normalised images.

    patch : int
        Height and width of a patch in pixels.

    n_directions : int
        How many directions; those with the largest variance come first.

    Returns
    -------
    tensor of shape (2 * n_directions, channels, patch, patch), float32
        Both signs of every direction.
    """
    total: Any = 0
    n_patches, n_channels = 0, 0
    for images in batches:
        _, n_channels, height, width = images.shape
        n_parts = -(-len(images) * height * width // PIXELS_AT_ONCE)
        for some in images.tensor_split(n_parts):
            patches = F.unfold(some, patch).transpose(1, 2).flatten(0, 1).double()
            total = total + patches.T @ patches
            n_patches += len(patches)
    values, vectors = torch.linalg.eigh(total / n_patches)
    directions = vectors / torch.sqrt(values.clamp(min=0) + WHITENING_EPSILON)
    filters = directions.T.flip(0)[:n_directions].float()
    filters = filters.view(-1, n_channels, patch, patch)
    return torch.cat([filters, -filters])
