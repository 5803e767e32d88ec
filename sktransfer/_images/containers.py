"""What ``X`` holds, pictures or numbers, and which containers are refused."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
from PIL import Image

from sktransfer._images.pictures.formats import DECODE_ERRORS
from sktransfer._images.pictures.opening import BadImageError
from sktransfer._images.streams.lazy import LazyImages

# A path, the content of a file, or an image.
Picture: TypeAlias = "str | os.PathLike[str] | bytes | Image.Image"

# Libraries whose arrays are files.
STORES = ("h5py", "zarr", "tables")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)


def unpack(X: Any) -> Any:
    """Return images of other libraries in containers that are known here.

    Tensors of torch become arrays, and arrays in a list, a series or an array of
    objects become one array. Arrays of HDF5 and Zarr, and columns of pictures of a
    Hugging Face dataset, are read when needed. All else is returned unchanged.

    Raises
    ------
    ValueError
        If the channels of tensors do not come last, or arrays differ in shape.
    """
    if _comes_from(X, "datasets") and not hasattr(X, "column_names"):
        return LazyImages(X) if len(X) and _is_picture(X[0]) else list(X)
    if any(_comes_from(X, store) for store in STORES) and hasattr(X, "shape"):
        return LazyImages(X)
    if _comes_from(X, "torch") and hasattr(X, "detach"):
        return _to_array(X)
    is_series = hasattr(X, "iloc") and len(X.shape) == 1
    is_vector = isinstance(X, np.ndarray) and X.ndim == 1
    if not (isinstance(X, (list, tuple)) or is_series or is_vector) or not len(X):
        return X
    first = X.iloc[0] if is_series else X[0]
    if _comes_from(first, "torch") and hasattr(first, "detach"):
        return _stack([_to_array(x, in_batch=False) for x in X])
    if isinstance(first, np.ndarray) and not isinstance(X, (list, tuple)):
        return _stack(list(X))
    return X


def _comes_from(X: Any, library: str) -> bool:
    """Return whether an object is of a library, without importing it."""
    return type(X).__module__.split(".")[0] == library


def _to_array(tensor: Any, in_batch: bool = True) -> np.ndarray:
    """Turn a tensor into an array."""
    shape = tuple(tensor.shape)
    sides = shape if in_batch else (1, *shape)
    if len(sides) == 4 and sides[1] in (1, 3) and sides[3] not in (1, 3):
        order = "(0, 2, 3, 1)" if in_batch else "(1, 2, 0)"
        raise ValueError(
            f"a tensor of shape {shape} in X is channels-first, but channels must come "
            f"last; pass tensor.permute{order}."
        )
    array: np.ndarray = tensor.detach().cpu().numpy()
    return array


def _stack(arrays: list[np.ndarray]) -> np.ndarray:
    """Make one array of arrays of one shape."""
    _refuse_bad_list(arrays)
    return np.stack(arrays)


def as_pictures(X: Any, shape: tuple[int, ...]) -> Any:
    """Return images in an array as PIL images, unless they have a shape already.

    Other than uint8 images, grey or RGB, `X` is returned unchanged.
    """
    is_array = isinstance(X, (np.ndarray, LazyImages)) and X.ndim in (3, 4)
    own = (*X.shape[1:], 1)[:3] if is_array and X.dtype == np.uint8 else None
    if own is None or own[2] not in (1, 3) or own == shape:
        return X
    if isinstance(X, LazyImages):
        return LazyPictures(X)
    return [Image.fromarray(x[..., 0] if own[2] == 1 and x.ndim == 3 else x) for x in X]


def is_pictures(X: Any) -> bool:
    """Whether `X` holds paths or PIL images rather than numbers.

    Decided by the container and its first element that is not missing: a list, a tuple,
    an array of shape (n,) or (n, 1), a pandas Series or a one-column DataFrame.
    """
    elements: Iterable[object] = ()
    if isinstance(X, (LazyImages, LazyPictures)):
        return isinstance(X, LazyPictures) or X.ndim == 1
    if isinstance(X, (list, tuple)):
        elements = X
    elif isinstance(X, np.ndarray):
        if X.dtype.kind in "OUT" and X.size and _is_column(X.shape):
            elements = X.flat
    elif hasattr(X, "iloc") and X.shape[0] and _is_column(X.shape):
        column = X if len(X.shape) == 1 else X.iloc[:, 0]
        elements = column if column.dtype.kind not in "biufc" else ()
    return _is_picture(next((x for x in elements if not is_missing(x)), None))


class LazyPictures(Sequence[Picture]):
    """Pictures of :class:`LazyImages`, each of which is fetched when it is needed.

    Parameters
    ----------
    images : LazyImages
        Of pictures.

    first : int, default=0
        What errors call the first of them.
    """

    def __init__(self, images: LazyImages, first: int = 0) -> None:
        self.images, self.first = images, first
        # Few datasets can be read by several threads: they share a file.
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.images)

    def __reduce__(self) -> tuple[type, tuple[LazyImages, int]]:
        return type(self), (self.images, self.first)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start = index.indices(len(self))[0]
            return type(self)(self.images[index], self.first + start)
        named = self.first + int(index)
        try:
            with self._lock:
                image = self.images[index]
        except IndexError:
            raise
        except DECODE_ERRORS as error:
            reason = f"{type(error).__name__}: {error}"
            message = f"image {named} could not be read from its dataset: {reason}"
            raise BadImageError(message, [named]) from error
        if isinstance(image, (tuple, list)) or (
            isinstance(image, dict) and not _is_picture(image)
        ):
            raise TypeError(
                f"X[{named}] is a {type(image).__name__}; name the picture in it, such "
                "as LazyImages(source, column=0) or column='image'."
            )
        if _comes_from(image, "torch"):
            image = _to_array(image, in_batch=False)
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8:
                raise TypeError(
                    f"X[{named}] holds {image.dtype}, but arrays of different shapes "
                    "must be uint8; pass them so, or an array of all."
                )
            image = Image.fromarray(image[..., 0] if image.shape[2:] == (1,) else image)
        return _check_picture(named, image)


def list_pictures(X: Any) -> Sequence[Picture]:
    """Return the pictures of `X` as a flat sequence.

    Parameters
    ----------
    X : list, tuple, ndarray, Series, DataFrame or LazyImages
        A container for which :func:`is_pictures` is true. Mappings with "path" and
        "bytes", as of Hugging Face, become paths, or bytes if there are some.

    Raises
    ------
    TypeError
        If an element is neither a path nor a PIL image.
    ValueError
        If an element is missing or a URL.
    """
    if isinstance(X, (LazyImages, LazyPictures)):
        return X if isinstance(X, LazyPictures) else LazyPictures(X)
    if isinstance(X, np.ndarray):
        pictures = X.ravel().tolist()
    elif hasattr(X, "iloc") and len(X.shape) == 2:
        pictures = list(X.iloc[:, 0])
    else:
        pictures = list(X)
    for index, picture in enumerate(pictures):
        pictures[index] = _check_picture(index, picture)
    return pictures


def _check_picture(index: int, picture: Any) -> Picture:
    """Return a picture, or what a record of Hugging Face's holds of it."""
    if is_missing(picture):
        raise ValueError(
            f"X[{index}] is missing ({picture!r}); leave out what has no image."
        )
    if not _is_picture(picture):
        raise TypeError(
            f"X[{index}] must be a path or a PIL image, like the others; got "
            f"{type(picture).__name__}."
        )
    if isinstance(picture, Mapping):
        content = picture["bytes"]
        picture = str(picture["path"]) if content is None else bytes(content)
    if isinstance(picture, str) and _URL.match(picture):
        raise ValueError(
            f"X[{index}] is {str(picture)!r}: URLs are not fetched. Download the file "
            "and pass its path."
        )
    checked: Picture = picture
    return checked


