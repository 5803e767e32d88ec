"""The images of a stream, kept once they are needed again: in memory, or in a file."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from sktransfer._images.streams.ahead import (
    Hashes,
    Images,
    cut_all,
    list_rows,
    read_ahead,
)

# Bytes of images that are kept in memory; more go to a file.
BYTES_IN_MEMORY = 2**28
# As for activations on disk.
SHARE_OF_FREE_DISK = 0.5


class Spool:
    """Images of a stream that are kept, in memory if few, or else in a file.

    What is read by the way is kept at the second time: where each image is needed once,
    as by frozen stages, nothing has to be kept. :meth:`fill` keeps all. The file has no
    name that others could find, and is gone with the process.

    Parameters
    ----------
    stream : Images
        Where they come from.

    folder : str or path-like, default=None
        Where the file is; ``None``: the system's folder for temporary files.

    max_bytes : int, default=None
        The most bytes that are kept; ``None``: half of what is free on the disk. Other
        images are read again each time.
    """

    def __init__(
        self,
        stream: Images,
        folder: str | os.PathLike[str] | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self.stream = stream
        self.shape, self.dtype = stream.shape, stream.dtype
        self.hash_files = getattr(stream, "hash_files", None)
        self.hashes: Hashes | None = getattr(stream, "hashes", None)
        self._row_bytes = max(1, math.prod(self.shape[1:]) * self.dtype.itemsize)
        # Where each image is kept: a position, or -1.
        self._places = np.full(len(stream), -1, np.int64)
        self._was_read = np.zeros(len(stream), bool)
        self._folder, self._max_bytes = folder, max_bytes
        # How many images can be kept; None before there is a place for them.
        self._room: int | None = None
        self._n_kept = 0
        self._file: IO[bytes] | None = None
        self._array: NDArray[Any] | None = None
        self._lock = threading.Lock()

    def _make_room(self) -> int:
        """Make a place for images; return for how many."""
        if self._room is not None:
            return self._room
        if len(self) * self._row_bytes <= BYTES_IN_MEMORY:
            self._array = np.empty(self.shape, self.dtype)
            return len(self)
        folder = tempfile.gettempdir() if self._folder is None else self._folder
        most = self._max_bytes
        try:
            if most is None:
                most = int(SHARE_OF_FREE_DISK * shutil.disk_usage(folder).free)
            self._file = tempfile.TemporaryFile(  # noqa: SIM115
                dir=folder, buffering=0
            )
        except OSError:  # the disk cannot be written to
            return 0
        return most // self._row_bytes

    def __len__(self) -> int:
        return len(self.stream)

    def __getitem__(self, rows: Any) -> NDArray[Any]:
        if isinstance(rows, (int, np.integer)):
            one: NDArray[Any] = self[np.array([rows])][0]
            return one
        return next(self.read_ahead([rows]))

    def keep_at_once(self) -> None:
        """From now on, keep images when they are read for the first time."""
        self._room = self._make_room()
        self._was_read[:] = True

    def fill(self, advance: Callable[[int], None]) -> None:
        """Read images until all are kept, or there is no more room.

        `advance` is called with the number of further images that were read.
        """
        self.keep_at_once()
        n = min(self._make_room(), len(self))
        parts = [slice(part.start, min(n, part.stop)) for part in cut_all(self)]
        for images in self.read_ahead(part for part in parts if part.start < n):
            advance(len(images))

    def read_ahead(self, parts: Iterable[Any]) -> Iterator[NDArray[Any]]:
        """Yield the pixels of part after part; read the next ones meanwhile."""
        listed = [list_rows(part, len(self)) for part in parts]
        is_absent = [self._places[rows] < 0 for rows in listed]
        lacking = [rows[absent] for rows, absent in zip(listed, is_absent, strict=True)]
        fresh = read_ahead(self.stream, [rows for rows in lacking if len(rows)])
        for rows, absent, unknown in zip(listed, is_absent, lacking, strict=True):
            images = np.empty((len(rows), *self.shape[1:]), self.dtype)
            if len(unknown):
                images[absent] = read = next(fresh)
                self._keep(unknown, read)
            for i in np.flatnonzero(~absent).tolist():
                self._load(int(self._places[rows[i]]), images[i])
            yield images

    def _keep(self, rows: NDArray[np.int64], images: NDArray[Any]) -> None:
        """Keep images that were read before, while there is room."""
        # A row may occur several times, and in several parts.
        rows, first = np.unique(rows, return_index=True)
        is_needed = self._was_read[rows] & (self._places[rows] < 0)
        self._was_read[rows] = True
        for row, i in zip(rows[is_needed].tolist(), first[is_needed], strict=True):
            self._room = self._make_room()
            if self._n_kept == self._room:
                return
            image, place = images[i], self._n_kept
            try:
                if self._array is not None:
                    self._array[place] = image
                elif self._file is not None:
                    self._write(self._file, place, image)
            except OSError:  # the disk is full: other programs use it, too
                self._room = self._n_kept
                return
            self._places[row] = place
            self._n_kept += 1

    def _write(self, file: IO[bytes], place: int, image: NDArray[Any]) -> None:
        """Write one image."""
        left = memoryview(np.ascontiguousarray(image).data).cast("B")
        with self._lock:
            file.seek(place * self._row_bytes)
            while len(left):
                left = left[file.write(left) :]

    def _load(self, place: int, image: NDArray[Any]) -> None:
        """Load one image into an array."""
        if self._array is not None:
            image[...] = self._array[place]
        elif self._file is not None:
            left = image.data.cast("B")
            with self._lock:
                self._file.seek(place * self._row_bytes)
                while len(left):
                    n_bytes = self._file.readinto(left)  # type: ignore[attr-defined]
                    if not n_bytes:
                        raise OSError("the file of pixels that were kept is cut off")
                    left = left[n_bytes:]
