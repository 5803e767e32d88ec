"""Picture files and PIL images, decoded into one uint8 array."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sktransfer._images.containers import Picture
from sktransfer._images.pictures.decoding import (
    GREY,
    decode,
    find_brightest,
    has_frames,
    is_coloured,
    is_cut_off,
    is_deep,
    is_grey,
    loses_bits,
    read_orientation,
    resize_picture,
)
from sktransfer._images.pictures.formats import DECODE_ERRORS, open_picture
from sktransfer._images.shapes import Shape

T = TypeVar("T")

MAX_PIXELS = 50_000_000

# White of pictures with more than 8 bits, unless the user says another.
DEEP_WHITE = 65535.0

# The same image object may be listed twice, and Pillow loads it without a lock.
_pillow_lock = threading.Lock()


class PictureShapes(NamedTuple):
    """Shapes (height, width, channels) of pictures after EXIF rotation.

    They have 1 channel if every picture is grey and 3 otherwise.

    Attributes
    ----------
    common : tuple of int or None
        The shape that all of them share; None if their sizes differ.

    typical : tuple of int
        Median height and median width.
    """

    common: Shape | None
    typical: Shape


def read_shapes(
    pictures: Sequence[Picture], max_value: float | str = "auto"
) -> PictureShapes:
    """Read the shapes of pictures, from their headers alone.

    `max_value` is that of :func:`read_and_note`.

    Raises
    ------
    FileNotFoundError
        If files are missing.
    ValueError
        If a picture cannot be read, is not a regular file, holds floats without
        `max_value`, or has more than 50,000,000 pixels.
    """
    _check_files(pictures)
    headers = _map_in_threads(partial(_read_header, max_value), pictures)
    channels = 1 if all(grey for _, _, grey in headers) else 3
    sizes = np.array([header[:2] for header in headers])
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    typical = (height, width, channels)
    return PictureShapes(None if np.ptp(sizes, axis=0).any() else typical, typical)


def read_shape(pictures: Sequence[Picture]) -> Shape | None:
    """Read the shape that all pictures share, as :func:`read_shapes` does."""
    return read_shapes(pictures).common


class Findings(NamedTuple):
    """What is to be said about pictures, which are given by their indices.

    Attributes
    ----------
    with_frames : list of int
        They have several frames or pages, of which the first is used.

    coloured : list of int
        They show colours, but are read in grey.

    cut_off : list of int
        The lowest part of them is grey, as if data were missing.

    brightest : float or None
        The highest value of those with more than 8 bits; None if there are none.
    """

    with_frames: list[int]
    coloured: list[int]
    cut_off: list[int]
    brightest: float | None


def read_pictures(
    pictures: Sequence[Picture],
    shape: Shape,
    resize: str = "crop",
    interpolation: str = "bilinear",
    fill: Sequence[float] = GREY,
    max_value: float | str = "auto",
) -> NDArray[np.uint8]:
    """Decode pictures, as :func:`read_and_note` does, and note nothing."""
    return read_and_note(pictures, shape, resize, interpolation, fill, max_value)[0]


def read_and_note(
    pictures: Sequence[Picture],
    shape: Shape,
    resize: str = "crop",
    interpolation: str = "bilinear",
    fill: Sequence[float] = GREY,
    max_value: float | str = "auto",
) -> tuple[NDArray[np.uint8], Findings]:
    """Decode pictures into one array: upright, opaque and all of one size.

    EXIF rotation is applied (for a PNG, only if the tag comes before the pixels).
    Transparent pixels are blended with white, more than 8 bits are scaled to 8, and
    only the first frame of an animation is read. A picture of another size is scaled,
    with antialiasing.

    Parameters
    ----------
    pictures : sequence of path or PIL image
        The n pictures.

    shape : tuple of int
        (height, width, channels), with 1 (grey) or 3 (RGB) channels.

    resize, interpolation, fill
        As for :func:`resize_picture`.

    max_value : float or "auto", default="auto"
        The value of white in pictures with more than 8 bits. ``"auto"``: 65,535.

    Returns
    -------
    images : ndarray of shape (n, height, width, channels), dtype uint8
        Values in [0, 255].

    findings : Findings
        What is to be said about the pictures.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`read_shapes`, and if `shape` has neither 1 nor 3 channels.
    """
    if shape[2] not in (1, 3):
        raise ValueError(
            f"image_shape={shape!r}: pictures are read with 1 (grey) or 3 (RGB) "
            "channels; the last entry of image_shape must be 1 or 3."
        )
    _check_files(pictures)
    images = np.empty((len(pictures), *shape), dtype=np.uint8)

    white = DEEP_WHITE if isinstance(max_value, str) else max_value

    def read(index: int, picture: Picture) -> tuple[bool, bool, bool, float]:
        with open_and_check(index, picture, max_value) as image:
            is_halved, brightest = loses_bits(image), np.nan
            if is_halved and white < DEEP_WHITE:
                raise ValueError(
                    f"of its 16 bits per channel only 8 can be read, too few with "
                    f"max_value={max_value:g}; convert it to 8 bits."
                )
            upright = decode(image, shape[2], white)
            if is_halved:
                brightest = DEEP_WHITE / 255 * float(np.asarray(upright).max())
            elif is_deep(image):
                brightest = find_brightest(image)
            pixels = resize_picture(upright, shape[:2], resize, interpolation, fill)
            images[index] = pixels.reshape(shape)
            loses_colours = shape[2] == 1 and is_coloured(image)
            return has_frames(image), loses_colours, is_cut_off(image), brightest

    found = np.array(_map_in_threads(read, pictures)).reshape(-1, 4).T
    with_frames, coloured, cut_off = (np.flatnonzero(k).tolist() for k in found[:3])
    deep = found[3][~np.isnan(found[3])]
    brightest = float(deep.max()) if len(deep) else None
    return images, Findings(with_frames, coloured, cut_off, brightest)


def _map_in_threads(
    function: Callable[[int, Picture], T], pictures: Sequence[Picture]
) -> list[T]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, range(len(pictures)), pictures))


def _check_files(pictures: Sequence[Picture]) -> None:
    """Refuse missing files, and what reading could block on, such as a pipe."""
    missing = []
    for index, picture in enumerate(pictures):
        if isinstance(picture, Image.Image):
            continue
        try:
            mode = os.stat(picture).st_mode
        except FileNotFoundError:
            missing.append(describe_picture(picture))
        except (OSError, ValueError) as error:
            raise _make_error(index, picture, error) from error
        else:
            if not stat.S_ISREG(mode):
                raise _make_error(index, picture, "it is not a regular file")
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"{len(missing)} of {len(pictures)} image files do not exist: {shown}. "
            f"Relative paths start from {os.getcwd()!r}."
        )


def describe_picture(picture: Picture) -> str:
    """Return the path of a file, or the repr of a PIL image."""
    if isinstance(picture, Image.Image):
        return repr(picture)
    return repr(str(os.fsdecode(picture)))


def _make_error(index: int, picture: Picture, reason: object) -> ValueError:
    return ValueError(
        f"image {index} ({describe_picture(picture)}) could not be read: {reason}"
    )


@contextmanager
def open_and_check(
    index: int, picture: Picture, max_value: float | str
) -> Iterator[Image.Image]:
    """Open one picture and check its header; every failure is a ValueError.

    `max_value` is that of :func:`read_and_note`.
    """
    try:
        if isinstance(picture, Image.Image):
            with _pillow_lock:
                _check_header(picture, max_value)
                yield picture
        else:
            with open_picture(picture) as image:
                _check_header(image, max_value)
                yield image
    except DECODE_ERRORS as error:
        raise _make_error(index, picture, error) from error


def _check_header(image: Image.Image, max_value: float | str) -> None:
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(
            f"it has {width} x {height} = {width * height:,} pixels; between 1 and "
            f"{MAX_PIXELS:,} are allowed. Scale it down."
        )
    if image.mode == "F" and isinstance(max_value, str):
        raise ValueError(
            "its pixels are floats (mode 'F'); pass the value of white as max_value, "
            "or convert it to 8 bits."
        )


def _read_header(
    max_value: float | str, index: int, picture: Picture
) -> tuple[int, int, bool]:
    """Read the height and width of the upright picture, and whether it is grey."""
    with open_and_check(index, picture, max_value) as image:
        width, height = image.size
        if read_orientation(image) >= 5:
            width, height = height, width
        return height, width, is_grey(image)