def is_missing(value: object) -> bool:
    """Return whether an element is None, NaN or pandas' NA."""
    is_nan = isinstance(value, float) and value != value
    return value is None or is_nan or type(value).__name__ in ("NAType", "NaTType")


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
    if not hasattr(X, "shape"):
        _refuse_dataset(X)


def _refuse_dataset(X: Any) -> None:
    """Raise if `X` gives images with their labels, as sets of other libraries do."""
    found = f"X is a {type(X).__name__}, which gives images with their labels"
    if hasattr(X, "column_names") and hasattr(X, "features"):
        names = ", ".join(map(repr, X.column_names))
        raise TypeError(
            f"{found}; pass one of its columns ({names}), such as X['image'], and the "
            "labels, such as X['label'], as y."
        )
    if hasattr(X, "dataset") and hasattr(X, "batch_size"):
        raise TypeError(
            f"{found} in batches; pass all images and labels of its dataset at once."
        )
    if hasattr(X, "samples") and hasattr(X, "targets"):
        raise TypeError(
            f"{found}; pass [path for path, _ in X.samples], and X.targets as y."
        )
    is_map = hasattr(X, "__getitem__") and hasattr(X, "__len__")
    if is_map and (hasattr(X, "transform") or _comes_from(X, "torch")):
        raise TypeError(
            f"{found}; pass sktransfer.datasets.LazyImages(X, column=0), without a "
            "transform to tensors, and [label for _, label in X] as y."
        )


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
    # SciPy's DOK arrays are dicts that cannot be iterated over.
    if isinstance(value, dict) and not hasattr(value, "shape"):
        return set(value) == {"bytes", "path"}
    return isinstance(value, (str, os.PathLike, Image.Image))
