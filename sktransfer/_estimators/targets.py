"""Which images train and which validate, and with which weight."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import _check_sample_weight

# From this many images on, early_stopping="auto" sets some aside, as scikit-learn's
# HistGradientBoostingClassifier does.
EARLY_STOPPING_FROM = 10_000


def class_factors(
    class_weight: Any, classes: np.ndarray, y: np.ndarray, sample_weight: np.ndarray
) -> np.ndarray:
    """Weight of each class, (n_classes,); "balanced" by the weights of its images."""
    if class_weight != "balanced":
        given: np.ndarray = compute_class_weight(class_weight, classes=classes, y=y)
        return given
    totals = np.bincount(np.searchsorted(classes, y), sample_weight, len(classes))
    counted = totals > 0
    mean = totals.sum() / max(1, counted.sum())
    factors = np.zeros(len(classes))
    factors[counted] = mean / totals[counted]
    return factors


def loss_weights(
    sample_weight: Any, class_weight: Any, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weight of each image in the loss, 1 on average over those that count.

    Parameters
    ----------
    sample_weight : array-like of shape (n_images,) or None
        As the user passed it.

    class_weight : dict, "balanced" or None
        As the user passed it.

    y : ndarray of shape (n_images,)
        Labels.

    Returns
    -------
    weights : ndarray of shape (n_images,), float32
        0 or more.

    by_class : ndarray of shape (n_classes,)
        The part of them that `class_weight` decides, classes sorted.

    Raises
    ------
    ValueError
        If a weight is negative, or fewer than two images have a positive one.
    """
    classes, labels = np.unique(y, return_inverse=True)
    weights = _check_sample_weight(
        sample_weight, y, dtype=np.float64, ensure_non_negative=True
    )
    by_class = class_factors(class_weight, classes, y, weights)
    weights = weights * by_class[labels]
    if weights.min() < 0 or not np.isfinite(weights).all():
        raise ValueError(
            f"class_weight={class_weight!r} must hold finite numbers of 0 or more."
        )
    counted = weights > 0
    if counted.sum() < 2:
        raise ValueError(
            f"sample_weight and class_weight={class_weight!r} leave {counted.sum()} "
            "image(s) with a positive weight; at least 2 are needed."
        )
    normalised: np.ndarray = (weights / weights[counted].mean()).astype(np.float32)
    return normalised, by_class


def split_rows(
    labels: np.ndarray,
    weights: np.ndarray,
    early_stopping: bool | str,
    validation_fraction: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows to train on and, with early stopping, a stratified share to validate on.

    Parameters
    ----------
    labels : ndarray of shape (n_images,)
        Class indices.

    weights : ndarray of shape (n_images,)
        Images of weight 0 are in neither part.

    early_stopping, validation_fraction
        As the estimators take them.

    seed : int
        Of the split.

    Returns
    -------
    train, valid : ndarray of int
        `valid` is None without early stopping.

    Raises
    ------
    ValueError
        If a class would be missing on one side.
    """
    rows = np.flatnonzero(weights > 0)
    stop = early_stopping
    if stop == "auto":
        stop = len(rows) >= EARLY_STOPPING_FROM
    if not stop:
        return rows, None
    # On first use, since it imports much (benchmarks/imports.py).
    from sklearn.model_selection import train_test_split

    try:
        train, valid = train_test_split(
            rows,
            test_size=validation_fraction,
            stratify=labels[rows],
            random_state=seed,
        )
    except ValueError as error:
        raise ValueError(
            f"early_stopping={early_stopping!r} cannot set aside validation_fraction="
            f"{validation_fraction!r} of {len(rows)} images with every class on both "
            f"sides ({error}) Pass early_stopping=False, or X_val and y_val."
        ) from error
    return train, valid
