"""A confusion matrix that is legible up to 100 classes, with some cells outlined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.metrics import ConfusionMatrixDisplay

from sktransfer._displays.drawing.captions import WRONG_COLOR, percent, shorten
from sktransfer._displays.drawing.panels import measure_axes

# Up to this many classes, there is room for all counts, and for all names.
MOST_COUNTS, MOST_NAMES = 20, 60
# There is room for this many names of 7 points; up to `MOST_NAMES`, they are smaller.
MOST_LARGE_NAMES = 40
# Up to this many classes, the number of a pair fits beside a count.
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
) -> None:
    """Draw counts (n_classes, n_classes); outline cells (true, predicted), numbered."""
    from matplotlib.colors import PowerNorm

    n = len(counts)
    has_counts = n <= MOST_COUNTS
    # On a linear scale the diagonal would leave all confusions pale.
    norm = PowerNorm(0.5, vmin=0, vmax=max(1, counts.max()))
    matrix = ConfusionMatrixDisplay(counts).plot(
        ax=ax,
        cmap=cmap,
        include_values=has_counts,
        values_format="d",
        colorbar=False,
        im_kw={"norm": norm},
        text_kw={"fontsize": count_size(ax, counts)},
    )
    if has_counts:
        color_counts(matrix)
    else:
        ax.figure.colorbar(matrix.im_, ax=ax, shrink=0.6, label="Images")
    write_names(ax, names)
    n_images, n_right = int(counts.sum()), int(np.trace(counts))
    ending = "" if outlined else "\nNo confusions."
    accuracy = percent(n_right / n_images, 1)
    ax.set_title(f"{n_images} images, accuracy {accuracy}{ending}")
    for number, (true, predicted) in enumerate(outlined, start=1):
        outline(ax, true, predicted, str(number), is_roomy=n <= MOST_ROOMY)


def count_size(ax: Any, counts: np.ndarray) -> float:
    """Size in points at which every count fits into its cell."""
    room = 72 * min(measure_axes(ax)) / len(counts)
    # A digit is as wide as two thirds of its size.
    return float(np.clip(room / (0.67 * len(str(counts.max()))), 4, 10))


def color_counts(matrix: ConfusionMatrixDisplay) -> None:
    """Make counts light on dark cells: scikit-learn assumes a linear scale."""
    for cell, text in np.ndenumerate(matrix.text_):
        count = matrix.confusion_matrix[cell]
        *color, _ = matrix.im_.cmap(matrix.im_.norm(count))
        # Relative luminance, roughly.
        is_dark = float(np.dot(color, (0.21, 0.72, 0.07))) < 0.45
        # Most cells hold zeros, which must not distract from the others.
        text.set_color("white" if is_dark else "black" if count else GREY)


def write_names(ax: Any, names: Sequence[str]) -> None:
    """Name the classes on both sides: all, or every second, third and so on."""
    n = len(names)
    step = 1 if n <= MOST_NAMES else -(-n // MOST_LARGE_NAMES)
    shown = [shorten(name, NAME_CHARACTERS) for name in names[::step]]
    font_size = 9.0 if n <= MOST_COUNTS else 7.0
    if MOST_LARGE_NAMES < n <= MOST_NAMES:
        font_size = max(5, font_size * MOST_LARGE_NAMES / n)
    # Class names may contain dollar signs, which are not formulas.
    look = {"fontsize": font_size, "parse_math": False}
    is_upright = max(map(len, shown)) * n > 30
    ax.set_xticks(range(0, n, step), shown, rotation=90 if is_upright else 0, **look)
    ax.set_yticks(range(0, n, step), shown, **look)


def outline(ax: Any, true: int, predicted: int, text: str, *, is_roomy: bool) -> None:
    """Outline a cell, with a number in its corner, or beside it if it is small."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    # White around the line makes it visible on dark cells.
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
