"""What is written beside images: titles, captions, names and percentages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sktransfer._displays.content.predictions import Predictions, name_classes

# Darker than the orange of `COLORS`, so that small text has a contrast of 4.5 on white.
WRONG_COLOR = "#B84E00"
# A mark as well: some readers and printers do not show colours.
WRONG_MARK = "\N{BALLOT X}"
# After "Prediction: ", this fits above an image of a grid.
NAME_CHARACTERS = 12


@dataclass(frozen=True)
class Caption:
    """The text above an image and its colour; `framed` adds a frame to the image."""

    text: str
    color: str = "black"
    framed: bool = False


def write_captions(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    details: Sequence[str],
    classes: np.ndarray,
    display_labels: Sequence[Any] | None,
) -> list[Caption]:
    """Write true class, prediction and a detail of each image; mark wrong ones."""
    names = short_names(classes, display_labels)
    return [
        Caption(
            f"True: {names[true]}\nPrediction: {names[predicted]}\n"
            + (detail if true == predicted else f"{WRONG_MARK} {detail}"),
            color="black" if true == predicted else WRONG_COLOR,
            framed=true != predicted,
        )
        for true, predicted, detail in zip(
            y_true.tolist(), y_pred.tolist(), details, strict=True
        )
    ]


def short_names(
    classes: np.ndarray, display_labels: Sequence[Any] | None
) -> dict[Any, str]:
    """The short name of each label."""
    names = name_classes(classes, display_labels)
    return {
        label: shorten(name, NAME_CHARACTERS)
        for label, name in zip(classes.tolist(), names, strict=True)
    }


def grid_title(predictions: Predictions, show: str, n_shown: int) -> str:
    """The title of a grid: which images it shows, out of how many."""
    n, n_wrong = len(predictions.y_true), int(predictions.is_wrong.sum())
    if not n_shown:
        return f"No wrong predictions among {n} images."
    n_all, what = n, "images" if n > 1 else "image"
    if show in ("wrong", "most_confident_wrong"):
        what = "wrong predictions" if n_wrong > 1 else "wrong prediction"
        n_all, what = n_wrong, f"{what} among {n} images"
    order = {
        "most_confident_wrong": ", the most confident first",
        "least_sure": ", the least sure first",
    }.get(show, ", drawn at random" if n_shown < n_all else "")
    which = f"{n_shown} of {n_all}" if n_shown < n_all else f"All {n_all}"
    if n_all == 1:
        which, order = "One", ""
    return f"{which} {what}{order}; accuracy {percent(1 - n_wrong / n, 1)}"


def shorten(name: Any, most: int) -> str:
    """Shorten the text of a name to `most` characters by leaving out its middle."""
    text = " ".join(str(name).split())
    if len(text) <= most:
        return text
    tail = (most - 1) // 3
    return f"{text[: most - 1 - tail]}\N{HORIZONTAL ELLIPSIS}{text[len(text) - tail :]}"


def percent(fraction: float, n_decimals: int = 0) -> str:
    """A fraction of 1 as text; near 0 and near 1 it keeps a decimal."""
    if 0 < fraction < 0.001:
        return "< 0.1 %"
    if 0.999 < fraction < 1:  # "100.0 %" would say that nothing is missing
        return "> 99.9 %"
    if 0 < fraction < 0.01 or 0.99 < fraction < 1:
        n_decimals = max(n_decimals, 1)
    return f"{100 * fraction:.{n_decimals}f} %"
