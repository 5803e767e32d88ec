"""One rule for images of any shape: ``resize="crop"``, ``"pad"`` or ``"squash"``.

It is the same for files, which Pillow resizes, and for arrays, which torch resizes.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from sktransfer._images.shapes import Shape

RESIZE = ("crop", "pad", "squash")

# Images are blurred, as no photograph is, once each pixel has become so many.
MUCH_ENLARGED = 4

# Height and width.
Size: TypeAlias = tuple[int, int]


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int

    @property
    def size(self) -> Size:
        """Height and width."""
        return self.height, self.width

    @property
    def rows(self) -> slice:
        """Its rows in the image."""
        return slice(self.top, self.top + self.height)

    @property
    def columns(self) -> slice:
        """Its columns in the image."""
        return slice(self.left, self.left + self.width)


def centre_box(size: Size, proportions: Size) -> Box:
    """Find the largest part around the centre that has certain proportions.

    Parameters
    ----------
    size : tuple of (int, int)
        Height and width of the whole.

    proportions : tuple of (int, int)
        Height and width, on any scale.
    """
    (height, width), (high, wide) = size, proportions
    if width * high > height * wide:
        inner = height, max(1, round(height * wide / high))
    else:
        inner = max(1, round(width * high / wide)), width
    return Box((height - inner[0]) // 2, (width - inner[1]) // 2, *inner)


def lay_out(own: Size, size: Size, resize: str) -> tuple[Box, Box]:
    """Choose the part of an image that is kept, and its place in the result.

    Parameters
    ----------
    own, size : tuple of (int, int)
        Height and width of the image, and those that are wanted.

    resize : {"crop", "pad", "squash"}
        What to do if their proportions differ. ``"crop"``: keep the centre of the
        image. ``"pad"``: keep all of it, in the centre. ``"squash"``: change its
        proportions.

    Returns
    -------
    part : Box
        The part of the image that is resized.

    place : Box
        The place that it gets in the result.
    """
    part, place = Box(0, 0, *own), Box(0, 0, *size)
    if resize == "crop":
        part = centre_box(own, size)
    elif resize == "pad":
        place = centre_box(size, own)
    return part, place


def frame_shape(shape: Shape, resize: str) -> Shape:
    """Return the shape of the part of an image that becomes the network's square.

    Parameters
    ----------
    shape : tuple of (int, int, int)
        Height, width and channels of an image.

    resize : {"crop", "pad", "squash"}
        ``"crop"``: the square within it; ``"pad"``: the square around it;
        ``"squash"``: itself.
    """
    height, width, channels = shape
    if resize == "squash":
        return shape
    side = (min if resize == "crop" else max)(height, width)
    return side, side, channels


def is_enlarged(shape: Shape, size: int | None, resize: str) -> bool:
    """Return whether a network that sees squares of a size sees images much enlarged.

    To at least twice their height and width, or four times their pixels.

    Parameters
    ----------
    shape : tuple of (int, int, int)
        Height, width and channels of the images.

    size : int or None
        Height and width to which the network resizes images; None if it does not.

    resize : {"crop", "pad", "squash"}
        As for :func:`lay_out`.
    """
    height, width, _ = frame_shape(shape, resize)
    return size is not None and size**2 >= MUCH_ENLARGED * height * width


def stored_shape(shape: Shape, size: int | None, resize: str) -> Shape:
    """Choose the shape to store pictures at of which a network sees squares of a size.

    Pictures of other shapes are brought to it by the same rule, so it is that of the
    part that becomes the square, not that of the pictures.

    Parameters
    ----------
    shape : tuple of (int, int, int)
        Height, width and channels of the pictures.

    size : int or None
        Height and width to which the network resizes images; None if it does not.

    resize : {"crop", "pad", "squash"}
        As for :func:`lay_out`.
    """
    if size is None:
        return shape
    frame = frame_shape(shape, resize)
    # Small pictures are enlarged later, batch by batch. Of large ones the network sees
    # no more than its size; photographs need not fill the memory.
    return frame if min(frame[:2]) <= size else (size, size, shape[2])
