"""Images of other libraries, which are read when asked for: LazyImages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sktransfer._images.shapes import Shape, needs_rescaling
from sktransfer._images.streams.ahead import (
    Hashes,
    count_ahead,
    list_rows,
    run_ahead,
)


class LazyImages:
    """Images that stay where they are until they are needed, for fits and searches.

    Indexing with several positions, as cross-validation does, reads nothing: it returns
    the same kind of object for fewer images.

    Parameters
    ----------
    source : array-like or sequence of n images
        An array that is not in memory, such as a memory map, or an array of HDF5 or
        Zarr, of shape (n, height, width, n_channels), (n, height, width) or
        (n, n_pixels). Or a dataset whose ``source[i]`` is a picture: a PIL image, an
        array of shape (height, width) or (height, width, n_channels), a path, or a
        tuple or mapping that holds one.

    column : int or str, default=None
        Where in ``source[i]`` the picture is: 0 in the sets of torchvision, the name of
        a column in those of Hugging Face. ``None``: it is the picture.

    Attributes
    ----------
    shape : tuple of int
        That of the array; (n,) for pictures.

    dtype : dtype
        That of the array; object for pictures.

    Raises
    ------
    TypeError
        If `source` has no length, or cannot be indexed by position.

    Notes
    -----
    Jobs in several processes, as of a search with `n_jobs`, need a source that can be
    pickled; files of HDF5 cannot. Datasets are read by one thread at a time.

    Examples
    --------
    >>> import numpy as np
    >>> from sktransfer.datasets import LazyImages
    >>> X = LazyImages(np.zeros((10, 32, 32, 3), np.uint8))
    >>> X[[0, 2, 4]].shape
    (3, 32, 32, 3)
    """

    __module__ = "sktransfer.datasets"

    def __init__(self, source: Any, column: int | str | None = None) -> None:
        has_length = hasattr(source, "shape") or hasattr(source, "__len__")
        if hasattr(source, "iloc") and len(source.shape) == 1:
            source = source.to_numpy()  # a series is indexed by its labels
        is_table = hasattr(source, "iloc") or isinstance(source, Mapping)
        if is_table or not has_length or not hasattr(source, "__getitem__"):
            raise TypeError(
                f"source is a {type(source).__name__}, which cannot be indexed by "
                "position; pass a list of its images."
            )
        self.source, self.column = source, column
        # Arrays of Zarr have a shape and no length.
        n = source.shape[0] if hasattr(source, "shape") else len(source)
        self._rows = np.arange(n)

    def __len__(self) -> int:
        return len(self._rows)

    def __repr__(self) -> str:
        return f"LazyImages(<{len(self)} images of {type(self.source).__name__}>)"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of all images, or (n,)."""
        own = getattr(self.source, "shape", ())
        return (len(self), *own[1:]) if self.column is None else (len(self),)

    @property
    def ndim(self) -> int:
        """Length of `shape`."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the numbers, or object."""
        return np.dtype(self.source.dtype if self.ndim > 1 else object)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, tuple):  # X[rows, ...], as scikit-learn writes
            if len(key) != 2 or key[1] is not Ellipsis:
                raise IndexError("LazyImages take positions of images and no more.")
            key = key[0]
        if not isinstance(key, (int, np.integer)):
            some = LazyImages.__new__(LazyImages)
            some.source, some.column = self.source, self.column
            some._rows = self._rows[key]
            return some
        image = self.source[int(self._rows[key])]
        return image if self.column is None else image[self.column]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if self.ndim > 1:
            return self.read(np.arange(len(self))).astype(dtype or self.dtype)
        images = np.empty(len(self), object)
        images[:] = [self[i] for i in range(len(self))]
        return images

    def read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Read images of an array.

        Parameters
        ----------
        rows : ndarray of shape (n_rows,), int
            Which images, in any order.

        Returns
        -------
        ndarray of shape (n_rows, ...)
            Numbers as the source holds them.
        """
        # HDF5 takes rows in ascending order only, and slices are faster everywhere.
        ordered, back = np.unique(self._rows[rows], return_inverse=True)
        breaks = np.flatnonzero(np.diff(ordered) != 1) + 1
        runs = [run for run in np.split(ordered, breaks) if len(run)]
        parts = [np.asarray(self.source[run[0] : run[-1] + 1]) for run in runs]
        if not parts:
            return np.empty((0, *self.shape[1:]), self.dtype)
        read: NDArray[Any] = np.concatenate(parts)[back]
        return read


class ArrayStream:
    """Images of an array that is not in memory, read when they are asked for.

    Parameters
    ----------
    images : LazyImages
        Of an array.

    image_shape : tuple of int
        Height, width and channels of an image.

    max_value : float or "auto", default="auto"
        The value that becomes 1, except in uint8; ``"auto"``: leave all as it is.
    """

    def __init__(
        self, images: LazyImages, image_shape: Shape, max_value: float | str = "auto"
    ) -> None:
        self.images, self.max_value = images, max_value
        self.shape: tuple[int, int, int, int] = (len(images), *image_shape)
        self._is_rescaled = needs_rescaling(images.dtype, max_value)
        self.dtype = np.dtype(np.float32) if self._is_rescaled else images.dtype
        self.hashes = Hashes(len(images))

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, (int, np.integer)):
            one: NDArray[Any] = self[np.array([rows])][0]
            return one
        return self._read(list_rows(rows, len(self)))

    def read_ahead(self, parts: Iterable[Any]) -> Iterator[NDArray[Any]]:
        """Yield the pixels of part after part; read the next ones meanwhile."""
        listed = (list_rows(part, len(self)) for part in parts)
        # One thread: few of these libraries can read in several.
        results = run_ahead(self._begin, listed, count_ahead(self), n_threads=1)
        with closing(results):
            for _, (images,) in results:
                yield images

    def _begin(
        self, pool: ThreadPoolExecutor, rows: NDArray[np.int64]
    ) -> list[Future[NDArray[Any]]]:
        return [pool.submit(self._read, rows)]

    def _read(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        images = self.images.read(rows).reshape(len(rows), *self.shape[1:])
        if not self._is_rescaled:
            return images
        scaled: NDArray[Any] = (images / np.float64(self.max_value)).astype(np.float32)
        return scaled
