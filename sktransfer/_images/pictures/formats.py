"""Which formats of picture files are read, and whether a file has one of them."""

from __future__ import annotations

import os
import struct
from contextlib import suppress
from functools import cache
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

RAW = (".nef", ".dng", ".cr2", ".cr3", ".arw", ".orf", ".rw2", ".pef", ".srw", ".nrw")

# How HEIF files begin: a length of four bytes, "ftyp", and one of these.
N_START, HEIF_BRANDS = 12, (b"heic", b"heix", b"hevc", b"mif1", b"msf1")

# Every type that Pillow's decoders were seen to raise on damaged files.
DECODE_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    ArithmeticError,
    LookupError,
    EOFError,
    RuntimeError,  # of AVIF and HEIF
    struct.error,
    Image.DecompressionBombError,
    Warning,  # Pillow's own, where the user makes errors of them
)


@cache
def list_formats() -> tuple[str, ...]:
    """List the formats that can be read here, by Pillow's names."""
    # A package that is missing or does not work here leaves the other formats.
    with suppress(ImportError, OSError):
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
        raise UnidentifiedImageError(_explain(_read_start(file))) from None


def _read_start(file: str | os.PathLike[str] | BytesIO) -> bytes:
    """Read the first bytes of a file."""
    if isinstance(file, BytesIO):
        return file.getvalue()[:N_START]
    with open(file, "rb") as opened:
        return opened.read(N_START)


def _explain(start: bytes) -> str:
    """Say why a file that begins so is no picture."""
    if not start:
        return "it is empty"
    if start[4:8] == b"ftyp" and start[8:12] in HEIF_BRANDS:
        return "HEIF files need a package: pip install 'sktransfer[heif]'"
    return f"its format is none of {', '.join(list_formats())}"


def is_picture_file(file: str) -> bool:
    """Return whether a file's content is a picture; special files are not opened.

    Raw files of cameras are TIFF files whose pictures are thumbnails, and a text can
    begin like a PPM file: neither is taken for a picture.
    """
    if file.lower().endswith(RAW) or not os.path.isfile(file):
        return False
    likely = [name for name in list_formats() if name != "PPM"]
    try:
        with Image.open(file, formats=likely):
            return True
    except DECODE_ERRORS:
        return False
