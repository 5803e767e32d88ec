"""Images that may still have to be read: what an array and a stream have in common."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from sktransfer._processes.cores import count_threads

T = TypeVar("T")
P = TypeVar("P", bound=Sized)

# Bytes of images that are read ahead of those that are asked for, but two parts at
# least: one is used while the next is read.
BYTES_AHEAD, FEWEST_AHEAD = 2**26, 2
# As many bytes as the keys of activations.
HASH_BYTES = 16
# Values that are read at a time where all images are looked at.
VALUES_AT_A_TIME = 2**22


class Images(Protocol):
    """Images of one shape: an array, or something that reads them."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(n_images, height, width, n_channels)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of what indexing returns."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: Any, /) -> Any: ...


class Hashes:
    """Hashes of the images of a stream, so that they need not be read for them again.

    Parameters
    ----------
    n_images : int
        How many there are.

    Attributes
    ----------
    digests : ndarray of shape (n_images, 16), uint8
        The hashes.

    is_known : ndarray of shape (n_images,), bool
        Which of them are there.
    """

    def __init__(self, n_images: int) -> None:
        self.digests = np.zeros((n_images, HASH_BYTES), np.uint8)
        self.is_known = np.zeros(n_images, bool)


def read_ahead(images: Images, parts: Iterable[Any]) -> Iterator[NDArray[Any]]:
    """Yield ``images[part]`` for part after part; read the next ones meanwhile.

    Parameters
    ----------
    images : Images
        An array, or a stream, which has a method of this name.

    parts : iterable of slice or ndarray of int
        Which rows.

    Yields
    ------
    ndarray of shape (n_rows, height, width, n_channels)
    """
    if isinstance(images, np.ndarray):
        return (images[part] for part in parts)
    return images.read_ahead(parts)  # type: ignore[attr-defined, no-any-return]


def run_ahead(
    start: Callable[[ThreadPoolExecutor, P], list[Future[T]]],
    parts: Iterable[P],
    most_rows: int,
    n_threads: int | None = None,
) -> Generator[tuple[P, list[T]]]:
    """Yield part after part with its results; the next parts are begun meanwhile.

    Parameters
    ----------
    start : callable
        Begins a part in a pool of threads.

    parts : iterable of sized
        What it takes: rows, as a rule.

    most_rows : int
        So many are begun before the first of them is asked for again, but two parts at
        least.

    n_threads : int, default=None
        Size of the pool; ``None``: as many as this process may have.
    """
    waiting: deque[tuple[P, list[Future[T]]]] = deque()
    n_rows = 0

    def finish() -> tuple[P, list[T]]:
        part, futures = waiting.popleft()
        return part, [future.result() for future in futures]

    pool = ThreadPoolExecutor(n_threads or count_threads())
    try:
        for part in parts:
            waiting.append((part, start(pool, part)))
            n_rows += len(part)
            while len(waiting) > FEWEST_AHEAD and n_rows > most_rows:
                n_rows -= len(waiting[0][0])
                yield finish()
        while waiting:
            yield finish()
    finally:
        pool.shutdown(cancel_futures=True)


def count_ahead(images: Images) -> int:
    """Count how many images are read ahead."""
    return BYTES_AHEAD // max(1, math.prod(images.shape[1:]) * images.dtype.itemsize)


def list_rows(part: Any, n_images: int) -> NDArray[np.int64]:
    """List the rows that a slice, a mask, or an array of rows means."""
    if isinstance(part, slice):
        return np.arange(*part.indices(n_images))
    rows = np.asarray(part)
    if rows.dtype == bool:
        return np.flatnonzero(rows)
    rows = rows.astype(np.int64, copy=False)
    return np.where(rows < 0, rows + n_images, rows)


def cut_all(images: Images, n_rows: int | None = None) -> list[slice]:
    """Cut images, or so many rows, into parts of a few values."""
    step = max(1, VALUES_AT_A_TIME // max(1, math.prod(images.shape[1:])))
    n = len(images) if n_rows is None else n_rows
    return [slice(at, at + step) for at in range(0, n, step)]
