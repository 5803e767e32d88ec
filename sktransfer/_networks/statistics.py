"""What training images are like, a few of them at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sktransfer._images.shapes import scale_of

# Images whose mean and deviation per channel normalise all others.
N_FOR_STATISTICS = 10_000
# Pixels read at a time: 256 images of CIFAR-10.
PIXELS_AT_ONCE = 2**18
# A deviation below this share of the mean is that of a constant, summed in float64.
ROUNDING = 1e-12


def evenly_spaced(images: np.ndarray, rows: np.ndarray, most: int) -> list[np.ndarray]:
    """At most so many of the rows, evenly spaced, in parts to be read at a time."""
    few = rows[:: -(-len(rows) // most)]
    n_at_once = max(1, PIXELS_AT_ONCE // (images.shape[1] * images.shape[2]))
    return np.array_split(few, -(-len(few) // n_at_once))


def channel_statistics(
    images: np.ndarray, rows: np.ndarray
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in the unit of scaled images.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, n_channels)
        Read a few at a time.

    rows : ndarray of int
        Images that count, of which evenly spaced ones are read if they are many.

    Returns
    -------
    mean, std : list of float of length n_channels
        A deviation of zero, but for rounding, is given as 1.
    """
    parts = evenly_spaced(images, rows, N_FOR_STATISTICS)
    n_pixels = sum(map(len, parts)) * images.shape[1] * images.shape[2]

    def mean_of(function: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        sums = [
            function(images[some].astype(np.float64)).sum(axis=(0, 1, 2))
            for some in parts
        ]
        mean: np.ndarray = np.sum(sums, axis=0) / n_pixels
        return mean

    mean = mean_of(lambda part: part)
    std = np.sqrt(mean_of(lambda part: (part - mean) ** 2))
    scale = scale_of(images.dtype)
    std = np.where(std > ROUNDING * np.abs(mean), std / scale, 1.0)
    return (mean / scale).tolist(), std.tolist()
