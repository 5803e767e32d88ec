"""What ``X`` holds, pictures or numbers, and which containers are refused."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image"

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def is_pictures(X: Any) -> bool:
    """Whether `X` holds paths or PIL images rather than numbers.

    Decided by the container and its first element: a list, a tuple, an array of
    shape (n,) or (n, 1), a pandas Series or a one-column DataFrame.
    """
    first: object = None
    if isinstance(X, (list, tuple)):
        first = X[0] if X else None
    elif isinstance(X, np.ndarray):
        if X.dtype.kind in "OUT" and X.size and _is_column(X.shape):
            first = X.flat[0]
    elif hasattr(X, "iloc") and X.shape[0] and _is_column(X.shape):
        first = X.iloc[0] if len(X.shape) == 1 else X.iloc[0, 0]
    return _is_picture(first)


def list_pictures(X: Any) -> list[Picture]:
    """Return the paths and PIL images of `X` as a flat list.

    Parameters
    ----------
    X : list, tuple, ndarray, Series or DataFrame
        A container for which :func:`is_pictures` is true.

    Raises
    ------
    TypeError
        If an element is neither a path nor a PIL image.
    ValueError
        If an element is a URL.
    """
    if isinstance(X, np.ndarray):
        pictures = X.ravel().tolist()
    elif hasattr(X, "iloc") and len(X.shape) == 2:
        pictures = list(X.iloc[:, 0])
    else:
        pictures = list(X)
    for index, picture in enumerate(pictures):
        if not _is_picture(picture):
            raise TypeError(
                f"X[{index}] must be a path or a PIL image, like X[0]; got "
                f"{type(picture).__name__}."
            )
        if isinstance(picture, str) and _URL.match(picture):
            raise ValueError(
                f"X[{index}] is {str(picture)!r}: URLs are not fetched. Download the "
                "file and pass its path."
            )
    return pictures


def refuse_bad_container(X: Any) -> None:
    """Raise if `X` is a single picture, or a container that cannot be used.

    Raises
    ------
    TypeError, ValueError
        With what to pass instead.
    """
    if _is_picture(X):
        raise TypeError(
            f"X is a single {type(X).__name__}; pass a list of paths or PIL images "
            "(sktransfer.datasets.load_image_folder lists the images of a folder)."
        )
    if isinstance(X, (list, tuple)):
        _refuse_bad_list(X)
    if hasattr(X, "iloc") and len(X.shape) == 2 and X.shape[0] and X.shape[1] > 1:
        _refuse_mixed_frame(X)
    # SciPy's DOK matrices are dicts with a shape; scikit-learn has its own error for
    # sparse matrices.
    if isinstance(X, (Iterator, set, frozenset, dict)) and not hasattr(X, "shape"):
        raise TypeError(f"X is a {type(X).__name__}; pass a list, such as list(X).")


def refuse_a_single_image(X: Any, y: Any) -> None:
    """Raise if `X` is one colour image; `y` shows that it is not many grey ones."""
    shape: tuple[int, ...] = getattr(X, "shape", ())
    is_one = len(shape) == 3 and shape[2] in (3, 4) and hasattr(y, "__len__")
    if is_one and not isinstance(y, str) and len(y) != shape[0]:
        raise ValueError(
            f"X of shape {shape} with {len(y)} label(s) looks like a single colour "
            "image; pass X[None]."
        )


def _refuse_bad_list(X: Sequence[Any]) -> None:
    """Raise if a list is empty, or holds file contents or arrays of several shapes."""
    if not len(X):
        raise ValueError("X is an empty list: 0 sample(s); pass at least one image.")
    if isinstance(X[0], (bytes, bytearray)):
        raise TypeError(
            "X[0] is the content of a file; pass paths or PIL images, such as "
            "Image.open(io.BytesIO(X[0]))."
        )
    shapes = [x.shape if isinstance(x, np.ndarray) else None for x in X]
    other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None:
        raise ValueError(
            f"X[{other}] has shape {shapes[other]}, but X[0] has {shapes[0]}; give all "
            "arrays the same shape, or pass paths or PIL images, which are resized."
        )


def _refuse_mixed_frame(X: Any) -> None:
    """Raise if one of several columns holds paths or PIL images."""
    for name, value in zip(X.columns, X.iloc[0], strict=True):
        if _is_picture(value):
            raise ValueError(
                f"X is a frame with {X.shape[1]} columns, of which {name!r} holds "
                f"{type(value).__name__}; pass the column of pictures alone, "
                f"X[{name!r}]."
            )


def _is_column(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def _is_picture(value: object) -> bool:
    return isinstance(value, (str, os.PathLike, Image.Image))
