"""Predictions images, chosen and ordered: by lot, by loss, or by their confidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sktransfer._displays.content.predictions import Predictions, name_classes
from sktransfer._displays.drawing.image_grid import Caption
from sktransfer._displays.drawing.panels import (
    WRONG_COLOR,
    WRONG_MARK,
    percent,
    shorten,
)

SHOW = ("all", "wrong", "most_confident_wrong", "least_sure")
# Behind "Prediction: ", as wide as an image of a grid.
NAME_CHARACTERS = 12


def check_show(show: Any) -> None:
    """Raise a ValueError unless `show` is one of `SHOW`."""
    if show not in SHOW:
        raise ValueError(f"show={show!r} must be one of {list(SHOW)}.")


def choose_rows(
    images: Predictions, show: str, n_images: int, random_state: Any
) -> np.ndarray:
    """Rows of the images to show, (n_shown,), in the order in which they are shown."""
    rows = np.arange(len(images.y_true))
    if show in ("wrong", "most_confident_wrong"):
        rows = np.flatnonzero(images.is_wrong)
    if show == "most_confident_wrong":
        return sort_rows(-images.confidences, rows)[:n_images]
    if show == "least_sure":
        return sort_rows(margins(images.proba), rows)[:n_images]
    if len(rows) <= n_images:
        return rows
    # A seed of its own: the same picture every time, and no trace in NumPy's state.
    random = check_random_state(0 if random_state is None else random_state)
    return np.asarray(random.permutation(rows)[:n_images])


def sort_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """The rows sorted by their values, of (n_images,), the least first."""
    return rows[np.argsort(values[rows], kind="stable")]


def margins(proba: np.ndarray) -> np.ndarray:
    """How far the most probable class is ahead of the next, (n_images,)."""
    ordered = np.sort(proba, axis=1)
    return ordered[:, -1] - (ordered[:, -2] if proba.shape[1] > 1 else 0)


def grid_title(images: Predictions, show: str, n_shown: int) -> str:
    """The title of a grid: which images it shows, out of how many."""
    n, n_wrong = len(images.y_true), int(images.is_wrong.sum())
    if not n_shown:
        return f"No wrong predictions among {n} images."
    n_all, what = n, "images" if n > 1 else "image"
    if show in ("wrong", "most_confident_wrong"):
        what = "wrong predictions" if n_wrong > 1 else "wrong prediction"
        n_all, what = n_wrong, f"{what} among {n} images"
    order = {
        "most_confident_wrong": ", the most confident first",
        "least_sure": ", the least sure first",
    }.get(show, ", drawn by lot" if n_shown < n_all else "")
    which = f"{n_shown} of {n_all}" if n_shown < n_all else f"All {n_all}"
    if n_all == 1:
        which, order = "One", ""
    return f"{which} {what}{order}; accuracy {percent(1 - n_wrong / n, 1)}"


def write_captions(
    y_true: np.ndarray,
    y_pred: np.ndarray,
    details: Sequence[str],
    classes: np.ndarray,
    display_labels: Sequence[Any] | None,
) -> list[Caption]:
    """True class, prediction and a detail above each image; wrong ones stand out."""
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
