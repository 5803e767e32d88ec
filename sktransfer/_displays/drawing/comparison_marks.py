"""The drawing of a comparison of models: points, bars, a legend and two axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from sktransfer._displays.drawing.captions import percent, shorten
from sktransfer._displays.drawing.panels import COLORS, MARKERS, measure_axes

# Median, least and greatest value over the seeds of a model.
Range: TypeAlias = tuple[float, float, float]

X_LABELS = {
    "seconds": "Fit seconds",
    "n_parameters": "Parameters trained",
    "peak_memory": "Peak memory, MiB",
}
Y_LABELS = {"accuracy": "Accuracy", "f1_macro": "Macro F1"}
# Inches: size of the panel, width of a character of 10 points in the legend, and width
# of the marker before its text.
PANEL, CHARACTER, MARKER_WIDTH = (5.8, 4.2), 0.078, 0.6
# Points of the text of a legend inside the axes, depending on the room there is.
MOST_POINTS, LEAST_POINTS = 8.5, 5.0
MOST_CHARACTERS = 32
# On a log axis; with fewer, matplotlib skips decades.
MOST_TICKS = 20


def spans_decades(values: Sequence[float], ratio: float = 10.0) -> bool:
    """Whether values are positive and span more than a factor of `ratio`."""
    return min(values) > 0 and max(values) / min(values) > ratio


def legend_label(name: str, score: Range, n_seeds: int, y_metric: str) -> str:
    """The two lines of a model in the legend: its name, then score and seeds."""
    median, least, greatest = (
        percent(value, 1) if y_metric == "accuracy" else f"{value:.3f}"
        for value in score
    )
    text = f"{median}, 1 seed"
    if n_seeds > 1:
        text = f"{median} ({least} to {greatest}), {n_seeds} seeds"
    return f"{shorten(name, MOST_CHARACTERS)}\n{text}"


def legend_title(n_seeds: Mapping[str, int], y_metric: str) -> str:
    """The title of the legend: what its numbers are."""
    has_seeds = max(n_seeds.values()) > 1
    return Y_LABELS[y_metric] + (", median (least to greatest)" if has_seeds else "")


def figure_size(title: str, labels: Sequence[str]) -> tuple[float, float]:
    """Width and height in inches of a figure that has room for the legend."""
    width, height = PANEL
    return width + CHARACTER * _longest([title, *labels]), height


def draw_model(
    ax: Any,
    i: int,
    seeds: tuple[Sequence[float], Sequence[float]],
    spreads: tuple[Range, Range],
    label: str,
) -> None:
    """Draw a point for each seed, and the median with its bars.

    Parameters
    ----------
    ax : matplotlib Axes
        Where to draw.

    i : int
        Number of the model, from 0; it determines colour and marker.

    seeds : tuple of two sequences of float
        Values along x and along y, one per seed.

    spreads : tuple of two tuples of float
        Median, least and greatest value along x and along y.

    label : str
        Text in the legend.
    """
    color = COLORS[i % len(COLORS)]
    # With more models than colours, a colour is used again with another marker.
    marker = MARKERS[(i + i // len(COLORS)) % len(MARKERS)]
    ax.scatter(*seeds, s=25, color=color, marker=marker, alpha=0.35, linewidths=0)
    x, y = spreads
    ax.errorbar(
        x[0],
        y[0],
        xerr=_reach(x),
        yerr=_reach(y),
        color=color,
        marker=marker,
        markersize=9,
        markeredgecolor="white",
        markeredgewidth=0.7,
        linestyle="none",
        elinewidth=1.2,
        capsize=4,
        capthick=1.2,
        label=label,
    )


def _reach(found: Range) -> list[list[float]] | None:
    """Lengths of an error bar below and above the median; None for no bar."""
    median, least, greatest = found
    return None if least == greatest else [[median - least], [greatest - median]]


def draw_legend(ax: Any, title: str, labels: Sequence[str], is_alone: bool) -> None:
    """Draw the legend: beside the axes if they are alone in the figure, else inside."""
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    if not is_alone:
        title = title.replace(", ", ",\n")
        size = _font_size(measure_axes(ax)[0], [title, *labels])
        place = {"loc": "best", "fontsize": size, "title_fontsize": size}
    ax.legend(title=title, alignment="left", frameon=not is_alone, **place)


def _font_size(width: float, texts: Sequence[str]) -> float:
    """Size in points at which the longest line fits into a width in inches."""
    points = 10 * (width - MARKER_WIDTH) / (CHARACTER * _longest(texts))
    return min(MOST_POINTS, max(LEAST_POINTS, points))


def _longest(texts: Sequence[str]) -> int:
    """Number of characters of the longest line."""
    return max(map(len, "\n".join(texts).split("\n")))


def set_axes(ax: Any, x: str, y_metric: str, values: Sequence[float]) -> None:
    """Set scales, ticks and labels; `values` are all values along x."""
    from matplotlib.ticker import (
        EngFormatter,
        FuncFormatter,
        LogLocator,
        NullFormatter,
        PercentFormatter,
    )

    if spans_decades(values):
        ax.set_xscale("log")
        few = not spans_decades(values, 1000)
        ax.xaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if few else (1,), numticks=MOST_TICKS)
        )
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_xlim(0, 1.05 * max(values) or 1)
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    ax.xaxis.set_major_formatter(EngFormatter() if x == "n_parameters" else plain)
    ax.set_ylim(top=min(1.02, ax.get_ylim()[1]))
    if y_metric == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.set(xlabel=X_LABELS[x], ylabel=Y_LABELS[y_metric])
    ax.grid(alpha=0.3)
