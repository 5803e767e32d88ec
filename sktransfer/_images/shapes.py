"""Shapes and scales: which numbers of ``X`` form one image, and their range."""

from __future__ import annotations

from collections.abc import Sequence
from math import isqrt, prod
from numbers import Integral
from typing import TypeAlias

import numpy as np
from numpy.typing import DTypeLike

from sktransfer._images.streams.ahead import Images, cut_all, read_ahead

Shape: TypeAlias = tuple[int, int, int]

# No image holds larger values: those of 32 bits are smaller. The squares of much larger
# ones overflow in the network.
LARGEST = 2.0**32

# How many images, of how many pixels to a side at least, tell the order of their
# values, and how much more alike neighbours are than others.
N_TO_JUDGE, SMALLEST_TO_JUDGE, CLEARLY_LESS = 20, 8, 0.8


def row_shape(n_features: int, image_shape: Sequence[int] | None) -> Shape:
    """Return the (height, width, channels) of an image given as a row of pixels.

    Parameters
    ----------
    n_features : int
        Length of the row.

    image_shape : tuple of int or None
        (height, width, channels), where one entry may be -1 as in `numpy.reshape`.
        None infers a square grey or square RGB image, if that is exact.

    Raises
    ------
    ValueError
        If `image_shape` is malformed, does not fit, or cannot be inferred.
    """
    if image_shape is None:
        for channels in (1, 3):
            side = isqrt(n_features // channels)
            if side and channels * side * side == n_features:
                return side, side, channels
        height = next(
            (h for h in range(isqrt(n_features), 0, -1) if not n_features % h), 1
        )
        raise ValueError(
            f"image_shape=None cannot be inferred: rows of n_features={n_features} are "
            "neither a square grey nor a square RGB image. Pass (height, width, "
            f"channels), for example image_shape=({height}, {n_features // height}, 1)."
        )
    shape = check_shape(image_shape)
    known = prod(entry for entry in shape if entry != -1)
    height, width, channels = (
        n_features // known if entry == -1 else entry for entry in shape
    )
    if n_features < 1 or height * width * channels != n_features:
        raise ValueError(
            f"image_shape={image_shape!r} does not fit X, whose rows have n_features="
            f"{n_features}: height * width * channels must equal n_features."
        )
    return height, width, channels


def check_shape(image_shape: Sequence[int]) -> Shape:
    """Return `image_shape` as a tuple; raise ValueError unless it is well formed."""
    entries = tuple(image_shape) if isinstance(image_shape, (tuple, list)) else ()
    if (
        len(entries) != 3
        or not all(isinstance(e, Integral) and not isinstance(e, bool) for e in entries)
        or any(entry < 1 and entry != -1 for entry in entries)
        or entries.count(-1) > 1
    ):
        raise ValueError(
            f"image_shape={image_shape!r} must be None or three positive integers "
            "(height, width, channels), such as (32, 32, 3); one of them may be -1."
        )
    height, width, channels = (int(entry) for entry in entries)
    return height, width, channels


def array_shape(shape: tuple[int, ...], image_shape: Sequence[int] | None) -> Shape:
    """Return the (height, width, channels) of the images in an array.

    Parameters
    ----------
    shape : tuple of int
        Shape of the array: (n, n_features), (n, height, width) or
        (n, height, width, channels).

    image_shape : tuple of int or None
        As in :func:`row_shape`; with three or four dimensions it must agree.

    Raises
    ------
    ValueError
        If an array of this shape cannot hold images, or `image_shape` contradicts
        it.
    """
    if len(shape) == 2:
        return row_shape(shape[1], image_shape)
    if len(shape) not in (3, 4) or min(shape[1:]) < 1:
        raise ValueError(
            "X must have shape (n, height, width, channels), (n, height, width) or "
            f"(n, n_features), and no empty dimension; got {shape}. "
            + ("Reshape your data: X[None] for a single row." * (len(shape) == 1))
        )
    if len(shape) == 4 and shape[3] > 4 and shape[1] in (1, 3):
        raise ValueError(
            f"X of shape {shape} looks channels-first; channels must come last. Pass "
            "X.transpose(0, 2, 3, 1)."
        )
    height, width, channels = (*shape[1:], 1)[:3]
    if image_shape is not None and any(
        wanted not in (-1, found)
        for wanted, found in zip(
            check_shape(image_shape), (height, width, channels), strict=True
        )
    ):
        raise ValueError(
            f"image_shape={image_shape!r} contradicts X, whose images have shape "
            f"{(height, width, channels)}; pass image_shape=None."
        )
    return height, width, channels


def looks_channels_first(images: np.ndarray) -> bool:
    """Return whether rows that were read as RGB images hold one channel after another.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, 3)
        As rows were read; evenly spaced ones are looked at. Pixels one above the other
        are alike: they are three widths apart in a row of RGB pixels, and one in a
        row of channels.
    """
    n, height, width, n_channels = images.shape
    if n_channels != 3 or min(height, width) < SMALLEST_TO_JUDGE:
        return False
    some = images[:: -(-n // N_TO_JUDGE)].reshape(-1, height * width * 3)
    rows = some.astype(np.float32)

    def differ(distance: int) -> float:
        return float(np.abs(rows[:, distance:] - rows[:, :-distance]).mean())

    if differ(width) >= CLEARLY_LESS * differ(3 * width):
        return False
    # Of pixels, one step in three leads to the next; of channels, all steps are alike.
    steps = np.abs(np.diff(rows, axis=1))
    by_phase = [float(steps[:, phase::3].mean()) for phase in range(3)]
    return min(by_phase) > CLEARLY_LESS * max(by_phase)


def scale_of(dtype: DTypeLike) -> float:
    """Return the value of full brightness in images of a dtype.

    It never depends on the data: an almost black image must stay almost black.
    """
    kind = np.dtype(dtype)
    return {("u", 1): 255.0, ("u", 2): 65535.0}.get((kind.kind, kind.itemsize), 1.0)


def needs_rescaling(dtype: DTypeLike, max_value: float | str) -> bool:
    """Return whether images of a dtype must be divided by `max_value`, to float32.

    uint8 never: 255 is always white there. ``"auto"`` leaves all as it is.
    """
    is_auto = isinstance(max_value, str)
    return not (is_auto or dtype == np.uint8 or max_value == scale_of(dtype))


def find_range(images: Images) -> tuple[float, float]:
    """Find the lowest and the highest value of images, in units of full brightness.

    Parameters
    ----------
    images : Images of shape (n_images, height, width, n_channels)
        Of any real dtype.

    Raises
    ------
    ValueError
        If a value is larger than that of any image could be, or NaN or infinite.
    """
    if scale_of(images.dtype) != 1 or not len(images):
        return 0.0, 1.0
    parts, lows, highs = cut_all(images), [], []
    for part in read_ahead(images, parts):
        lows.append(part.min(axis=(1, 2, 3)))
        highs.append(part.max(axis=(1, 2, 3)))
    low, high = (np.concatenate(some).astype(float) for some in (lows, highs))
    bad = np.flatnonzero(~(np.isfinite(low) & np.isfinite(high)))
    if len(bad):
        raise ValueError(
            f"Input X contains NaN or infinity in {len(bad)} image(s), the first of "
            f"which is X[{bad[0]}]; leave them out, or repair them."
        )
    index = int(np.argmax(np.maximum(np.abs(low), np.abs(high))))
    value = max(low[index], high[index], key=abs)
    if abs(value) > LARGEST:
        raise ValueError(
            f"X[{index}] holds the value {value:g}, which no image has; leave the "
            "image out, or repair it."
        )
    return float(low.min()), float(high.max())
