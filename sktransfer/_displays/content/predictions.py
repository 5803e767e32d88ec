"""The predictions for a set of images, checked once and shared by the displays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from numbers import Integral
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing, assert_all_finite, check_array, check_scalar
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from sktransfer._displays.content.shown_images import prepare_images
from sktransfer._images.containers import is_pictures, refuse_bad_container


@dataclass(frozen=True)
class Predictions:
    """Images, their labels and their predictions.

    Attributes
    ----------
    X : array-like
        Images, in any form that estimators accept.

    y_true, y_pred : ndarray of shape (n_images,), int
        True and predicted class, as positions in `classes`. The predicted class is what
        ``predict`` returns, which is not always the most probable class.

    proba : ndarray of shape (n_images, n_classes)
        Probability of each class.

    classes : ndarray of shape (n_classes,)
        Labels, as in ``classes_``.

    display_labels : sequence or None
        Name of each class; None uses the labels.

    image_shape : tuple of int or None
        Shape of images that are given as rows of pixels.
    """

    X: Any
    y_true: np.ndarray
    y_pred: np.ndarray
    proba: np.ndarray
    classes: np.ndarray
    display_labels: Sequence[Any] | None = None
    image_shape: tuple[int, ...] | None = None

    @property
    def losses(self) -> np.ndarray:
        """Cross-entropy of each image, (n_images,), finite even for a proba of 0."""
        own = self.proba[np.arange(len(self.y_true)), self.y_true]
        losses: np.ndarray = -np.log(np.clip(own, np.finfo(own.dtype).tiny, 1))
        return losses

    @property
    def confidences(self) -> np.ndarray:
        """Probability of the predicted class, (n_images,)."""
        proba: np.ndarray = self.proba[np.arange(len(self.y_pred)), self.y_pred]
        return proba

    @property
    def is_wrong(self) -> np.ndarray:
        """Whether a wrong class was predicted, (n_images,)."""
        differ: np.ndarray = self.y_pred != self.y_true
        return differ


def check_counts(**counts: Any) -> None:
    """Raise an error unless every count is an integer of at least 1."""
    for name, value in counts.items():
        check_scalar(value, name, Integral, min_val=1)


def predict_images(
    estimator: Any,
    X: Any,
    y: Any,
    display_labels: Sequence[Any] | None,
    image_shape: Sequence[int] | None = None,
) -> Predictions:
    """Predict with a fitted classifier, pipeline or search.

    Raises
    ------
    ValueError
        If it is not a classifier with ``predict_proba``, or if `y` or `image_shape`
        does not match.
    TypeError
        If `X` is a single picture, or None.
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
    # Errors must not wait for the predictions, which may take long.
    find_positions(y, X, classes, "y")
    name_classes(classes, display_labels)
    if image_shape is None:
        image_shape = find_image_shape(estimator, X)
    prepare_images(X, [0], image_shape)
    y_proba = estimator.predict_proba(X)
    y_pred = None if predicts_most_probable(estimator) else estimator.predict(X)
    return check_predictions(
        X, y, y_proba, y_pred, classes, display_labels, image_shape
    )


def check_predictions(
    X: Any,
    y_true: Any,
    y_proba: Any,
    y_pred: Any = None,
    classes: Any = None,
    display_labels: Sequence[Any] | None = None,
    image_shape: Sequence[int] | None = None,
) -> Predictions:
    """Check predictions that were computed before.

    By default, `y_pred` is the most probable classes, and `classes` the sorted labels
    of `y_true`.

    Raises
    ------
    ValueError
        If lengths, classes or columns do not match, or `y_proba` does not hold
        probabilities.
    """
    proba = check_proba(y_proba)
    if classes is None:
        known = np.unique(check_labels(y_true, "y_true"))
    else:
        known = column_or_1d(classes)
    check_consistent_length(y_true, proba)
    if proba.shape[1] != len(known):
        remedy = " Pass classes=estimator.classes_." if classes is None else ""
        raise ValueError(
            f"y_proba has {proba.shape[1]} columns, but there are {len(known)} "
            f"classes: {known[:10].tolist()}.{remedy}"
        )
    check_sums(proba)
    name_classes(known, display_labels)
    true = find_positions(y_true, X, known, "y_true")
    predicted = proba.argmax(axis=1)
    if y_pred is not None:
        predicted = find_positions(y_pred, X, known, "y_pred")
    return Predictions(
        X=X,
        y_true=true,
        y_pred=predicted,
        proba=proba,
        classes=known,
        display_labels=display_labels,
        image_shape=None if image_shape is None else tuple(image_shape),
    )


def check_proba(y_proba: Any) -> np.ndarray:
    """Return `y_proba` as floats (n_images, n_classes); ValueError unless in [0, 1]."""
    proba: np.ndarray = check_array(
        y_proba, dtype=[np.float64, np.float32], input_name="y_proba"
    )
    low, high = float(proba.min()), float(proba.max())
    # Rounding of float32 may give a little more than 1.
    if low < 0 or high > 1 + 1e-5:
        raise ValueError(
            f"y_proba has values from {low:g} to {high:g}, but probabilities are in "
            "[0, 1]; pass the output of predict_proba."
        )
    return proba


