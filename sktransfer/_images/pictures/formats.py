"""Which formats of picture files are read, and whether a file has one of them."""

from __future__ import annotations

import os
import struct
from functools import cache
from importlib.util import find_spec
from io import BytesIO

from PIL import Image, UnidentifiedImageError

# Endings by format. A file with another ending, or none, is read all the same; these
# need no look into the file to be found in a folder.
ENDINGS = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "AVIF": (".avif",),
    "HEIF": (".heic", ".heif", ".hif"),
}
SUFFIXES = tuple(ending for endings in ENDINGS.values() for ending in endings)

# Every type that Pillow's decoders were seen to raise on damaged files.
DECODE_ERRORS = (
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


@cache
def list_formats() -> tuple[str, ...]:
    """List the formats that can be read here, by Pillow's names."""
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    Image.init()
    return tuple(name for name in ENDINGS if name in Image.OPEN)


def open_picture(file: str | os.PathLike[str] | BytesIO) -> Image.Image:
    """Open a file and read its header.

    Raises
    ------
    UnidentifiedImageError
        If it has none of the formats, with what it may be.
    """
    try:
        return Image.open(file, formats=list_formats())
    except UnidentifiedImageError:
        known = f"its format is none of {', '.join(list_formats())}"
        name = "" if isinstance(file, BytesIO) else os.fsdecode(file)
        is_heif = name.lower().endswith(ENDINGS["HEIF"])
        if is_heif and "HEIF" not in list_formats():
            known = "HEIF files need a package: pip install 'sktransfer[heif]'"
        raise UnidentifiedImageError(known) from None


def is_picture_file(file: str) -> bool:
    """Return whether a file's content is a picture; special files are not opened."""
    if not os.path.isfile(file):
        return False
    try:
        with open_picture(file):
            return True
    except DECODE_ERRORS:
        return False
