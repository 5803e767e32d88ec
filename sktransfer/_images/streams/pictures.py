"""A stream of picture files and PIL images, decoded in threads when asked for."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import ImageFile, features

from sktransfer._images.containers import Picture
from sktransfer._images.pictures.opening import (
    MOST_NAMED,
    BadImageError,
    join_errors,
    make_error,
)
from sktransfer._images.pictures.reading import (
    Findings,
    Pixels,
    Reading,
    find_unreadable,
    map_in_threads,
    read_picture,
)
from sktransfer._images.streams.ahead import (
    Hashes,
    count_ahead,
    list_rows,
    run_ahead,
)

# Raised when a file becomes other pixels with the same versions of all libraries.
FORMAT = 1

# What decodes files, by Pillow's names.
LIBRARIES = ("jpg", "libjpeg_turbo", "zlib", "webp", "avif", "libtiff")

DIGEST_BYTES = 32


class PictureStream:
    """Pictures as images of one shape, decoded when they are asked for.

    Parameters
    ----------
    pictures : sequence of path, bytes or PIL image
        The n pictures; not copied.

    reading : Reading
        How they become pixels.

    name : str, default="X"
        What the user calls them.

    first : int, default=0
        Where in `name` the first of these is, if they are only some of them.

    Attributes
    ----------
    shape : tuple of int
        (n, height, width, n_channels).

    dtype : dtype
        uint8.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        pictures: Sequence[Picture],
        reading: Reading,
        name: str = "X",
        first: int = 0,
    ) -> None:
        reading.check()
        self.pictures, self.reading = pictures, reading
        self.name, self.first = name, first
        self.shape: tuple[int, int, int, int] = (len(pictures), *reading.shape)
        self._is_read = np.zeros(len(pictures), bool)
        # As in `Findings`.
        self._kinds = np.zeros((len(pictures), 3), bool)
        self._brightest = -np.inf
        # Size and time of files when they were first read; times of others are -1.
        self._stamps = np.full((len(pictures), 2), -1, np.int64)
        self.hashes = Hashes(len(pictures))

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        if isinstance(rows, (int, np.integer)):
            one: NDArray[np.uint8] = self[np.array([rows])][0]
            return one
        return next(self.read_ahead([rows]))

    def take(self, some: slice) -> PictureStream:
        """Return a stream of some of the pictures, of which it alone has paths."""
        start = some.indices(len(self))[0]
        return PictureStream(
            self.pictures[some], self.reading, self.name, self.first + start
        )

    def read_ahead(self, parts: Iterable[Any]) -> Iterator[NDArray[np.uint8]]:
        """Yield the pixels of part after part; decode the next ones meanwhile.

        A row that occurs several times in a part and the next is decoded once.

        Raises
        ------
        BadImageError
            If a picture cannot be read; it names all such pictures, up to a hundred.
        """
        listed = (list_rows(part, len(self)) for part in parts)
        last: dict[int, Future[Pixels]] = {}

        def begin(
            pool: ThreadPoolExecutor, rows: NDArray[np.int64]
        ) -> list[Future[Pixels]]:
            nonlocal last
            last = {
                row: last.get(row) or pool.submit(self._read, row)
                for row in np.unique(rows).tolist()
            }
            return list(last.values())

        results = run_ahead(begin, listed, count_ahead(self))
        try:
            for rows, pixels in results:
                yield self._collect(rows, pixels)
        except BadImageError as error:
            raise self._find_others(error) from error.__cause__
        finally:
            results.close()

    def _read(self, row: int) -> Pixels:
        picture = self.pictures[row]
        self._compare_stamps(row, picture)
        return read_picture(self.first + row, picture, self.reading)

    def _collect(
        self, rows: NDArray[np.int64], pixels: list[Pixels]
    ) -> NDArray[np.uint8]:
        """Put pixels into one array; note what is to be said about the pictures."""
        known = dict(zip(np.unique(rows).tolist(), pixels, strict=True))
        for row, one in known.items():
            self._kinds[row] = one.has_frames, one.is_coloured, one.is_cut_off
            self._brightest = np.fmax(self._brightest, one.brightest)
        self._is_read[rows] = True
        images = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for i, row in enumerate(rows.tolist()):
            images[i] = known[row].values
        return images

    def find_brightest(self, rows: NDArray[np.int64], enough: float) -> float | None:
        """Find the highest value of pictures with more than 8 bits, or one above this.

        `rows` are those pictures; None is returned if there are none.
        """
        for row in rows:  # not ahead: the first is enough, as a rule
            self[np.array([row])]
            if self._brightest > enough:
                break
        return self._brightest if len(rows) else None

    def get_findings(self) -> Findings:
        """Return what is to be said about the pictures that were read so far."""
        with_frames, coloured, cut_off = (
            np.flatnonzero(kind).tolist() for kind in self._kinds.T
        )
        return Findings(with_frames, coloured, cut_off, None)

    def hash_files(
        self, rows: NDArray[np.int64]
    ) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Hash the contents of files, and all else that decides their pixels.

        That takes a tenth of the time of decoding them. A file must not change once it
        was read or hashed.

        Parameters
        ----------
        rows : ndarray of shape (n,), int
            Which pictures.

        Returns
        -------
        digests : ndarray of shape (n, 32), uint8
            Zeros for PIL images.

        is_file : ndarray of shape (n,), bool
            Whether a picture is a file, or the content of one.
        """
        # Pillow reads cut files, if it is told so.
        decoding = f"{_describe_decoders()} {ImageFile.LOAD_TRUNCATED_IMAGES}"
        salt = f"{FORMAT} {decoding} {self.reading!r}".encode()

        def hash_one(_: int, row: int) -> bytes | None:
            picture, digest = self.pictures[row], hashlib.sha256(salt)
            if isinstance(picture, bytes):
                digest.update(picture)
            elif isinstance(picture, (str, os.PathLike)):
                self._compare_stamps(row, picture)
                try:
                    with open(picture, "rb") as file:
                        content = hashlib.file_digest(file, "sha256")
                except OSError as error:
                    raise make_error(self.first + row, picture, error) from error
                digest.update(content.digest())
            else:
                return None
            return digest.digest()

        digests = np.zeros((len(rows), DIGEST_BYTES), np.uint8)
        is_file = np.zeros(len(rows), bool)
        for i, digest in enumerate(map_in_threads(hash_one, rows.tolist())):
            if digest is not None:
                digests[i], is_file[i] = np.frombuffer(digest, np.uint8), True
        return digests, is_file

    def _compare_stamps(self, row: int, picture: Picture) -> None:
        """Raise if a file is not the one that was read, or hashed, before."""
        if not isinstance(picture, (str, os.PathLike)):
            return
        try:
            found = os.stat(picture)
        except (OSError, ValueError) as error:
            raise make_error(self.first + row, picture, error) from error
        stamp = found.st_size, found.st_mtime_ns
        if self._stamps[row, 1] < 0:
            self._stamps[row] = stamp
        elif tuple(self._stamps[row]) != stamp:
            reason = "its file has changed in the meantime"
            raise make_error(self.first + row, picture, reason)

    def _find_others(self, error: BadImageError) -> BadImageError:
        """Add the other pictures that cannot be read to an error."""
        self._is_read[[index - self.first for index in error.indices]] = True
        rows = np.flatnonzero(~self._is_read).tolist()
        white, most = self.reading.max_value, MOST_NAMED - 1
        others = find_unreadable(self.pictures, rows, white, most, first=self.first)
        joined = join_errors([error, *others], len(self))
        if self.name == "X":
            return joined
        return BadImageError(f"{self.name}: {joined}", joined.indices)


@cache
def _describe_decoders() -> str:
    """Name the versions that decide the pixels of files."""
    versions = {"Pillow": PIL.__version__}
    versions |= {name: str(features.version(name)) for name in LIBRARIES}
    with suppress(PackageNotFoundError):
        versions["pillow-heif"] = version("pillow-heif")
    return repr(versions)
