"""Opening a picture: what is refused before its pixels are decoded, and how."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from typing import TYPE_CHECKING, NamedTuple

from PIL import Image

from sktransfer._images.pictures.decoding import (
    is_deep,
    is_grey,
    loses_bits,
    read_orientation,
)
from sktransfer._images.pictures.formats import DECODE_ERRORS, open_picture

if TYPE_CHECKING:
    from sktransfer._images.containers import Picture

# The largest picture, in pixels, unless the user tells Pillow of another limit.
MAX_PIXELS = 200_000_000

_REMEDY = "Scale it down, or set PIL.Image.MAX_IMAGE_PIXELS to a larger number."

# Of bad images, so many are named.
MOST_NAMED = 100

# The same image object may be listed twice, and Pillow loads it without a lock.
_pillow_lock = threading.Lock()

# Pillow's limit, if nobody has set another: 256 MiB of three bytes each.
_PILLOWS_OWN = 2**30 // 4 // 3


class BadImageError(ValueError):
    """Pictures that cannot be read, named with the reasons.

    Parameters
    ----------
    message : str
        What is told to the user.

    indices : list of int
        Their positions in ``X``; the first hundred.
    """

    __module__ = "sktransfer.datasets"

    def __init__(self, message: str, indices: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.indices = list(indices)

    def __reduce__(self) -> tuple[type, tuple[str, list[int]]]:
        return type(self), (str(self), self.indices)


class Header(NamedTuple):
    """What the header of a picture tells.

    Attributes
    ----------
    height, width : int
        Of the upright picture, in pixels.

    is_grey : bool
        Whether its pixels are grey.

    is_deep : bool
        Whether its pixels have more than 8 bits.
    """

    height: int
    width: int
    is_grey: bool
    is_deep: bool


class _PillowLimit:
    """Lets Pillow open what is allowed here, while any thread is inside.

    Pillow warns of pictures above its limit, and refuses those above twice as much.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._before: int | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._n_inside += 1
            if self._n_inside == 1:
                self._before = Image.MAX_IMAGE_PIXELS
                if self._before == _PILLOWS_OWN:
                    Image.MAX_IMAGE_PIXELS = MAX_PIXELS

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0:
                Image.MAX_IMAGE_PIXELS = self._before


_pillow_limit = _PillowLimit()


def describe_picture(picture: Picture) -> str:
    """Return the path of a file, or what else there is to say."""
    if isinstance(picture, Image.Image):
        return repr(picture)
    if isinstance(picture, bytes):
        return f"{len(picture):,} bytes"
    return repr(str(os.fsdecode(picture)))


def make_error(index: int, picture: Picture, reason: object) -> BadImageError:
    """Make the error of one picture."""
    return BadImageError(
        f"image {index} ({describe_picture(picture)}) could not be read: {reason}",
        [index],
    )


def join_errors(errors: Sequence[BadImageError], n_pictures: int) -> BadImageError:
    """Make one error of many, of which the first hundred are named."""
    if len(errors) == 1:
        return errors[0]
    number = len(errors) if len(errors) < MOST_NAMED else f"at least {MOST_NAMED}"
    told, indices = list_errors(errors)
    return BadImageError(
        f"{number} of {n_pictures} images could not be read:\n{told}", indices
    )


def list_errors(errors: Sequence[BadImageError]) -> tuple[str, list[int]]:
    """List errors in lines, by position and up to a hundred; return positions, too."""
    shown = sorted(errors, key=lambda error: error.indices)[:MOST_NAMED]
    told = "\n".join(f"  {error}" for error in shown)
    return told, [index for error in shown for index in error.indices]


def check_files(pictures: Sequence[Picture], first: int = 0) -> None:
    """Refuse missing files, and what reading could block on, such as a pipe.

    `first` is the position of the first of these pictures.

    Raises
    ------
    FileNotFoundError
        If files are missing.
    BadImageError
        If a path cannot be one, or is not that of a regular file.
    """
    missing = []
    # Others are fetched one by one, which may take as long as reading them.
    known = pictures if isinstance(pictures, list) else ()
    for index, picture in enumerate(known, first):
        if isinstance(picture, (bytes, Image.Image)):
            continue
        try:
            mode = os.stat(picture).st_mode
        except FileNotFoundError:
            missing.append(describe_picture(picture))
        except (OSError, ValueError) as error:
            raise make_error(index, picture, error) from error
        else:
            if not stat.S_ISREG(mode):
                raise make_error(index, picture, "it is not a regular file")
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"{len(missing)} of {len(pictures)} image files do not exist: {shown}. "
            f"Relative paths start from {os.getcwd()!r}."
        )


@contextmanager
def open_and_check(
    index: int, picture: Picture, max_value: float | str
) -> Iterator[Image.Image]:
    """Open one picture and check its header; every failure is a BadImageError.

    `max_value` is that of :func:`read_and_note`.
    """
    try:
        with _pillow_limit:
            if isinstance(picture, Image.Image):
                with _pillow_lock:
                    _check_header(picture, max_value)
                    yield picture
            else:
                file = BytesIO(picture) if isinstance(picture, bytes) else picture
                with open_picture(file) as image:
                    _check_header(image, max_value)
                    yield image
    except Image.DecompressionBombError as error:
        raise make_error(index, picture, f"{error} {_REMEDY}") from error
    except MemoryError as error:  # a damaged PNG may ask for 4 GB at its end
        reason = "memory does not suffice for it"
        raise make_error(index, picture, reason) from error
    except DECODE_ERRORS as error:
        raise make_error(index, picture, error) from error


def _check_header(image: Image.Image, max_value: float | str) -> None:
    width, height = image.size
    most = Image.MAX_IMAGE_PIXELS
    if width * height < 1 or (most is not None and width * height > most):
        raise ValueError(
            f"it has {width} x {height} = {width * height:,} pixels; between 1 and "
            f"{most or MAX_PIXELS:,} are allowed. {_REMEDY}"
        )
    if image.mode == "F" and isinstance(max_value, str):
        raise ValueError(
            "its pixels are floats (mode 'F'); pass the value of white as max_value, "
            "or convert it to 8 bits."
        )


def read_header(index: int, picture: Picture, max_value: float | str) -> Header:
    """Read what the header of a picture tells."""
    with open_and_check(index, picture, max_value) as image:
        width, height = image.size
        if read_orientation(image) >= 5:
            width, height = height, width
        return Header(
            height, width, is_grey(image), is_deep(image) or loses_bits(image)
        )
