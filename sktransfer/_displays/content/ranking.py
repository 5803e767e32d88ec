"""Which images to show, and in which order: at random, or sorted by a value."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import check_random_state

from sktransfer._displays.content.predictions import Predictions

SHOW = ("all", "wrong", "most_confident_wrong", "least_sure")


def check_show(show: Any) -> None:
    """Raise a ValueError unless `show` is one of `SHOW`."""
    if show not in SHOW:
        raise ValueError(f"show={show!r} must be one of {list(SHOW)}.")


def choose_rows(
    predictions: Predictions, show: str, n_images: int, random_state: Any
) -> np.ndarray:
    """Return the rows of the images to show, (n_shown,), in their order."""
    rows = np.arange(len(predictions.y_true))
    if show in ("wrong", "most_confident_wrong"):
        rows = np.flatnonzero(predictions.is_wrong)
    if show == "most_confident_wrong":
        return sort_rows(-predictions.confidences, rows)[:n_images]
    if show == "least_sure":
        return sort_rows(margins(predictions.proba), rows)[:n_images]
    if len(rows) <= n_images:
        return rows
    # A fixed seed draws the same images every time, and leaves NumPy's state alone.
    random = check_random_state(0 if random_state is None else random_state)
    return np.asarray(random.permutation(rows)[:n_images])


def sort_rows(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Sort rows by their `values`, of shape (n_images,), in ascending order."""
    return rows[np.argsort(values[rows], kind="stable")]


def margins(proba: np.ndarray) -> np.ndarray:
    """Difference between the two highest probabilities of each image, (n_images,)."""
    ordered = np.sort(proba, axis=1)
    return ordered[:, -1] - (ordered[:, -2] if proba.shape[1] > 1 else 0)
