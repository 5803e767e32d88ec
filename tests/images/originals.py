"""Files of small pictures, of every format that is read."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterator
from io import BytesIO

import numpy as np
from PIL import Image

from sktransfer._images.pictures.formats import list_formats

SIDE = 24

# Rows, and pixels in each, of the seven passes of an interlaced PNG file.
INTERLACED = ((3, 3), (3, 3), (3, 6), (6, 6), (6, 12), (12, 12), (12, 24))


def draw(mode: str = "RGB", seed: int = 0) -> Image.Image:
    """Draw a picture with a smooth ramp, some noise, and a flat part."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0, 180, SIDE)[:, None, None] + np.zeros((SIDE, SIDE, 4))
    values = (ramp + rng.integers(0, 60, ramp.shape)).astype(np.uint8)
    values[:6, :6] = 255
    image = Image.fromarray(values)  # RGBA
    if mode == "I;16":
        return Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    return image if mode == "RGBA" else image.convert("RGB").convert(mode)


def save(kind: str, mode: str = "RGB", n_frames: int = 1, **options: object) -> bytes:
    """Return the file of a picture; with an EXIF orientation if `exif` is given."""
    if options.get("exif"):
        exif = Image.Exif()
        exif[0x0112] = 6
        options["exif"] = exif.tobytes()
    if n_frames > 1:
        others = [draw(mode, seed) for seed in range(1, n_frames)]
        options |= {"save_all": True, "append_images": others}
    buffer = BytesIO()
    draw(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def list_originals() -> dict[str, list[bytes]]:
    """List the undamaged files by format, of those that can be written here."""
    makers: dict[str, Callable[[], Iterator[bytes]]] = {
        "JPEG": _list_jpegs,
        "PNG": _list_pngs,
        "WEBP": _list_webps,
        "BMP": _list_bmps,
        "GIF": _list_gifs,
        "TIFF": _list_tiffs,
        "PPM": _list_ppms,
        "AVIF": _list_avifs,
        "HEIF": _list_heifs,
    }
    return {name: list(makers[name]()) for name in list_formats()}


def _list_jpegs() -> Iterator[bytes]:
    yield save("JPEG")
    yield save("JPEG", progressive=True)
    yield save("JPEG", "L", restart_marker_blocks=1)
    yield save("JPEG", "CMYK")
    yield save("JPEG", exif=True, dpi=(72, 72), comment=b"a comment")
    yield save("MPO", n_frames=2)


def _list_pngs() -> Iterator[bytes]:
    for mode in ("RGB", "RGBA", "L", "LA", "1", "P", "I;16"):
        yield save("PNG", mode)
    yield save("PNG", "P", transparency=b"\x00\x80" * 20)
    yield save("PNG", transparency=(255, 255, 255), exif=True, dpi=(72, 72))
    yield save("PNG", n_frames=2)
    # Of 16 bits per channel, and interlaced, which Pillow does not write.
    rows = b"\0" + bytes(range(256))[: 6 * SIDE]
    yield _make_png(struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2, 0, 0, 0), SIDE * rows)
    rows = b"".join(n * (b"\0" + bytes(range(3 * width))) for n, width in INTERLACED)
    yield _make_png(struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 1), rows)


def _make_png(header: bytes, rows: bytes) -> bytes:
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_make_chunk(*chunk) for chunk in chunks)


def _make_chunk(kind: bytes, body: bytes) -> bytes:
    check = struct.pack(">I", zlib.crc32(kind + body))
    return struct.pack(">I", len(body)) + kind + body + check


def _list_webps() -> Iterator[bytes]:
    yield save("WEBP")
    yield save("WEBP", lossless=True, exif=True)
    yield save("WEBP", "RGBA")
    yield save("WEBP", n_frames=2)


def _list_bmps() -> Iterator[bytes]:
    for mode in ("RGB", "RGBA", "L", "P", "1"):
        yield save("BMP", mode)
    # Run lengths: three rows of one colour each, and the end.
    rows = b"\x18\x05\x00\x00" * 3 + b"\x00\x01"
    palette = bytes(range(256)) * 4
    info = struct.pack("<IiiHHIIiiII", 40, SIDE, 3, 1, 8, 1, len(rows), 0, 0, 256, 0)
    start = 14 + len(info) + len(palette)
    size = start + len(rows)
    yield struct.pack("<2sIII", b"BM", size, 0, start) + info + palette + rows


def _list_gifs() -> Iterator[bytes]:
    yield save("GIF")
    yield save("GIF", "L", interlace=0, comment=b"a comment")
    yield save("GIF", "P", transparency=0)
    yield save("GIF", n_frames=3, loop=0)


def _list_tiffs() -> Iterator[bytes]:
    for mode in ("RGB", "RGBA", "L", "P", "1", "CMYK", "I", "I;16", "F"):
        yield save("TIFF", mode)
    for compression in ("tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"):
        yield save("TIFF", compression=compression)
    yield save("TIFF", "I;16", compression="tiff_lzw")
    yield save("TIFF", "1", compression="group4")
    yield save("TIFF", exif=True, n_frames=2)
    yield save("TIFF", big_tiff=True)


def _list_ppms() -> Iterator[bytes]:
    for mode in ("RGB", "L", "1", "I;16", "F"):
        yield save("PPM", mode)
    size = f"{SIDE} {SIDE}".encode()
    for start, digits in (b"P1", b" 0 1 1"), (b"P2", b" 7 99 80"), (b"P3", b" 7 99 8"):
        depth = b"" if start == b"P1" else b"\n99"
        yield start + b"\n# a comment\n" + size + depth + SIDE * SIDE * digits
    yield b"P6 " + size + b" 65535\n" + bytes(range(256))[: 6 * SIDE] * SIDE


def _list_avifs() -> Iterator[bytes]:
    yield save("AVIF", speed=10)
    yield save("AVIF", "RGBA", speed=10, exif=True)
    yield save("AVIF", speed=10, n_frames=2)


def _list_heifs() -> Iterator[bytes]:
    yield save("HEIF")
    yield save("HEIF", "RGBA", exif=True)
    yield save("HEIF", "I;16")
