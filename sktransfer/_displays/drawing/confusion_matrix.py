"""A confusion matrix, legible from 2 to 100 classes, with some cells outlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.isotonic import isotonic_regression

from sktransfer._displays.drawing.captions import WRONG_COLOR, percent, shorten
from sktransfer._displays.drawing.panels import measure_axes

# As many classes as have room for their counts, and for their names.
MOST_COUNTS, MOST_NAMES = 20, 60
# As many names as have room in 7 points; of a few more classes all have, in 5.
MOST_LARGE_NAMES = 40
# As many classes as have room for the number of a pair beside a count.
MOST_ROOMY = 12
NAME_CHARACTERS = 14
# On white, a contrast of 4.5.
GREY = "#767676"


def draw_matrix(
    ax: Any,
    counts: np.ndarray,
    names: Sequence[str],
    outlined: Sequence[tuple[int, int]],
    cmap: Any,
) -> Any:
    """Draw counts (n_classes, n_classes); outline cells (true, predicted), numbered."""
    from matplotlib.colors import PowerNorm

    n = len(counts)
    # Of the square root: on a linear scale the diagonal outshines all confusions.
    norm = PowerNorm(0.5, vmin=0, vmax=max(1, counts.max()))
    artist = ax.imshow(counts, cmap=cmap, norm=norm, interpolation="nearest")
    write_names(ax, names, [place for cell in outlined for place in cell])
    ax.set(xlabel="Predicted label", ylabel="True label")
    n_images, n_right = int(counts.sum()), int(np.trace(counts))
    said = "" if outlined else "\nNo confusions."
    accuracy = percent(n_right / n_images, 1)
    ax.set_title(f"{n_images} images, accuracy {accuracy}{said}")
    if n <= MOST_COUNTS:
        write_counts(ax, artist)
    else:
        ax.figure.colorbar(artist, ax=ax, shrink=0.6, label="Images")
    for number, (true, predicted) in enumerate(outlined, start=1):
        outline(ax, true, predicted, str(number), is_roomy=n <= MOST_ROOMY)
    return artist


def write_names(ax: Any, names: Sequence[str], first: Sequence[int]) -> None:
    """Name classes on both sides, those in `first` where there is no room for all."""
    from matplotlib.transforms import Affine2D

    n = len(names)
    most = MOST_NAMES if n <= MOST_NAMES else MOST_LARGE_NAMES
    stand = spread_out(n, most, first)
    shown = [shorten(names[place], NAME_CHARACTERS) for place in stand]
    font_size = 9.0 if n <= MOST_COUNTS else 7.0
    if MOST_LARGE_NAMES < n <= MOST_NAMES:
        font_size = max(5, font_size * MOST_LARGE_NAMES / n)
    look = {"fontsize": font_size, "parse_math": False}
    is_upright = max(map(len, shown)) * n > 30
    ax.set_xticks(list(stand), shown, rotation=90 if is_upright else 0, **look)
    ax.set_yticks(list(stand), shown, **look)
    moves = [there - place for place, there in stand.items()]
    for x, y, move in zip(
        ax.get_xticklabels(), ax.get_yticklabels(), moves, strict=True
    ):
        # The tick stays at its class, the name beside it moves, in units of cells.
        x.set_transform(Affine2D().translate(move, 0) + x.get_transform())
        y.set_transform(Affine2D().translate(0, move) + y.get_transform())


def spread_out(n: int, most: int, first: Sequence[int]) -> dict[int, float]:
    """Which of the places 0 to n-1 are named, about `most`, and where the names stand.

    Those in `first` always are, as far as `most` allows, and move where they are too
    close to each other; others fill the room that is left, evenly.
    """
    if n <= most:
        return {place: float(place) for place in range(n)}
    apart = n / most
    kept = np.sort(list(dict.fromkeys(first))[:most])
    # The least moves after which neighbours are this far apart are an isotonic fit.
    offsets = apart * np.arange(len(kept))
    # In a corner they may stand out a little.
    low, high = -apart, n - 1 + apart - apart * (len(kept) - 1)
    there = offsets
    if len(kept):
        there = offsets + isotonic_regression(kept - offsets, y_min=low, y_max=high)
    stand = dict(zip(kept.tolist(), there.tolist(), strict=True))
    for place in range(n):
        if all(abs(place - other) >= apart for other in stand.values()):
            stand[place] = float(place)
    return dict(sorted(stand.items()))


def write_counts(ax: Any, artist: Any) -> None:
    """Write each count into its cell, in a size that fits."""
    counts = artist.get_array()
    n = len(counts)
    n_digits = len(str(counts.max()))
    # In points; a digit is as wide as two thirds of its size.
    room = 72 * min(measure_axes(ax)) / n
    font_size = float(np.clip(room / (0.67 * n_digits), 4, 10))
    for true, predicted in np.ndindex(n, n):
        count = int(counts[true, predicted])
        *color, _ = artist.cmap(artist.norm(count))
        # Relative luminance, roughly; zeros are there, but not in the way.
        is_dark = float(np.dot(color, (0.21, 0.72, 0.07))) < 0.45
        ax.text(
            predicted,
            true,
            str(count),
            ha="center",
            va="center",
            fontsize=font_size,
            color="white" if is_dark else "black" if count else GREY,
        )


def outline(ax: Any, true: int, predicted: int, text: str, *, is_roomy: bool) -> None:
    """Outline one cell; its number stands in its corner, or beside a small one."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    # Seen on dark cells too.
    halo = [withStroke(linewidth=4, foreground="white")]
    corner = place = (predicted - 0.5, true - 0.5)
    options = {"xytext": (4, -3), "ha": "left", "va": "top", "fontsize": 7}
    if not is_roomy:
        place = (predicted + 0.5, true)
        options = {"xytext": (3, 0), "ha": "left", "va": "center", "fontsize": 8}
    ax.add_patch(
        Rectangle(
            corner,
            1,
            1,
            fill=False,
            edgecolor=WRONG_COLOR,
            linewidth=2,
            path_effects=halo,
            zorder=3,
        )
    )
    ax.annotate(
        text,
        place,
        textcoords="offset points",
        color=WRONG_COLOR,
        fontweight="bold",
        path_effects=halo,
        zorder=4,
        **options,
    )
