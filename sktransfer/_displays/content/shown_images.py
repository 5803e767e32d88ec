"""A few images of a set, prepared for drawing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sktransfer._images.containers import Picture, is_pictures, list_pictures, unpack
from sktransfer._images.levels import DARK
from sktransfer._images.pictures.reading import (
    DEEP_WHITE,
    read_and_note,
    read_pictures,
    read_shapes,
)
from sktransfer._images.shapes import Shape, array_shape, scale_of

# Pixels of the longer side of pictures: a panel is too small to show more.
SHOWN_SIZE = 224

# A value that nothing exceeds.
MAX_WHITE = float(np.finfo(np.float32).max)


def read_if_pictures(X: Any, image_shape: Shape, options: Mapping[str, Any]) -> Any:
    """Return pictures as an array of images of this shape, and other `X` unchanged."""
    if not is_pictures(X):
        return X
    return read_pictures(list_pictures(X), image_shape, **options)


def prepare_images(
    X: Any, rows: Sequence[int] | np.ndarray, image_shape: Sequence[int] | None = None
) -> list[np.ndarray]:
    """Take some images of `X`, and prepare them for ``imshow``.

    Parameters
    ----------
    X : array-like
        Images, in any form that estimators accept.

    rows : sequence or ndarray of int
        Positions of the images in `X`.

    image_shape : tuple of int, default=None
        (height, width, channels) of images that are rows of pixels. Pictures are
        cropped to its aspect ratio, as they are for an estimator of this shape.

    Returns
    -------
    list of ndarray, float32 in [0, 1]
        Of shape (height, width) if grey, else (height, width, 3).
    """
    some = unpack(_safe_indexing(X, [int(row) for row in rows]))
    if not _num_samples(some):
        return []
    if is_pictures(some):
        return [_show_picture(p, image_shape) for p in list_pictures(some)]
    some = np.asarray(some)
    # An array of three or four dimensions has the shape of its images already.
    shape = array_shape(some.shape, image_shape if some.ndim == 2 else None)
    return _scale_to_unit(some.reshape(len(some), *shape))


def _show_picture(picture: Picture, image_shape: Sequence[int] | None) -> np.ndarray:
    """Read a picture; one that uses few of many levels is shown brighter."""
    # White is not known here, and floats have any scale.
    shape = _choose_size(picture, image_shape)
    images, found = read_and_note([picture], shape, max_value=MAX_WHITE)
    if found.brightest and not images.any():
        white = found.brightest
        if DARK * DEEP_WHITE < white <= DEEP_WHITE:
            white = DEEP_WHITE
        images = read_pictures([picture], shape, max_value=white)
    return _scale_to_unit(images)[0]


def _choose_size(picture: Picture, image_shape: Sequence[int] | None) -> Shape:
    """Choose the shape to read a picture at: not enlarged, at most `SHOWN_SIZE`."""
    height, width, channels = read_shapes([picture], MAX_WHITE).typical
    if image_shape is not None and min(image_shape) > 0:
        cut = image_shape[0] / image_shape[1]
        high, wide = min(height, width * cut), min(width, height / cut)
        channels = 1 if image_shape[2] == 1 else 3
    else:
        high, wide = float(height), float(width)
    shrink = min(1, SHOWN_SIZE / max(high, wide))
    return max(1, round(high * shrink)), max(1, round(wide * shrink)), channels


def _scale_to_unit(images: np.ndarray) -> list[np.ndarray]:
    """Scale images (n, height, width, channels) to [0, 1], with 1 or 3 channels."""
    # imshow draws one channel or three: a second or a fourth is dropped.
    n_shown = 3 if images.shape[3] >= 3 else 1
    pixels = np.asarray(images[..., :n_shown], np.float32)
    white = scale_of(images.dtype)
    if white == DEEP_WHITE and 0 < images.max() <= DARK * white:
        white = float(images.max())
    pixels = pixels / np.float32(white)
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0, 1)
    # Floats may have any scale. All images are rescaled together, so that a dark image
    # beside a bright one stays dark.
    if low < 0 or high > 1:
        low = min(low, 0)
        pixels = (pixels - low) / max(high - low, np.finfo(np.float32).tiny)
    return list(pixels[..., 0] if n_shown == 1 else pixels)
