"""One opened picture: upright, opaque, in 8 bits, and of the size that is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.JpegImagePlugin import JpegImageFile

from sktransfer._images.geometry import Size, lay_out

# Red, green and blue of padding where no mean is known.
GREY = (0.5, 0.5, 0.5)

# How colours are looked for: in copies of so many pixels to a side, where channels
# differ by more levels than JPEGs of grey pictures do.
COPY_SIDE, FAINTEST_COLOUR = 32, 24
# Of very large ones, some pixels are enough.
SAMPLE_SIDE = 256

# The part of a JPEG, as one over its height, that is grey if data are missing.
LOWEST_PART = 16

# Pictures are decoded near the size that is wanted, at this many times as much: less is
# fast too, but Pillow's documentation calls the result indistinguishable from here on.
REDUCING_GAP = 2.0

# Pictures of more pixels are made smaller; those of more than a strip are converted
# strip by strip.
LARGE, PIXELS_OF_STRIP = 50_000_000, 2**22

# Not ImageOps.exif_transpose, which decodes the pixels before it reads the tag: it
# would obey a tag behind the pixels of a PNG, which `read_shapes` has not seen.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_orientation(image: Image.Image) -> int:
    """Read the EXIF orientation, 1 to 8, from the header."""
    # Pillow turns a TIFF by itself, and PngImageFile.getexif would decode the pixels.
    if image.format == "TIFF":
        return 1
    return int(Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1))


def is_grey(image: Image.Image) -> bool:
    """Return whether the pixels are in a grey mode without transparency."""
    return image.mode in ("1", "L") or is_deep(image)


def is_coloured(image: Image.Image) -> bool:
    """Return whether a picture shows colours, from a small copy of its pixels."""
    if is_grey(image):
        return False
    image.load()
    if image.width * image.height > LARGE:  # copies would take too much memory
        image = image.resize((SAMPLE_SIDE, SAMPLE_SIDE), Image.Resampling.NEAREST)
    small = _make_opaque(image).convert("RGB").resize((COPY_SIDE, COPY_SIDE))
    return bool(np.ptp(np.asarray(small), axis=2).max() > FAINTEST_COLOUR)


def is_cut_off(image: Image.Image) -> bool:
    """Return whether the lowest part of a JPEG is the grey of data that is missing.

    Of a file that ends too early Pillow says so, unless the end was added again.
    """
    if image.format not in ("JPEG", "MPO"):
        return False
    height = max(1, image.height // LOWEST_PART)

    def is_uniform_grey(top: int) -> bool:
        part = image.crop((0, top, image.width, top + height)).convert("RGB")
        return bool(np.all(np.abs(np.array(part.getextrema()) - 128) <= 1))

    # Margins above and below are no sign.
    return is_uniform_grey(image.height - height) and not is_uniform_grey(0)


def has_frames(image: Image.Image) -> bool:
    """Return whether a picture has several frames or pages."""
    if image.format == "MPO":  # previews, and depths, of phones
        return False
    try:
        return bool(getattr(image, "is_animated", False))
    except (OSError, ValueError, EOFError):  # the user has closed the file
        return False


def loses_bits(image: Image.Image) -> bool:
    """Return whether Pillow reads only the upper 8 of 16 bits, as it does of colours.

    Before the pixels are decoded.
    """
    tiles = getattr(image, "tile", None) or []
    return not is_deep(image) and any(";16" in repr(tile[3]) for tile in tiles)


def find_brightest(image: Image.Image) -> float:
    """Find the highest value that is not transparent."""
    values = np.asarray(image)
    key = image.info.get("transparency")
    if isinstance(key, int):
        values = values[values != key]
    return float(values.max()) if values.size else 0.0


def is_deep(image: Image.Image) -> bool:
    """Return whether the pixels have more than 8 bits."""
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def choose_factor(own: Size, size: Size, resize: str) -> int:
    """Choose how many times smaller a picture may be decoded than it is.

    At least twice the size that is wanted is left, of which resizing with antialiasing
    makes nearly the same pixels: the ``reducing_gap`` that Pillow recommends.

    Parameters
    ----------
    own, size : tuple of (int, int)
        Height and width of the upright picture, and those that are wanted.

    resize : {"crop", "pad", "squash"}
        As for :func:`lay_out`.
    """
    part, place = lay_out(own, size, resize)
    scale = min(part.height / place.height, part.width / place.width)
    return max(1, int(scale / REDUCING_GAP))


def draft(image: Image.Image, factor: int) -> None:
    """Have a JPEG decoded at a half, a quarter or an eighth, if it is not loaded yet.

    At most `factor` times smaller. It is libjpeg that scales, which is fast and needs
    no room for all pixels.
    """
    if isinstance(image, JpegImageFile) and factor > 1:
        scale = next(scale for scale in (8, 4, 2) if scale <= factor)
        size = image.width // scale or 1, image.height // scale or 1
        image.draft(None, size)


def decode(
    image: Image.Image, channels: int, white: float = 65535, factor: int = 1
) -> Image.Image:
    """Return the picture upright and opaque, in grey or RGB.

    Parameters
    ----------
    image : PIL image
        Just opened, or in memory.

    channels : {1, 3}
        Grey or RGB.

    white : float, default=65535
        The value of white if the picture has more than 8 bits.

    factor : int, default=1
        How many times smaller a picture may become that is too large for copies.
    """
    # Before the pixels are decoded: `read_shapes` has seen no more than the header.
    turn = _UPRIGHT.get(read_orientation(image))
    image.load()
    n_pixels = image.width * image.height
    if n_pixels <= PIXELS_OF_STRIP:
        flat = _flatten(image, channels, white)
    else:
        factor = factor if n_pixels > LARGE else 1
        flat = _flatten_in_strips(image, channels, white, factor)
    return flat if turn is None else flat.transpose(turn)


def _flatten(image: Image.Image, channels: int, white: float) -> Image.Image:
    """Return the picture opaque, in grey or RGB."""
    opaque = _reduce(image, white) if is_deep(image) else _make_opaque(image)
    mode = "L" if channels == 1 else "RGB"
    # Pillow would copy what has the mode already.
    return opaque if opaque.mode == mode else opaque.convert(mode)


def _flatten_in_strips(
    image: Image.Image, channels: int, white: float, factor: int
) -> Image.Image:
    """Do the same strip by strip, with little memory, and make it smaller."""
    width, height = image.size
    mode = "L" if channels == 1 else "RGB"
    if factor == 1 and image.mode == mode and not image.has_transparency_data:
        return image
    step = factor * max(1, PIXELS_OF_STRIP // (factor * width))
    size = -(-width // factor), -(-height // factor)
    whole = Image.new(mode, size)
    for top in range(0, height, step):
        strip = image.crop((0, top, width, min(height, top + step)))
        flat = _flatten(strip, channels, white)
        part = flat.reduce(factor) if factor > 1 else flat
        whole.paste(part, (0, top // factor))
    return whole


def resize_picture(
    image: Image.Image,
    size: Size,
    resize: str,
    interpolation: str = "bilinear",
    fill: Sequence[float] = GREY,
) -> NDArray[np.uint8]:
    """Bring a picture to a size, with antialiasing.

    Parameters
    ----------
    image : PIL image
        Grey (mode ``"L"``) or RGB.

    size : tuple of (int, int)
        Height and width that are wanted.

    resize : {"crop", "pad", "squash"}
        As for :func:`lay_out`.

    interpolation : {"bilinear", "bicubic"}, default="bilinear"
        Kind of resizing.

    fill : sequence of three floats, default=grey
        Red, green and blue of padding, in [0, 1]; for grey pictures, their mean.

    Returns
    -------
    ndarray of shape (height, width) or (height, width, 3), uint8
    """
    own = (image.height, image.width)
    part, place = lay_out(own, size, resize)
    if part.size != own:
        # Not `box=` of resize, which looks at pixels beyond the box.
        image = image.crop(
            (part.left, part.top, part.columns.stop, part.rows.stop),
        )
    how = Image.Resampling[interpolation.upper()]
    resized = image.resize((place.width, place.height), how)
    pixels = np.asarray(resized, dtype=np.uint8)
    if place.size == size:
        return pixels
    padded = np.empty((*size, *pixels.shape[2:]), dtype=np.uint8)
    padded[:] = np.round(255 * (np.mean(fill) if pixels.ndim == 2 else np.array(fill)))
    padded[place.rows, place.columns] = pixels
    return padded


def _make_opaque(image: Image.Image) -> Image.Image:
    """Return the picture with transparent parts over white."""
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def _reduce(image: Image.Image, white: float) -> Image.Image:
    """Return the picture with 8 bits, transparent parts over white."""
    with np.errstate(invalid="ignore"):  # NaN is refused below
        values = np.asarray(image).astype(np.float64)
    key = image.info.get("transparency")
    if isinstance(key, int):
        values[values == key] = white
    if not (values.min() >= 0 and values.max() <= white < np.inf):
        raise ValueError(
            f"its values, from {values.min():g} to {values.max():g}, are outside "
            f"[0, {white:g}]; pass the value of white as max_value."
        )
    return Image.fromarray(np.floor(values * 255 / white + 0.5).astype(np.uint8))
