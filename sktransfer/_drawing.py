"""Drawing: matplotlib on first use, room for panels, and colours for every eye."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn.utils._optional_dependencies import check_matplotlib_support

# Okabe and Ito's, told apart with every kind of colour blindness
# (https://jfly.uni-koeln.de/color/), the light ones last.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00")
MARKERS = ("o", "s", "D", "^", "v", "P")
# Darker than in the palette, so that small text has a contrast of 4.5 on white.
RIGHT_COLOR, WRONG_COLOR = "#005A8C", "#B84E00"
# A mark beside the colour: colour alone is lost on some readers and printers.
RIGHT_MARK, WRONG_MARK = "\N{CHECK MARK}", "\N{BALLOT X}"


def new_figure(width: float, height: float, caller: str) -> Any:
    """An empty pyplot figure, in inches; ImportError naming `caller` without it."""
    check_matplotlib_support(caller)
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")


def axes_in(ax: Any, width: float, height: float, caller: str) -> Any:
    """`ax`, or the axes of a new figure of this size."""
    if ax is None:
        return new_figure(width, height, caller).subplots()
    check_matplotlib_support(caller)
    return ax


def is_constrained(figure: Any) -> bool:
    """Whether the figure makes room for titles and labels by itself."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine)


def size_of(ax: Any) -> tuple[float, float]:
    """Width and height of the place of `ax`, in inches."""
    box = ax.get_position(original=True)
    # Of a subfigure too, which has no size in inches of its own.
    whole = ax.figure.bbox
    return (
        float(box.width * whole.width / ax.figure.dpi),
        float(box.height * whole.height / ax.figure.dpi),
    )


def panels_in(
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
    ax : Axes or None
        Axes whose place the panels take; they stay, invisible, as a frame.

    n_rows, n_columns : int
        Number of panels.

    cell : tuple of float
        Width and height of a panel of a new figure, in inches.

    caller : str
        Named in the error without matplotlib.

    margin : float, default=0.0
        Height in inches above the panels of a new figure, for a title.

    title : str, default=""
        Written above the panels, inside `ax`.

    title_height : float, default=0.0
        Height in inches that panels leave free for it.

    title_options : mapping, default=None
        For the text of the title.

    text_height : float, default=0.0
        Height in inches of what stands above each panel, for which room is left in a
        figure that makes none by itself.

    **options
        For ``GridSpecFromSubplotSpec.subplots``.

    Returns
    -------
    frame : Axes
        `ax`, or axes around all panels.

    panels : ndarray of Axes, shape (n_rows, n_columns)
    """
    width, height = cell
    frame = axes_in(ax, width * n_columns, height * n_rows + margin, caller)
    frame.set_axis_off()
    place = frame.get_subplotspec()
    if place is None:  # axes that were put where they are by hand
        box = frame.get_position()
        sides = {"left": box.x0, "right": box.x1, "bottom": box.y0, "top": box.y1}
        place = frame.figure.add_gridspec(1, 1, **sides)[0]
    inner = size_of(frame)[1]
    space = {}
    if text_height and not is_constrained(frame.figure):
        title_height = title_height + text_height if title else 0
        left = max(inner - title_height - (n_rows - 1) * text_height, 0.1 * inner)
        space["hspace"] = text_height * n_rows / left  # a share of a panel's height
    if title:
        # A row of its own: a title of the frame would stand where those of panels
        # stand, and lower still where neighbours of the frame need room at the top.
        shares = [title_height, max(inner - title_height, title_height)]
        rows = place.subgridspec(2, 1, height_ratios=shares, hspace=0)
        _write_title(frame.figure.add_subplot(rows[0]), title, title_options or {})
        place = rows[1]
    grid = place.subgridspec(n_rows, n_columns, **space)
    panels: np.ndarray = grid.subplots(squeeze=False, **options)
    return frame, panels


def _write_title(row: Any, text: str, options: Mapping[str, Any]) -> None:
    """Write a title into axes of its own, which are not seen, from their top."""
    row.set_axis_off()
    is_left, is_middle = options.get("ha") == "left", options.get("va") == "center"
    place = {"x": 0 if is_left else 0.5, "y": 0.5 if is_middle else 1, "s": text}
    look = {"ha": "center", "va": "top", "fontsize": 12, **options}
    # The name of a class may hold dollar signs.
    row.text(**place, **look, transform=row.transAxes, parse_math=False)


def shortened(name: Any, most: int) -> str:
    """The text of a name in `most` characters, its middle left out where it must."""
    text = " ".join(str(name).split())
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return f"{text[: most - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - tail :]}"
