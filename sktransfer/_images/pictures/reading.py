"""Picture files and PIL images: their shapes, and their pixels in one uint8 array."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from sktransfer._images.containers import Picture
from sktransfer._images.pictures.budget import budget
from sktransfer._images.pictures.decoding import (
    GREY,
    choose_factor,
    decode,
    draft,
    find_brightest,
    has_frames,
    is_coloured,
    is_cut_off,
    is_deep,
    loses_bits,
    read_orientation,
    resize_picture,
)
from sktransfer._images.pictures.opening import (
    MOST_NAMED,
    BadImageError,
    Header,
    check_files,
    join_errors,
    make_error,
    open_and_check,
    read_header,
)
from sktransfer._images.shapes import Shape
from sktransfer._images.streams.ahead import run_ahead

T = TypeVar("T")
R = TypeVar("R")

# White of pictures with more than 8 bits, unless the user says another.
DEEP_WHITE = 65535.0

# Decoders that keep copies of a whole picture while they work.
COPIES = {"WEBP": 4, "AVIF": 4, "HEIF": 4}

# Pictures that wait for a thread, or whose results wait for those before them.
N_WAITING = 1024


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


class Survey(NamedTuple):
    """What the headers of pictures tell.

    Attributes
    ----------
    shapes : PictureShapes
        Their shapes.

    deep : ndarray of int
        Indices of those with more than 8 bits.
    """

    shapes: PictureShapes
    deep: NDArray[np.int64]


class Reading(NamedTuple):
    """How pictures become pixels.

    Attributes
    ----------
    shape : tuple of int
        (height, width, channels), with 1 (grey) or 3 (RGB) channels.

    resize, interpolation, fill
        As for :func:`resize_picture`.

    max_value : float or "auto"
        The value of white in pictures with more than 8 bits. ``"auto"``: 65,535.
    """

    shape: Shape
    resize: str = "crop"
    interpolation: str = "bilinear"
    fill: Sequence[float] = GREY
    max_value: float | str = "auto"

    def check(self) -> None:
        """Raise a ValueError unless the shape is one of grey or RGB images."""
        if self.shape[2] not in (1, 3):
            raise ValueError(
                f"image_shape={self.shape!r}: pictures are read with 1 (grey) or 3 "
                "(RGB) channels; the last entry of image_shape must be 1 or 3."
            )


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


class Pixels(NamedTuple):
    """One picture that was read, and what is to be said about it.

    Attributes
    ----------
    values : ndarray of shape (height, width, channels), uint8
        Its pixels.

    has_frames, is_coloured, is_cut_off : bool
        As in :class:`Findings`.

    brightest : float
        The highest value of more than 8 bits; NaN if it has no more.
    """

    values: NDArray[np.uint8]
    has_frames: bool
    is_coloured: bool
    is_cut_off: bool
    brightest: float


def _do_nothing(n: int) -> None:
    """Count images that are done, for nobody."""


def survey(
    pictures: Sequence[Picture],
    max_value: float | str = "auto",
    advance: Callable[[int], None] = _do_nothing,
) -> Survey:
    """Read what the headers of pictures tell, in threads.

    Parameters
    ----------
    pictures : sequence of path or PIL image
        The n pictures.

    max_value : float or "auto", default="auto"
        As in :class:`Reading`.

    advance : callable, optional
        Called with the number of further pictures that were opened.

    Returns
    -------
    Survey

    Raises
    ------
    FileNotFoundError
        If files are missing.
    BadImageError
        If pictures cannot be opened, are no regular files, hold floats without
        `max_value`, or have too many pixels.
    """
    check_files(pictures)

    def read(index: int, picture: Picture) -> Header | BadImageError:
        try:
            return read_header(index, picture, max_value)
        except BadImageError as error:
            return error

    # Small arrays: a million headers as objects would fill the memory.
    sizes = np.zeros((len(pictures), 2), np.int32)
    kinds = np.zeros((len(pictures), 2), bool)
    errors: list[BadImageError] = []
    with closing(map_in_threads(read, pictures)) as headers:
        for index, header in enumerate(headers):
            advance(1)
            if isinstance(header, BadImageError):
                errors.append(header)
            else:
                sizes[index], kinds[index] = header[:2], header[2:]
            if len(errors) == MOST_NAMED:
                break
    if errors:
        bad = {i for error in errors for i in error.indices}
        rows = [i for i in range(len(pictures)) if i not in bad]
        others = find_unreadable(pictures, rows, max_value, MOST_NAMED - len(errors))
        joined = join_errors([*errors, *others], len(pictures))
        raise joined from errors[0].__cause__
    is_grey, is_deep = kinds.T
    height, width = np.median(sizes, axis=0).astype(int).tolist()
    typical = (height, width, 1 if is_grey.all() else 3)
    common = None if np.ptp(sizes, axis=0).any() else typical
    return Survey(PictureShapes(common, typical), np.flatnonzero(is_deep))


def read_shapes(
    pictures: Sequence[Picture], max_value: float | str = "auto"
) -> PictureShapes:
    """Read the shapes of pictures, from their headers alone, as :func:`survey` does."""
    return survey(pictures, max_value).shapes


def read_shape(pictures: Sequence[Picture]) -> Shape | None:
    """Read the shape that all pictures share, as :func:`survey` does."""
    return read_shapes(pictures).common


def read_pictures(
    pictures: Sequence[Picture], shape: Shape, resize: str = "crop", **options: Any
) -> NDArray[np.uint8]:
    """Decode pictures, as :func:`read_and_note` does, and note nothing."""
    return read_and_note(pictures, shape, resize, **options)[0]


def read_and_note(
    pictures: Sequence[Picture], shape: Shape, resize: str = "crop", **options: Any
) -> tuple[NDArray[np.uint8], Findings]:
    """Decode pictures into one array: upright, opaque and all of one size.

    EXIF rotation is applied (for a PNG, only if the tag comes before the pixels).
    Transparent pixels are blended with white, more than 8 bits are scaled to 8, and
    only the first frame of an animation is read. A picture of another size is scaled,
    with antialiasing; JPEGs that are several times larger are decoded at a half, a
    quarter or an eighth of their size.

    Parameters
    ----------
    pictures : sequence of path or PIL image
        The n pictures.

    shape, resize, **options
        Of :class:`Reading`.

    Returns
    -------
    images : ndarray of shape (n, height, width, channels), dtype uint8
        Values in [0, 255].

    findings : Findings
        What is to be said about the pictures.

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`survey`, and if `shape` has neither 1 nor 3 channels.
    """
    reading = Reading(shape, resize, **options)
    reading.check()
    check_files(pictures)
    images = np.empty((len(pictures), *shape), dtype=np.uint8)
    notes = np.full((len(pictures), 4), np.nan)

    def read(index: int, picture: Picture) -> None:
        images[index], *notes[index] = read_picture(index, picture, reading)

    for _ in map_in_threads(read, pictures):
        pass
    return images, make_findings(notes)


def make_findings(notes: NDArray[np.float64]) -> Findings:
    """Collect what is to be said about pictures from rows of :class:`Pixels`."""
    kinds = (np.flatnonzero(column == 1).tolist() for column in notes.T[:3])
    deep = notes[:, 3][~np.isnan(notes[:, 3])]
    with_frames, coloured, cut_off = kinds
    brightest = float(deep.max()) if len(deep) else None
    return Findings(with_frames, coloured, cut_off, brightest)


def read_picture(index: int, picture: Picture, reading: Reading) -> Pixels:
    """Decode one picture; a BadImageError names it by its index."""
    shape, max_value = reading.shape, reading.max_value
    white = DEEP_WHITE if isinstance(max_value, str) else max_value
    with open_and_check(index, picture, max_value) as image:
        is_halved, brightest = loses_bits(image), np.nan
        if is_halved and white < DEEP_WHITE:
            raise ValueError(
                f"of its 16 bits per channel only 8 can be read, too few with "
                f"max_value={max_value:g}; convert it to 8 bits."
            )
        own = image.height, image.width
        if read_orientation(image) >= 5:
            own = own[::-1]
        factor = choose_factor(own, shape[:2], reading.resize)
        # The user's own image would be changed.
        if not isinstance(picture, Image.Image):
            draft(image, factor)
        with budget.hold(_count_pixels(image)):
            upright = decode(image, shape[2], white, factor)
            if is_halved:
                brightest = DEEP_WHITE / 255 * float(np.asarray(upright).max())
            elif is_deep(image):
                brightest = find_brightest(image)
            values = resize_picture(
                upright, shape[:2], reading.resize, reading.interpolation, reading.fill
            ).reshape(shape)
            loses_colours = shape[2] == 1 and is_coloured(image)
            return Pixels(
                values, has_frames(image), loses_colours, is_cut_off(image), brightest
            )


def _count_pixels(image: Image.Image) -> int:
    """Count the pixels of an image that memory will hold, of four bytes each."""
    scale = 1
    if image.info.get("progressive"):  # read whole before it is scaled
        scale = (getattr(image, "decoderconfig", ()) or (1,))[0]
    n_copies = COPIES.get(image.format or "", 1)
    return image.width * image.height * scale**2 * n_copies


def find_unreadable(
    pictures: Sequence[Picture],
    rows: Sequence[int],
    max_value: float | str,
    most: int | None = None,
    advance: Callable[[int], None] = _do_nothing,
    first: int = 0,
) -> list[BadImageError]:
    """Decode pictures at the smallest scale; return the errors of those that fail.

    Parameters
    ----------
    pictures : sequence of path or PIL image
        All pictures.

    rows : sequence of int
        Which of them.

    max_value : float or "auto"
        As in :class:`Reading`.

    most : int, default=None
        Stop after so many errors; ``None``: never.

    advance : callable, optional
        Called with the number of further pictures that were read.

    first : int, default=0
        What errors call the first of the pictures.
    """
    # In colour: grey pictures are searched for colours, which takes time.
    smallest = Reading((8, 8, 3), "squash", max_value=max_value)

    def check(_: int, row: int) -> BadImageError | None:
        try:
            picture = pictures[row]
            check_files([picture], first=first + row)
            read_picture(first + row, picture, smallest)
        except BadImageError as error:
            return error
        except FileNotFoundError as error:
            return make_error(first + row, picture, error)
        return None

    errors: list[BadImageError] = []
    if most is not None and most <= 0:
        return errors
    with closing(map_in_threads(check, rows)) as checked:
        for error in checked:
            advance(1)
            if error is not None:
                errors.append(error)
            if len(errors) == most:
                break
    return errors


def map_in_threads(function: Callable[[int, T], R], items: Sequence[T]) -> Generator[R]:
    """Yield a function of the index and the item for item after item, in order.

    Items are fetched in the threads, and few wait, so that a million need no memory. An
    error ends it.
    """

    def start(pool: ThreadPoolExecutor, rows: range) -> list[Future[R]]:
        return [pool.submit(lambda i: function(i, items[i]), rows.start)]

    rows = (range(i, i + 1) for i in range(len(items)))
    for _, (result,) in run_ahead(start, rows, N_WAITING):
        yield result