def check_sums(proba: np.ndarray) -> None:
    """Raise a ValueError unless the probabilities of each image sum to 1."""
    sums = proba.sum(axis=1)
    row = int(np.abs(sums - 1).argmax())
    # float16 rounds each value, and thousands of tiny ones to 0.
    if abs(sums[row] - 1) > 0.01:
        raise ValueError(
            f"Row {row} of y_proba sums to {sums[row]:g}, but the probabilities of an "
            "image must sum to 1; pass the output of predict_proba."
        )


def name_classes(
    classes: np.ndarray, display_labels: Sequence[Any] | None
) -> tuple[str, ...]:
    """Return the name of each class; ValueError unless there is one per class."""
    names = np.asarray(classes).tolist() if display_labels is None else display_labels
    if len(names) != len(classes):
        raise ValueError(
            f"display_labels has {len(names)} names, but there are {len(classes)} "
            "classes; pass one name per class."
        )
    return tuple(str(name) for name in names)


def check_labels(labels: Any, name: str) -> np.ndarray:
    """Return labels as an array (n_images,); ValueError if one is NaN."""
    array: np.ndarray = column_or_1d(labels, warn=True)
    assert_all_finite(array, input_name=name)
    return array


def find_positions(labels: Any, X: Any, classes: np.ndarray, name: str) -> np.ndarray:
    """Find the position in `classes` of the label of each image, (n_images,), int.

    Raises
    ------
    ValueError, TypeError
        If there is not one label of `classes` per image, or `X` is not a set of images.
    """
    refuse_bad_container(X)
    if X is None:
        raise TypeError("X is None; pass the images.")
    array = check_labels(labels, name)
    check_consistent_length(X, array)
    if not len(array):
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is needed.")
    known = np.asarray(classes).tolist()
    # Python compares labels strictly; NumPy would match the number 1 with "1".
    position = {label: index for index, label in enumerate(known)}
    if len(position) < len(known):
        raise ValueError(
            f"classes={known[:10]} contains a label twice; pass each label once."
        )
    unknown = sorted(set(array.tolist()).difference(known), key=str)
    if unknown:
        raise ValueError(
            f"{name} contains labels that are not in classes: {unknown[:5]}; "
            f"the classes are {known[:10]}."
        )
    return np.array([position[label] for label in array.tolist()])


def walk_parts(estimator: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the estimator, then the last step of a pipeline or the best of a search.

    Parameters
    ----------
    estimator : object
        Fitted or not; a search that is not fitted contains nothing.

    Yields
    ------
    part : object
        The outermost first.

    steps_before : tuple of transformer
        The transformers that data passes through before it reaches `part`; empty if
        `part` receives the same data as `estimator`.
    """
    part: Any = estimator
    before: tuple[Any, ...] = ()
    while part is not None:
        yield part, before
        if isinstance(part, Pipeline):
            steps = tuple(step for _, step in part.steps)
            # A pipeline may hold "passthrough" or None as a step.
            before += tuple(s for s in steps[:-1] if hasattr(s, "transform"))
            part = steps[-1] if steps else None
        else:
            part = getattr(part, "best_estimator_", None)


def predicts_most_probable(estimator: Any) -> bool:
    """Whether ``predict`` certainly returns the most probable class.

    This holds for classifiers with a network, even inside a pipeline or a search, and
    saves a second pass over the images. Others may decide by a threshold, for example.
    """
    *_, (last, _) = walk_parts(estimator)
    return has_network(last)


def has_network(part: Any) -> bool:
    """Return whether a fitted estimator is one of the classifiers with a network."""
    return hasattr(part, "net_") and hasattr(part, "image_shape_")


def find_image_shape(estimator: Any, X: Any) -> tuple[int, ...] | None:
    """Find the shape of the images in `X` in a fitted estimator; None without one.

    Pictures that an estimator does not crop have none: they are shown whole, in their
    own proportions. Transformers may change the size of images, so a shape that does
    not match rows of pixels is skipped.
    """
    one = _safe_indexing(X, [0])
    n_features = None
    if not is_pictures(one):
        n_features = np.shape(one)[1] if np.ndim(one) == 2 else None
    for part in _find_image_parts(estimator):
        shape = tuple(part.image_shape_)
        if n_features is None or prod(shape) == n_features:
            is_whole = is_pictures(one) and getattr(part, "resize", "crop") != "crop"
            return None if is_whole else shape
    return None


def _find_image_parts(estimator: Any) -> Iterator[Any]:
    """Yield what knows an image shape in an estimator, in the order `X` meets them."""
    part = estimator
    for part, before in walk_parts(estimator):
        for step in before:
            yield from _find_image_parts(step)
        if hasattr(part, "image_shape_"):
            yield part
    for name in ("estimators_", "calibrated_classifiers_"):
        wrapped = getattr(part, name, None)
        if isinstance(wrapped, (list, tuple)) and wrapped:
            yield from _find_image_parts(wrapped[0])
    wrapped = getattr(part, "estimator_", getattr(part, "estimator", None))
    if wrapped is not None:
        yield from _find_image_parts(wrapped)
