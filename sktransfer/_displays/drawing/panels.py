"""Figures, axes and panels to draw into; matplotlib is imported on first use."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from sklearn.utils import _optional_dependencies

# The palette of Okabe and Ito, which colour-blind readers can tell apart
# (https://jfly.uni-koeln.de/color/), with the light colours last.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "D", "^", "v", "P")


def check_matplotlib(caller: str) -> None:
    """Raise an ImportError naming `caller` unless matplotlib is installed."""
    _optional_dependencies.check_matplotlib_support(caller)


def make_figure(width: float, height: float, caller: str) -> Any:
    """Make an empty pyplot figure; `width` and `height` are in inches."""
    check_matplotlib(caller)
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")


def make_axes(ax: Any, width: float, height: float, caller: str) -> Any:
    """Return `ax`, or the axes of a new figure of this size in inches."""
    if ax is None:
        return make_figure(width, height, caller).subplots()
    check_matplotlib(caller)
    return ax


def is_constrained(figure: Any) -> bool:
    """Whether the figure makes room for titles and labels automatically."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)


def measure_axes(ax: Any) -> tuple[float, float]:
    """Width and height of the area of `ax`, in inches."""
    box = ax.get_position(original=True)
    # The bounding box, because a subfigure has no size in inches.
    whole = ax.figure.bbox
    return (
        float(box.width * whole.width / ax.figure.dpi),
        float(box.height * whole.height / ax.figure.dpi),
    )


def make_panels(
    ax: Any,
    n_rows: int,
    n_columns: int,
    cell: tuple[float, float],
    caller: str,
    *,
    margin: float = 0.0,
    title: str = "",
    title_height: float = 0.0,
    title_options: Mapping[str, Any] | None = None,
    text_height: float = 0.0,
    **options: Any,
) -> tuple[Any, np.ndarray]:
    """Split `ax`, or a new figure, into panels.

    Parameters
    ----------
    ax : matplotlib Axes or None
        Axes that the panels replace; they stay, but are invisible. What an earlier
        call drew in their place is removed.

    n_rows, n_columns : int
        Number of panels.

    cell : tuple of float
        Width and height of a panel of a new figure, in inches.

    caller : str
        Name for the error that is raised without matplotlib.

    margin : float, default=0.0
        Height in inches that a new figure has above its panels, for a title.

    title : str, default=""
        Written above the panels, inside `ax`.

    title_height : float, default=0.0
        Height in inches that is kept free for the title.

    title_options : mapping, default=None
        Options for the text of the title.

    text_height : float, default=0.0
        Height in inches of the text above each panel. It is kept free in figures whose
        layout does not make room automatically.

    **options
        Options for ``GridSpecFromSubplotSpec.subplots``.

    Returns
    -------
    outer : matplotlib Axes
        `ax`, or new axes around all panels.

    panels : ndarray of matplotlib Axes, shape (n_rows, n_columns)
    """
    # Not a SubFigure: it is laid out on its own, and its axes would not line up with
    # the neighbours of `ax`.
    width, height = cell
    outer = make_axes(ax, width * n_columns, height * n_rows + margin, caller)
    remove_drawn(outer)
    outer.set_axis_off()
    place = _find_place(outer)
    inner = measure_axes(outer)[1]
    space = {}
    if text_height and not is_constrained(outer.figure):
        title_height = title_height + text_height if title else 0
        left = max(inner - title_height - (n_rows - 1) * text_height, 0.1 * inner)
        space["hspace"] = text_height * n_rows / left  # a fraction of a panel's height
    if title:
        # In a row of its own: a title of the outer axes would overlap the text above
        # the panels.
        shares = [title_height, max(inner - title_height, title_height)]
        rows = place.subgridspec(2, 1, height_ratios=shares, hspace=0)
        row = outer.figure.add_subplot(rows[0])
        _write_title(row, title, title_options or {})
        remember_drawn(outer, [row])
        place = rows[1]
    grid = place.subgridspec(n_rows, n_columns, **space)
    panels: np.ndarray = grid.subplots(squeeze=False, **options)
    remember_drawn(outer, panels.ravel())
    return outer, panels


def _find_place(ax: Any) -> Any:
    """Find the grid cell of axes; axes that were placed by hand get a grid of one."""
    place = ax.get_subplotspec()
    if place is None:
        box = ax.get_position()
        sides = {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
        place = ax.figure.add_gridspec(1, 1, **sides)[0]
    return place


def remember_drawn(ax: Any, artists: Iterable[Any]) -> None:
    """Keep a list of what was drawn in the place of axes, for `remove_drawn`."""
    # An attribute of the user's axes: the next display to draw there finds it, and it
    # lives as long as they do. A registry in this module would keep figures alive.
    ax.sktransfer_drawn = [*getattr(ax, "sktransfer_drawn", ()), *artists]


def remove_drawn(ax: Any) -> None:
    """Remove what was drawn in the place of axes, so that it is free again."""
    for artist in vars(ax).pop("sktransfer_drawn", ()):
        remove_drawn(artist)
        for image in getattr(artist, "images", ()):
            if image.colorbar is not None:  # it has axes of its own, which would stay
                image.colorbar.remove()
        # The caller may have cleared the axes or the figure in the meantime.
        places = artist.figure.axes if artist.figure is not None else ()
        if artist in (*places, *ax.get_children()):
            artist.remove()


def clear_drawn(ax: Any) -> None:
    """Empty axes that a display was drawn into; leave all others unchanged.

    Otherwise they would keep the scales and limits of the first drawing.
    """
    if getattr(ax, "sktransfer_drawn", ()):
        remove_drawn(ax)
        ax.clear()
        ax.set_axis_on()


def _write_title(row: Any, text: str, options: Mapping[str, Any]) -> None:
    """Write a title into invisible axes of its own."""
    row.set_axis_off()
    is_left, is_middle = options.get("ha") == "left", options.get("va") == "center"
    place = {"x": 0 if is_left else 0.5, "y": 0.5 if is_middle else 1, "s": text}
    look = {"ha": "center", "va": "top", "fontsize": 12, **options}
    # Class names may contain dollar signs, which are not formulas.
    row.text(**place, **look, transform=row.transAxes, parse_math=False)
