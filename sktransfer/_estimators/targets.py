"""Labels and weights: checked, balanced, and split into training and validation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from numbers import Real
from typing import Any

import numpy as np
from sklearn.utils import compute_class_weight
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    column_or_1d,
)

from sktransfer._feedback import warn
from sktransfer._images.containers import is_missing

# early_stopping="auto" sets images aside if there are at least this many, as
# scikit-learn's HistGradientBoostingClassifier does.
EARLY_STOPPING_FROM = 10_000


def refuse_bad_labels(name: str, y: Any) -> None:
    """Raise if labels cannot be indexed, or if some are missing among others.

    Parameters
    ----------
    name : str
        What the user calls them.

    y : array-like or None
        The labels. scikit-learn checks all else, and finds NaN among numbers.

    Raises
    ------
    TypeError
        If `y` is an iterator, a set or a mapping.
    ValueError
        If a label is missing.
    """
    if isinstance(y, (Iterator, Set, Mapping)):
        raise TypeError(
            f"{name} is a {type(y).__name__}; pass a list, such as list({name})."
        )
    is_vector = getattr(y, "dtype", None) == np.dtype(object) and len(y.shape) == 1
    if not is_vector and not isinstance(y, (list, tuple)):
        return
    labels = list(y)
    first = next((i for i, label in enumerate(labels) if is_missing(label)), None)
    if first is None:
        return
    are_numbers = all(isinstance(label, Real) for label in labels)
    if not are_numbers:
        raise ValueError(
            f"{name}[{first}] is missing ({labels[first]!r}); leave out the images "
            "that have no label."
        )


def weigh_classes(
    class_weight: Any, classes: np.ndarray, y: np.ndarray, sample_weight: np.ndarray
) -> np.ndarray:
    """Weigh each class, (n_classes,); "balanced" counts the weights of its images.

    compute_class_weight can do that only in newer releases of scikit-learn.
    """
    if class_weight != "balanced":
        given: np.ndarray = compute_class_weight(class_weight, classes=classes, y=y)
        return given
    totals = np.bincount(np.searchsorted(classes, y), sample_weight, len(classes))
    counted = totals > 0
    mean = totals.sum() / max(1, counted.sum())
    factors = np.zeros(len(classes))
    factors[counted] = mean / totals[counted]
    return factors


def weigh_images(
    sample_weight: Any, class_weight: Any, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weigh each image in the loss, 1 on average over those with any weight.

    Parameters
    ----------
    sample_weight : array-like of shape (n_images,) or None
        As for the estimators.

    class_weight : dict, "balanced" or None
        As for the estimators.

    y : ndarray of shape (n_images,)
        Labels.

    Returns
    -------
    weights : ndarray of shape (n_images,), float32
        0 or more.

    by_class : ndarray of shape (n_classes,)
        The factor that `class_weight` contributes, classes sorted.

    Raises
    ------
    ValueError
        If a weight is negative, or fewer than two images have a positive one.
    """
    classes, labels = np.unique(y, return_inverse=True)
    weights = _check_sample_weight(
        sample_weight, y, dtype=np.float64, ensure_non_negative=True
    )
    by_class = weigh_classes(class_weight, classes, y, weights)
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
    """Split rows into training and, with early stopping, a stratified validation set.

    Parameters
    ----------
    labels : ndarray of shape (n_images,)
        Class indices.

    weights : ndarray of shape (n_images,)
        Images of weight 0 are in neither part.

    early_stopping, validation_fraction
        As for the estimators.

    seed : int
        Seeds the split.

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
    # Imported on first use, because it loads many modules (benchmarks/imports.py).
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


def check_validation_targets(
    y_val: Any,
    sample_weight_val: Any,
    n_images: int,
    classes: np.ndarray,
    by_class: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Check the labels and weights of the user's validation images.

    Parameters
    ----------
    y_val, sample_weight_val : array-like of shape (n_images,)
        As for the estimators; the weights may be None.

    n_images : int
        Number of validation images.

    classes : ndarray of shape (n_classes,)
        Labels of the training images, sorted.

    by_class : ndarray of shape (n_classes,)
        As :func:`weigh_images` returns it.

    Returns
    -------
    labels : ndarray of shape (n_images,), int
        Positions in `classes`.

    weights : ndarray of shape (n_images,), float32
        0 or more.

    Raises
    ------
    ValueError
        If lengths differ, a label is unknown, or every weight is 0.
    """
    y_val = column_or_1d(y_val, warn=True)
    check_consistent_length(range(n_images), y_val)
    unknown = np.setdiff1d(y_val, classes)
    if len(unknown):
        raise ValueError(f"y_val holds labels that y does not: {unknown[:5]}.")
    weights = _check_sample_weight(
        sample_weight_val, y_val, dtype=np.float32, ensure_non_negative=True
    )
    labels = np.searchsorted(classes, y_val)
    weights = (weights * by_class[labels]).astype(np.float32)
    if not weights.any():
        raise ValueError("sample_weight_val leaves no image with a positive weight.")
    return labels, weights


def warn_of_a_single_class(classes: np.ndarray) -> None:
    """Warn if there is nothing to distinguish."""
    if len(classes) == 1:
        warn(
            f"y holds a single class, {classes.tolist()[0]!r}, so nothing else can be "
            "predicted; if images are sorted by class, shuffle them before taking some."
        )
