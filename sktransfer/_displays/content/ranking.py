"""Predictions images, chosen and ordered: by lot, by loss, or by their confidence."""

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
