"""Predictions of a set of images, checked once and shared by displays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from sktransfer._images import refuse_what_is_no_set


@dataclass(frozen=True)
class Classified:
    """Images, their labels and their predictions.

    Attributes
    ----------
    X : array-like or None
        Images, as estimators take them.

    y_true, y_pred : ndarray of shape (n_images,), int
        True and most probable class, as positions in `classes`.

    proba : ndarray of shape (n_images, n_classes)
        Probability of each class.

    classes : ndarray of shape (n_classes,)
        Labels, as in ``classes_``.

    names : tuple of str
        How each class is printed.

    image_shape : tuple of int or None
        Of images that are rows of pixels.
    """

    X: Any
    y_true: np.ndarray
    y_pred: np.ndarray
    proba: np.ndarray
    classes: np.ndarray
    names: tuple[str, ...]
    image_shape: tuple[int, ...] | None = None

    @property
    def losses(self) -> np.ndarray:
        """Cross-entropy of each image, (n_images,), finite where a proba is 0."""
        own = self.proba[np.arange(len(self.y_true)), self.y_true]
        losses: np.ndarray = -np.log(np.clip(own, np.finfo(own.dtype).tiny, 1))
        return losses

    @property
    def confidences(self) -> np.ndarray:
        """Probability of the predicted class, (n_images,)."""
        shares: np.ndarray = self.proba[np.arange(len(self.y_pred)), self.y_pred]
        return shares

    @property
    def is_wrong(self) -> np.ndarray:
        """Whether another class was predicted, (n_images,)."""
        differ: np.ndarray = self.y_pred != self.y_true
        return differ


def classified_by(
    estimator: Any, X: Any, y: Any, display_labels: Sequence[Any] | None
) -> Classified:
    """Predictions of a fitted classifier, a pipeline or a search, computed once.

    Raises
    ------
    ValueError
        If it is no classifier with ``predict_proba``, or `y` does not fit.
    NotFittedError
        If it is not fitted.
    """
    check_is_fitted(estimator)
    classes = getattr(estimator, "classes_", None)
    if classes is None or not hasattr(estimator, "predict_proba"):
        raise ValueError(
            "Expected 'estimator' to be a classifier with classes_ and predict_proba. "
            f"Got {type(estimator).__name__} instead."
        )
    # Before the predictions, which may take long.
    check_labels(y, X, classes)
    names_of(classes, display_labels)
    return classified(
        X,
        y,
        estimator.predict_proba(X),
        classes=classes,
        display_labels=display_labels,
        image_shape=fitted_image_shape(estimator),
    )


def classified(
    X: Any,
    y_true: Any,
    y_proba: Any,
    *,
    classes: Any = None,
    display_labels: Sequence[Any] | None = None,
    image_shape: Sequence[int] | None = None,
) -> Classified:
    """Predictions that were computed before, checked.

    `X` may be None where no image is drawn. Without `classes`, they are the sorted
    labels of `y_true`.

    Raises
    ------
    ValueError
        If lengths, classes or columns do not agree, or `y_proba` holds other numbers
        than probabilities.
    """
    proba = checked_proba(y_proba)
    if classes is None:
        known = np.unique(column_or_1d(y_true, warn=True))
    else:
        known = column_or_1d(classes)
    check_consistent_length(X, y_true, proba)
    if proba.shape[1] != len(known):
        remedy = " Pass classes=estimator.classes_." if classes is None else ""
        raise ValueError(
            f"y_proba has {proba.shape[1]} columns, but there are {len(known)} "
            f"classes: {known[:10].tolist()}.{remedy}"
        )
    labels = check_labels(y_true, proba if X is None else X, known)
    position = {label: index for index, label in enumerate(known.tolist())}
    return Classified(
        X=X,
        y_true=np.array([position[label] for label in labels.tolist()]),
        y_pred=proba.argmax(axis=1),
        proba=proba,
        classes=known,
        names=names_of(known, display_labels),
        image_shape=None if image_shape is None else tuple(image_shape),
    )


def checked_proba(y_proba: Any) -> np.ndarray:
    """`y_proba` as floats (n_images, n_classes); ValueError unless in [0, 1]."""
    proba: np.ndarray = check_array(
        y_proba, dtype=[np.float64, np.float32], input_name="y_proba"
    )
    low, high = float(proba.min()), float(proba.max())
    # Sums of float32 may round to a little more than 1.
    if low < 0 or high > 1 + 1e-5:
        raise ValueError(
            f"y_proba holds values from {low:g} to {high:g}, but probabilities are in "
            "[0, 1]; pass what predict_proba returns."
        )
    return proba


def names_of(
    classes: np.ndarray, display_labels: Sequence[Any] | None
) -> tuple[str, ...]:
    """How each class is printed; ValueError unless one name a class."""
    names = np.asarray(classes).tolist() if display_labels is None else display_labels
    if len(names) != len(classes):
        raise ValueError(
            f"display_labels has {len(names)} names, but there are {len(classes)} "
            "classes."
        )
    return tuple(str(name) for name in names)


def check_labels(y: Any, X: Any, classes: np.ndarray) -> np.ndarray:
    """`y` as an array (n_images,); ValueError unless of the images and the classes."""
    refuse_what_is_no_set(X)
    labels: np.ndarray = column_or_1d(y, warn=True)
    check_consistent_length(X, labels)
    if not len(labels):
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is needed.")
    known = np.asarray(classes).tolist()
    if len(set(known)) < len(known):
        raise ValueError(f"classes={known[:10]} holds a label twice; name each once.")
    # As Python has them: NumPy would take the number 1 for the text "1".
    unknown = sorted(set(labels.tolist()).difference(known), key=str)
    if unknown:
        raise ValueError(
            f"y contains labels that are not in classes: {unknown[:5]}; classes are "
            f"{known[:10]}."
        )
    return labels


def fitted_image_shape(estimator: Any) -> tuple[int, ...] | None:
    """Shape of the images that an estimator, or the first in it, was fitted on."""
    if hasattr(estimator, "image_shape_"):
        return tuple(estimator.image_shape_)
    for inner in (
        getattr(estimator, "best_estimator_", None),
        *(step for _, step in getattr(estimator, "steps", ())[::-1]),
        *list(getattr(estimator, "estimators_", ()))[:1],
        *getattr(estimator, "calibrated_classifiers_", ())[:1],
        getattr(estimator, "estimator_", getattr(estimator, "estimator", None)),
    ):
        if inner is not None and not isinstance(inner, str):
            shape = fitted_image_shape(inner)
            if shape is not None:
                return shape
    return None
