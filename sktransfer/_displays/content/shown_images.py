"""Images as they are drawn: any that estimators take, a few of them, 0 to 1."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from sktransfer._images.containers import Picture, is_pictures, list_pictures
from sktransfer._images.pictures import read_pictures, read_shape
from sktransfer._images.shapes import Shape, array_shape, scale_of

# Height or width, the greater, at which picture files are read: more is lost in a
# small panel.
SHOWN_SIZE = 224


def read_if_pictures(X: Any, image_shape: Shape) -> Any:
    """The pictures in `X` as an array of images of this shape; numbers as they are."""
    return read_pictures(list_pictures(X), image_shape) if is_pictures(X) else X


def prepare_images(
    X: Any, rows: Sequence[int] | np.ndarray, image_shape: Sequence[int] | None = None
) -> list[np.ndarray]:
    """Some images of `X`, ready for ``imshow``.

    Parameters
    ----------
    X : array-like
        Images, as estimators take them.

    rows : sequence or ndarray of int
        Which ones.

    image_shape : tuple of int, default=None
        (height, width, channels) of images that are rows of pixels. Pictures are cut to
        its proportions, as an estimator of that shape sees them.

    Returns
    -------
    list of ndarray, float32 in [0, 1]
        Of shape (height, width) where grey, else (height, width, 3).
    """
    some = _safe_indexing(X, [int(row) for row in rows])
    if not _num_samples(some):
        return []
    if is_pictures(some):
        return [
            _scale_to_unit(
                read_pictures([picture], _choose_size(picture, image_shape))
            )[0]
            for picture in list_pictures(some)
        ]
    some = np.asarray(some)
    # Three or four dimensions say the shape themselves.
    shape = array_shape(some.shape, image_shape if some.ndim == 2 else None)
    return _scale_to_unit(some.reshape(len(some), *shape))


def _choose_size(picture: Picture, image_shape: Sequence[int] | None) -> Shape:
    """Shape at which a picture is read: never enlarged, at most `SHOWN_SIZE`."""
    # One picture always has a shape in common with itself.
    height, width, channels = read_shape([picture]) or (SHOWN_SIZE, SHOWN_SIZE, 3)
    if image_shape is not None and min(image_shape) > 0:
        cut = image_shape[0] / image_shape[1]
        high, wide = min(height, width * cut), min(width, height / cut)
        channels = 1 if image_shape[2] == 1 else 3
    else:
        high, wide = float(height), float(width)
    shrink = min(1, SHOWN_SIZE / max(high, wide))
    return max(1, round(high * shrink)), max(1, round(wide * shrink)), channels


def _scale_to_unit(images: np.ndarray) -> list[np.ndarray]:
    """Images (n, height, width, channels), in [0, 1] and of one or three channels."""
    # No colour space has two channels, and an eye sees no fourth.
    n_shown = 3 if images.shape[3] >= 3 else 1
    pixels = np.asarray(images[..., :n_shown], np.float32)
    pixels = pixels / np.float32(scale_of(images.dtype))
    finite = pixels[np.isfinite(pixels)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0, 1)
    # Floats may have any scale; for the eye they are moved, all alike, so that a dark
    # image beside a bright one stays dark.
    if low < 0 or high > 1:
        low = min(low, 0)
        pixels = (pixels - low) / max(high - low, np.finfo(np.float32).tiny)
    return list(pixels[..., 0] if n_shown == 1 else pixels)
