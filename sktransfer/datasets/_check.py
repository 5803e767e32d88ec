"""What is wrong, or at least odd, with the images of a set."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageStat

from sktransfer._images.containers import (
    Picture,
    is_pictures,
    list_pictures,
    refuse_bad_container,
    unpack,
)
from sktransfer._images.levels import DARK
from sktransfer._images.pictures.budget import budget
from sktransfer._images.pictures.decoding import (
    decode,
    find_brightest,
    has_frames,
    is_cut_off,
    is_deep,
    loses_bits,
)
from sktransfer._images.pictures.opening import (
    BadImageError,
    describe_picture,
    open_and_check,
)
from sktransfer._images.pictures.reading import DEEP_WHITE, map_in_threads

# Sides in pixels, and how many times as long as wide.
TINY, LONG = 16, 4
GIANT_PIXELS = 25_000_000
# Levels by which pixels deviate where there is nothing to see.
BLANK = 2.0
# Drawings and placeholders have few colours: so many make up nearly all of 64 x 64
# pixels. If more than a tenth of a set has, it is what the set is about.
FEW_COLOURS, NEARLY_ALL, SIDE_OF_SAMPLE, SHARE_OF_DRAWINGS = 16, 0.95, 64, 0.1
# Copies, scaled or compressed, differ in at most so many of 64 bits that say where a
# picture gets brighter, and by so many levels in the mean of 8 x 8 pixels.
N_BITS, MOST_BITS, N_BANDS = 64, 3, 4
SIDE_OF_THUMBNAIL, MOST_LEVELS = 8, 3.0
FEW_PER_CLASS = 5


@dataclass(frozen=True)
class ImageProblem:
    """One problem of one image; ``pandas.DataFrame`` makes a table of many.

    Attributes
    ----------
    index : int
        Position in ``X``.

    path : str
        Of the file, or a description of the PIL image.

    size : tuple of (int, int) or None
        Width and height in pixels as they are stored; None if it is unknown.

    mode : str or None
        Pillow's name for the kind of pixels; None if it is unknown.

    problem : str
        What is wrong or odd.
    """

    index: int
    path: str
    size: tuple[int, int] | None
    mode: str | None
    problem: str


ImageProblem.__module__ = "sktransfer.datasets"


class _Trace(NamedTuple):
    """What remains of a picture in scaled and compressed copies of it."""

    gradient: int
    thumbnail: np.ndarray

    def resembles(self, other: _Trace) -> bool:
        """Return whether this is almost a copy of another picture."""
        if (self.gradient ^ other.gradient).bit_count() > MOST_BITS:
            return False
        distance = np.abs(self.thumbnail.astype(int) - other.thumbnail).mean()
        return bool(distance <= MOST_LEVELS)


class _Seen(NamedTuple):
    """What is known of a picture that was read once."""

    size: tuple[int, int] | None
    mode: str | None
    problems: list[str]
    content: bytes | None = None
    trace: _Trace | None = None
    is_drawing: bool = False


def check_images(X: Any, y: Any = None) -> list[ImageProblem]:
    """Read every picture once, and list all that is wrong or odd.

    Parameters
    ----------
    X : list, tuple, ndarray, Series or DataFrame of n paths or PIL images
        As for the estimators of this package. Images of a training set and of a test
        set, one after the other, show what both have in common.

    y : array-like of shape (n,), default=None
        Labels, for copies with different labels and for classes of few images.

    Returns
    -------
    list of ImageProblem
        By position in `X`; empty if nothing was found. Pictures that cannot be read or
        end too early, of uniform colour, of fewer than 16 pixels on a side or more than
        25 million in all, more than four times as long as wide, with further frames,
        of few colours as placeholders have, or that use a fifteenth of more than 8
        bits; copies of earlier ones, exact or nearly so; classes of fewer than 5.

    Raises
    ------
    TypeError
        If `X` holds no pictures.
    ValueError
        If `X` and `y` differ in length.

    See Also
    --------
    load_image_folder : Lists the files of a folder.

    Examples
    --------
    >>> from PIL import Image
    >>> from sktransfer.datasets import check_images
    >>> [found] = check_images([Image.new("RGB", (64, 48), "red")])
    >>> found.problem
    'it has one colour'
    """
    refuse_bad_container(X)
    X = unpack(X)
    if not is_pictures(X):
        raise TypeError(
            f"X is a {type(X).__name__} without paths or PIL images; arrays need no "
            "check of files."
        )
    pictures = list_pictures(X)
    if y is not None and len(y) != len(pictures):
        raise ValueError(f"X has {len(pictures)} images, but y has {len(y)} labels.")
    labels = None if y is None else np.asarray(y).tolist()
    rows = range(len(pictures))
    seen = list(map_in_threads(lambda _, i: _look_at(pictures, i), rows))
    found = [(i, problem) for i, one in enumerate(seen) for problem in one.problems]
    found += _list_drawings(seen)
    found += _list_copies(seen, labels)
    found += [] if labels is None else _list_small_classes(labels)
    return [
        ImageProblem(i, _name(pictures, i), seen[i].size, seen[i].mode, problem)
        for i, problem in sorted(found)
    ]


def _name(pictures: Sequence[Picture], index: int) -> str:
    """Return the path of a file, or what else there is to say."""
    try:
        return describe_picture(pictures[index]).strip("'")
    except BadImageError:  # of a dataset
        return f"X[{index}]"


def _look_at(pictures: Sequence[Picture], index: int) -> _Seen:
    """Read a picture; what cannot be read is a problem, too."""
    size = mode = None
    try:
        picture = pictures[index]
        with open_and_check(index, picture, max_value=np.inf) as image:
            size, mode = image.size, image.mode
            with budget.hold(size[0] * size[1]):
                return _examine(image)
    except (OSError, ValueError) as error:
        reason = re.sub("^.*? could not be read(: | from )", "", str(error))
        return _Seen(size, mode, [f"it could not be read: {reason}"])


def _examine(image: Image.Image) -> _Seen:
    """List what is odd about one picture, and note what copies have in common."""
    size, mode = image.size, image.mode
    white = DEEP_WHITE
    problems = list(_list_odd_sizes(*size))
    if loses_bits(image):
        problems.append("of its 16 bits per channel, only 8 can be read")
    if is_deep(image):
        brightest = find_brightest(image)
        if 0 < brightest <= DARK * white:
            problems.append(f"it uses values up to {brightest:g} of more than 8 bits")
        white = max(brightest, 1.0)
    upright = decode(image, 3, white, factor=2)
    if has_frames(image):
        problems.append("it has several frames or pages, of which one is used")
    if is_cut_off(image):
        problems.append("it ends in uniform grey, as if data were missing")
    is_blank = max(ImageStat.Stat(upright).stddev) < BLANK
    if is_blank:
        problems.append("it has one colour")
    content = sha256(repr(upright.size).encode())
    content.update(np.asarray(upright).data)
    return _Seen(
        size,
        mode,
        problems,
        content.digest(),
        None if is_blank else _trace(upright),
        not is_blank and _has_few_colours(upright),
    )


def _list_odd_sizes(width: int, height: int) -> Iterator[str]:
    """List what is odd about width and height."""
    if min(width, height) < TINY:
        yield f"it is tiny: {width} x {height} pixels"
    if width * height > GIANT_PIXELS:
        yield f"it is giant: {width} x {height} pixels; scaled down, it is read faster"
    if max(width, height) > LONG * min(width, height):
        yield f"it is very long: {width} x {height} pixels"


def _has_few_colours(image: Image.Image) -> bool:
    """Return whether a few colours make up nearly all of some pixels."""
    side = SIDE_OF_SAMPLE
    some = np.asarray(image.resize((side, side), Image.Resampling.NEAREST))
    _, counts = np.unique(some.reshape(-1, 3), axis=0, return_counts=True)
    return bool(np.sort(counts)[-FEW_COLOURS:].sum() >= NEARLY_ALL * side**2)


def _trace(image: Image.Image) -> _Trace:
    """Find what remains of a picture in copies of it."""
    small = np.asarray(image.convert("L").resize((9, 8), Image.Resampling.BOX), int)
    bits = (np.diff(small, axis=1) > 0).ravel()
    gradient = int.from_bytes(np.packbits(bits).tobytes(), "big")
    side = SIDE_OF_THUMBNAIL
    thumbnail = image.resize((side, side), Image.Resampling.BOX)
    return _Trace(gradient, np.asarray(thumbnail))


def _list_drawings(seen: list[_Seen]) -> list[tuple[int, str]]:
    """List pictures of few colours among others."""
    drawings = [i for i, one in enumerate(seen) if one.is_drawing]
    if len(drawings) > SHARE_OF_DRAWINGS * len(seen):
        return []
    return [(i, "it has few colours, as placeholders have") for i in drawings]


def _list_copies(seen: list[_Seen], labels: list[Any] | None) -> list[tuple[int, str]]:
    """List pictures that are like an earlier one."""
    first: dict[bytes, int] = {}
    found = []
    for i, one in enumerate(seen):
        if one.content is None:
            continue
        earlier = first.setdefault(one.content, i)
        if earlier != i:
            found.append((i, _describe_copy("a copy", earlier, i, labels)))
    traces = ((i, seen[i].trace) for i in first.values())
    near = _find_near((i, trace) for i, trace in traces if trace is not None)
    found += [(i, _describe_copy("almost a copy", j, i, labels)) for i, j in near]
    return found


def _describe_copy(
    word: str, earlier: int, later: int, labels: list[Any] | None
) -> str:
    """Say of what a picture is a copy, and whether their labels differ."""
    told = f"it is {word} of X[{earlier}]"
    if labels is None or labels[earlier] == labels[later]:
        return told
    return f"{told}, which is {labels[earlier]!r}, and this {labels[later]!r}"


def _find_near(traces: Iterable[tuple[int, _Trace]]) -> Iterator[tuple[int, int]]:
    """Find for each picture the first earlier one that it resembles."""
    # Of numbers that differ in at most three bits, one of four parts is the same.
    width = N_BITS // N_BANDS
    bands: list[dict[int, list[tuple[int, _Trace]]]] = [{} for _ in range(N_BANDS)]
    for i, trace in traces:
        bits = trace.gradient
        parts = [bits >> (width * k) & (2**width - 1) for k in range(N_BANDS)]
        near = (
            j
            for band, part in zip(bands, parts, strict=True)
            for j, other in band.get(part, ())
            if trace.resembles(other)
        )
        earlier = min(near, default=None)
        if earlier is not None:
            yield i, earlier
        for band, part in zip(bands, parts, strict=True):
            band.setdefault(part, []).append((i, trace))


def _list_small_classes(labels: list[Any]) -> list[tuple[int, str]]:
    """List the first images of classes that have few."""
    counts: dict[Any, list[int]] = {}
    for i, label in enumerate(labels):
        counts.setdefault(label, []).append(i)
    return [
        (rows[0], f"its class, {label!r}, has {len(rows)} image(s) only")
        for label, rows in counts.items()
        if len(rows) < FEW_PER_CLASS
    ]
