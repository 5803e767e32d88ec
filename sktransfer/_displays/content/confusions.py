"""The pairs of classes that are confused most often."""

from __future__ import annotations

from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils import check_scalar
from sklearn.utils.multiclass import unique_labels


class ConfusedPair(NamedTuple):
    """Images of one class that were taken for another.

    Attributes
    ----------
    true : object
        Label of the images.

    predicted : object
        Label that was predicted instead.

    count : int
        Number of images, 1 or more.

    See Also
    --------
    most_confused : Find such pairs.

    Examples
    --------
    >>> from sktransfer import ConfusedPair
    >>> ConfusedPair("cat", "dog", 12).count
    12
    """

    true: Any
    predicted: Any
    count: int  # type: ignore[assignment]  # hides tuple.count, which is of no use here


ConfusedPair.__module__ = "sktransfer"


def most_confused(
    y_true: Any,
    y_pred: Any,
    *,
    labels: Any = None,
    n_pairs: int | None = None,
    min_count: int = 1,
) -> list[ConfusedPair]:
    """Find the pairs of classes that are confused most often.

    "Cat taken for dog" and "dog taken for cat" are different pairs.

    Parameters
    ----------
    y_true : array-like of shape (n_images,)
        True labels.

    y_pred : array-like of shape (n_images,)
        Predicted labels.

    labels : array-like of shape (n_classes,), default=None
        Classes to include. Pairs with equal counts are returned in this order. By
        default, the sorted labels of `y_true` and `y_pred`.

    n_pairs : int, default=None
        Maximum number of pairs, 1 or more; ``None`` returns all.

    min_count : int, default=1
        Minimum number of images per pair, 1 or more.

    Returns
    -------
    list of ConfusedPair
        The most frequent pair first; empty if every prediction is right.

    Raises
    ------
    ValueError
        If lengths differ, `labels` contains a label twice or none of `y_true`, or
        `n_pairs` or `min_count` is less than 1.

    See Also
    --------
    ConfusedPairsDisplay : Draw these pairs beside the confusion matrix.

    Examples
    --------
    >>> from sktransfer import most_confused
    >>> y_true = ["cat", "cat", "cat", "dog", "frog"]
    >>> y_pred = ["dog", "dog", "cat", "cat", "frog"]
    >>> for pair in most_confused(y_true, y_pred):
    ...     print(f"{pair.true} taken for {pair.predicted}: {pair.count}")
    cat taken for dog: 2
    dog taken for cat: 1
    """
    check_scalar(min_count, "min_count", Integral, min_val=1)
    if n_pairs is not None:
        check_scalar(n_pairs, "n_pairs", Integral, min_val=1)
    if labels is not None:
        given = np.asarray(labels).tolist()
        if len(set(given)) < len(given):
            raise ValueError(
                f"labels={given[:10]} contains a label twice; pass each label once."
            )
    counts = confusion_matrix(y_true, y_pred, labels=labels)
    names = np.asarray(unique_labels(y_true, y_pred) if labels is None else labels)
    return find_pairs(counts, names, n_pairs=n_pairs, min_count=min_count)


most_confused.__module__ = "sktransfer"


def find_pairs(
    counts: np.ndarray,
    classes: np.ndarray,
    *,
    n_pairs: int | None = None,
    min_count: int = 1,
) -> list[ConfusedPair]:
    """Find the pairs in a confusion matrix that are confused most often.

    Parameters
    ----------
    counts : ndarray of shape (n_classes, n_classes), int
        Number of images per true class (row) and predicted class (column).

    classes : ndarray of shape (n_classes,)
        Label of each row and column.

    n_pairs, min_count : int
        As in :func:`most_confused`.

    Returns
    -------
    list of ConfusedPair
        The most frequent pair first.
    """
    wrong = counts.copy()
    np.fill_diagonal(wrong, 0)
    # Stable: pairs with equal counts stay in the order of their classes.
    order = np.argsort(-wrong, axis=None, kind="stable")
    found = order[wrong.ravel()[order] >= min_count][:n_pairs]
    names = classes.tolist()
    return [
        ConfusedPair(names[true], names[predicted], int(wrong[true, predicted]))
        for true, predicted in zip(*np.unravel_index(found, wrong.shape), strict=True)
    ]
