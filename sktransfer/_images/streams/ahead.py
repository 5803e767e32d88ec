"""Images that may still have to be read: what an array and a stream have in common."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

# Bytes of images that are read ahead of those that are asked for, but two parts at
# least: one is used while the next is read.
BYTES_AHEAD, FEWEST_AHEAD = 2**26, 2
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
    start: Callable[[ThreadPoolExecutor, Any], list[Future[Any]]],
    parts: Iterable[Any],
    n_ahead: int,
    n_threads: int | None = None,
) -> Generator[list[Any]]:
    """Yield the results of part after part, of which a few are begun ahead.

    Parameters
    ----------
    start : callable
        Begins a part in a pool of threads.

    parts : iterable
        What it takes.

    n_ahead : int
        How many parts are begun before the first of them is asked for again.

    n_threads : int, default=None
        Size of the pool; None leaves it to Python.
    """
    waiting: deque[list[Future[Any]]] = deque()
    pool = ThreadPoolExecutor(n_threads)
    try:
        for part in parts:
            waiting.append(start(pool, part))
            if len(waiting) > n_ahead:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def count_ahead(images: Images, n_rows: int) -> int:
    """Count how many parts of so many rows are read ahead."""
    n_bytes = max(1, n_rows * int(np.prod(images.shape[1:])) * images.dtype.itemsize)
    return max(FEWEST_AHEAD, BYTES_AHEAD // n_bytes)


def list_rows(part: Any, n_images: int) -> NDArray[np.int64]:
    """List the rows that a slice, a mask, or an array of rows means."""
    rows: NDArray[np.int64] = np.arange(n_images)[part]
    return rows


def cut_all(images: Images, n_rows: int | None = None) -> list[slice]:
    """Cut images, or so many rows, into parts of a few values."""
    step = max(1, VALUES_AT_A_TIME // max(1, int(np.prod(images.shape[1:]))))
    n = len(images) if n_rows is None else n_rows
    return [slice(at, at + step) for at in range(0, n, step)]
