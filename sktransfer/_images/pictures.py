"""Pictures: from paths or PIL images to uint8 arrays."""

from __future__ import annotations

import os
import re
import stat
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from sktransfer._images.shapes import Shape

Picture: TypeAlias = "str | os.PathLike[str] | Image.Image"
T = TypeVar("T")

MAX_PIXELS = 50_000_000
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM")

_URL = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)
# All that Pillow's decoders were seen to raise on damaged files.
_DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# One image object may stand in a list twice, and Pillow loads it without a lock.
_in_memory = threading.Lock()


def is_pictures(X: Any) -> bool:
    """Whether `X` holds paths or PIL images rather than numbers.

    Judged by the container and its first element: a list, a tuple, an array of
    shape (n,) or (n, 1), a pandas Series or a one-column DataFrame.
    """
    first: object = None
    if isinstance(X, (list, tuple)):
        first = X[0] if X else None
    elif isinstance(X, np.ndarray):
        if X.dtype.kind in "OUT" and X.size and _is_column(X.shape):
            first = X.flat[0]
    elif hasattr(X, "iloc") and X.shape[0] and _is_column(X.shape):
        first = X.iloc[0] if len(X.shape) == 1 else X.iloc[0, 0]
    return isinstance(first, (str, os.PathLike, Image.Image))


def refuse_what_is_no_set(X: Any) -> None:
    """Raise where `X` is one picture, or nothing that can be indexed.

    Raises
    ------
    TypeError, ValueError
        With what to pass instead.
    """
    if isinstance(X, (str, os.PathLike, Image.Image)):
        raise TypeError(
            f"X is a single {type(X).__name__}; pass a list of paths or PIL images "
            "(sktransfer.datasets.load_image_folder lists those of a folder)."
        )
    if isinstance(X, (list, tuple)):
        _refuse_what_is_no_list(X)
    if hasattr(X, "iloc") and len(X.shape) == 2 and X.shape[0] and X.shape[1] > 1:
        _refuse_a_frame_of_paths(X)
    # SciPy's DOK matrices are dicts, with a shape; scikit-learn refuses them by name.
    if isinstance(X, (Iterator, set, frozenset, dict)) and not hasattr(X, "shape"):
        raise TypeError(f"X is a {type(X).__name__}; pass a list, such as list(X).")


def _refuse_a_frame_of_paths(X: Any) -> None:
    """Raise where one of several columns holds paths or PIL images."""
    for name, value in zip(X.columns, X.iloc[0], strict=True):
        if isinstance(value, (str, os.PathLike, Image.Image)):
            raise ValueError(
                f"X is a frame of {X.shape[1]} columns, of which {name!r} holds "
                f"{type(value).__name__}; pass the column of pictures alone, X[...]."
            )


def _refuse_what_is_no_list(X: Sequence[Any]) -> None:
    """Raise where a list is empty or holds arrays of several shapes."""
    if len(X) and isinstance(X[0], (bytes, bytearray)):
        raise TypeError(
            "X[0] is the content of a file; pass paths, or PIL images, such as "
            "Image.open(io.BytesIO(content))."
        )
    if not len(X):
        raise ValueError("X is an empty list: 0 sample(s); pass one image or more.")
    shapes = [x.shape if isinstance(x, np.ndarray) else None for x in X]
    other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None:
        raise ValueError(
            f"X[{other}] has shape {shapes[other]}, but X[0] has {shapes[0]}; give all "
            "arrays one shape, or pass paths or PIL images, which are resized."
        )


def _is_column(shape: tuple[int, ...]) -> bool:
    return len(shape) == 1 or (len(shape) == 2 and shape[1] == 1)


def picture_list(X: Any) -> list[Picture]:
    """Return the paths and PIL images of `X` as a flat list.

    Parameters
    ----------
    X : list, tuple, ndarray, Series or DataFrame
        A container for which :func:`is_pictures` is true.

    Raises
    ------
    TypeError
        If an element is neither a path nor a PIL image.
    ValueError
        If an element is a URL.
    """
    if isinstance(X, np.ndarray):
        pictures = X.ravel().tolist()
    elif hasattr(X, "iloc") and len(X.shape) == 2:
        pictures = list(X.iloc[:, 0])
    else:
        pictures = list(X)
    for index, picture in enumerate(pictures):
        if not isinstance(picture, (str, os.PathLike, Image.Image)):
            raise TypeError(
                f"X[{index}] must be a path or a PIL image, as X[0] is; got "
                f"{type(picture).__name__}."
            )
        if isinstance(picture, str) and _URL.match(picture):
            raise ValueError(
                f"X[{index}] is {str(picture)!r}: URLs are not fetched. Download the "
                "file and pass its path."
            )
    return pictures


def common_shape(pictures: Sequence[Picture]) -> Shape | None:
    """Return the shape that all pictures share, from their headers alone.

    Returns
    -------
    shape : tuple of int or None
        (height, width, channels) after EXIF rotation, channels being 1 if every
        picture is grey and 3 otherwise. None if the sizes differ.

    Raises
    ------
    FileNotFoundError
        If files are missing.
    ValueError
        If a picture cannot be read, is no regular file, holds floats, or has more
        than 50,000,000 pixels.
    """
    _check_files(pictures)
    headers = _in_threads(_header, pictures)
    sizes = {(height, width) for height, width, _ in headers}
    if len(sizes) != 1:
        return None
    return (*sizes.pop(), 1 if all(grey for _, _, grey in headers) else 3)


