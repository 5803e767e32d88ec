"""A grid of images with captions, for images of 8 to 512 pixels."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sktransfer._displays.drawing.captions import Caption
from sktransfer._displays.drawing.panels import (
    make_axes,
    make_panels,
    measure_axes,
    remember_drawn,
    remove_drawn,
)

# Width and height in inches of an image with three lines of caption above it.
CELL = (1.75, 2.2)
FONT_SIZE = 9
# Characters that fit into a line above an image of that width.
MOST_CHARACTERS = 20
# Images of fewer pixels than this are not smoothed, so that their pixels stay visible.
SMALL = 64
# Inches: the title needs this width even if there are few images.
LEAST_WIDTH = 5.0
# In points: captions shrink in narrow axes, but smaller text is illegible.
LEAST_FONT_SIZE = 4
# Characters per inch of a title of 12 points, and inches per line.
TITLE_CHARACTERS, TITLE_LINE = 10, 0.2


def draw_image(
    ax: Any,
    image: np.ndarray,
    caption: Caption,
    *,
    font_size: float = FONT_SIZE,
    **im_kw: Any,
) -> Any:
    """Draw one image, (height, width[, 3]) in [0, 1], into axes without ticks."""
    options = {
        "cmap": "gray",
        "vmin": 0,
        "vmax": 1,
        "interpolation": "nearest" if max(image.shape[:2]) < SMALL else "antialiased",
    }
    artist = ax.imshow(image, **{**options, **im_kw})
    ax.set(xticks=[], yticks=[])
    # Class names may contain dollar signs, which are not formulas.
    ax.set_title(
        caption.text, fontsize=font_size, color=caption.color, parse_math=False
    )
    for spine in ax.spines.values():
        spine.set(
            visible=caption.framed,
            color=caption.color,
            linewidth=3 if caption.framed else 0,
        )
    return artist


def draw_grid(
    ax: Any,
    images: Sequence[np.ndarray],
    captions: Sequence[Caption],
    n_columns: int,
    caller: str,
    *,
    title: str | None = None,
    im_kw: Mapping[str, Any] | None = None,
) -> tuple[Any, np.ndarray, list[Any]]:
    """Draw images in a grid, in the place of `ax` or in a new figure.

    Without images, only the title is drawn, in the middle.

    Returns
    -------
    outer : matplotlib Axes
        Invisible axes around the grid.

    panels : ndarray of matplotlib Axes, shape (n_rows, n_columns)
        Axes without an image are invisible.

    artists : list of AxesImage
    """
    if not len(images):
        return draw_text(ax, title or "", caller), np.empty((0, 0), object), []
    n_columns = min(n_columns, len(images))
    n_rows = -(-len(images) // n_columns)
    is_own = ax is None
    width = max(CELL[0], LEAST_WIDTH / n_columns)
    if not is_own:
        width = measure_axes(ax)[0] / n_columns
    font_size = max(LEAST_FONT_SIZE, FONT_SIZE * min(1, width / CELL[0]))
    lines = wrap_title(title, width * n_columns)
    title_height = TITLE_LINE * (len(lines) + 1) if lines else 0.0
    outer, panels = make_panels(
        ax,
        n_rows,
        n_columns,
        (width, CELL[1]),
        caller,
        margin=title_height,
        title="" if is_own else "\n".join(lines),
        title_height=title_height,
        text_height=caption_height(captions, font_size),
    )
    if lines and is_own:
        outer.figure.suptitle("\n".join(lines), parse_math=False)
    artists = [
        draw_image(panel, image, caption, font_size=font_size, **(im_kw or {}))
        for panel, image, caption in zip(panels.ravel(), images, captions, strict=False)
    ]
    for panel in panels.ravel()[len(images) :]:
        panel.set_axis_off()
    return outer, panels, artists


def caption_height(captions: Sequence[Caption], font_size: float) -> float:
    """Height in inches of the tallest caption, with the space around it."""
    n_lines = max(caption.text.count("\n") + 1 for caption in captions)
    return (n_lines * 1.25 + 1) * font_size / 72


def wrap_title(title: str | None, width: float) -> list[str]:
    """Break a title into lines that fit into a width in inches."""
    return textwrap.wrap(title or "", max(20, int(TITLE_CHARACTERS * width)))


def draw_text(ax: Any, text: str, caller: str) -> Any:
    """Write a sentence in the middle of `ax` or of a new figure."""
    outer = make_axes(ax, LEAST_WIDTH, 1.5, caller)
    remove_drawn(outer)
    outer.set_axis_off()
    written = outer.text(
        0.5,
        0.5,
        textwrap.fill(text, int(TITLE_CHARACTERS * measure_axes(outer)[0])),
        ha="center",
        va="center",
        fontsize=12,
        transform=outer.transAxes,
        parse_math=False,
    )
    remember_drawn(outer, [written])
    return outer