def read_pictures(pictures: Sequence[Picture], shape: Shape) -> NDArray[np.uint8]:
    """Decode pictures into one array, upright, opaque and of one size.

    EXIF rotation is applied (a PNG's only if it stands before the pixels),
    transparency is laid over white, 16-bit grey is scaled to 8 bit, and of an
    animation the first frame is taken. A picture of another size is scaled
    (bilinear, antialiased) until it just covers `shape`, and its centre is kept.

    Parameters
    ----------
    pictures : sequence of path or PIL image
        The n pictures.

    shape : tuple of int
        (height, width, channels), with 1 (grey) or 3 (RGB) channels.

    Returns
    -------
    images : ndarray of shape (n, height, width, channels), dtype uint8
        Values in [0, 255].

    Raises
    ------
    FileNotFoundError, ValueError
        As :func:`common_shape`, and if `shape` has neither 1 nor 3 channels.
    """
    if shape[2] not in (1, 3):
        raise ValueError(
            f"image_shape={shape!r}: pictures are read with 1 (grey) or 3 (RGB) "
            "channels; end image_shape in 1 or 3."
        )
    _check_files(pictures)
    images = np.empty((len(pictures), *shape), dtype=np.uint8)

    def read(index: int, picture: Picture) -> None:
        with _opened(index, picture) as image:
            images[index] = _decode(image, shape)

    _in_threads(read, pictures)
    return images


def _in_threads(
    function: Callable[[int, Picture], T], pictures: Sequence[Picture]
) -> list[T]:
    with ThreadPoolExecutor() as pool:
        return list(pool.map(function, range(len(pictures)), pictures))


def _check_files(pictures: Sequence[Picture]) -> None:
    """Refuse missing files, and what would block or never end, such as a pipe."""
    missing = []
    for index, picture in enumerate(pictures):
        if isinstance(picture, Image.Image):
            continue
        try:
            mode = os.stat(picture).st_mode
        except FileNotFoundError:
            missing.append(_name(picture))
        except (OSError, ValueError) as error:
            raise _unreadable(index, picture, error) from error
        else:
            if not stat.S_ISREG(mode):
                raise _unreadable(index, picture, "it is not a regular file")
    if missing:
        shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise FileNotFoundError(
            f"{len(missing)} of {len(pictures)} image files do not exist: {shown}. "
            f"Relative paths start from {os.getcwd()!r}."
        )


def _name(picture: Picture) -> str:
    if isinstance(picture, Image.Image):
        return repr(picture)
    return repr(str(os.fsdecode(picture)))


def _unreadable(index: int, picture: Picture, reason: object) -> ValueError:
    return ValueError(f"image {index} ({_name(picture)}) could not be read: {reason}")


@contextmanager
def _opened(index: int, picture: Picture) -> Iterator[Image.Image]:
    """Open one picture with its header checked; all failures are ValueErrors."""
    try:
        if isinstance(picture, Image.Image):
            with _in_memory:
                _check_header(picture)
                yield picture
        else:
            with Image.open(picture, formats=FORMATS) as image:
                _check_header(image)
                yield image
    except UnidentifiedImageError as error:
        reason = f"its content is none of {', '.join(FORMATS)}"
        raise _unreadable(index, picture, reason) from error
    except _DECODE_ERRORS as error:
        raise _unreadable(index, picture, error) from error


def _check_header(image: Image.Image) -> None:
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(
            f"it has {width} x {height} = {width * height:,} pixels, allowed are 1 to "
            f"{MAX_PIXELS:,}; scale it down."
        )
    if image.mode == "F":
        raise ValueError("its pixels are floats (mode 'F'); convert it to 8 bit.")


def _orientation(image: Image.Image) -> int:
    # Pillow turns a TIFF itself, and its own PNG method would decode the pixels.
    if image.format == "TIFF":
        return 1
    return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))


def _header(index: int, picture: Picture) -> tuple[int, int, bool]:
    """Return the height and width of an upright picture, and whether it is grey."""
    with _opened(index, picture) as image:
        width, height = image.size
        if _orientation(image) >= 5:
            width, height = height, width
        return height, width, image.mode in ("1", "L", "I") or image.mode[:4] == "I;16"


def _decode(image: Image.Image, shape: Shape) -> NDArray[np.uint8]:
    height, width, channels = shape
    # Read before the pixels: the header is what common_shape has seen.
    turn = _UPRIGHT.get(_orientation(image))
    image = _opaque(image).convert("L" if channels == 1 else "RGB")
    if turn is not None:
        image = image.transpose(turn)
    if image.size != (width, height):
        image = ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)
    return np.asarray(image, dtype=np.uint8).reshape(shape)


def _opaque(image: Image.Image) -> Image.Image:
    """Return the picture in 8 bits a channel, its transparent parts on white."""
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("its grey values leave [0, 65535]; convert it to 8 bit.")
        grey = ((values + 128) // 257).astype(np.uint8)
        if isinstance(image.info.get("transparency"), int):
            grey[values == image.info["transparency"]] = 255
        return Image.fromarray(grey)
    image.load()
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))
