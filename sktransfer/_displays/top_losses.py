"""TopLossesDisplay: the images of the highest loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from sktransfer._displays.content.predictions import (
    Predictions,
    check_counts,
    check_predictions,
    predict_images,
)
from sktransfer._displays.content.ranking import sort_rows
from sktransfer._displays.drawing.captions import percent
from sktransfer._displays.drawing.panels import check_matplotlib
from sktransfer._displays.predicted_images import PredictedImagesDisplay


class TopLossesDisplay(PredictedImagesDisplay):
    """The images of the highest loss: hard ones, and ones with a wrong label.

    The loss of an image is the cross-entropy of its prediction, -log of the probability
    of its true class. Wrong predictions have a coloured frame and a cross. It is
    recommended to use :meth:`from_estimator` or :meth:`from_predictions`, which choose
    the images; all parameters are stored as attributes.

    Parameters
    ----------
    images : sequence of ndarray, float32 in [0, 1]
        Images to show, each of shape (height, width) or (height, width, 3).

    y_true : ndarray of shape (n_shown,)
        True label of each.

    y_pred : ndarray of shape (n_shown,)
        Predicted label of each.

    losses : ndarray of shape (n_shown,), float of 0 or more
        Cross-entropy of each, in nats.

    true_proba : ndarray of shape (n_shown,), float in [0, 1]
        Probability of the true class.

    classes : ndarray of shape (n_classes,)
        All labels.

    display_labels : sequence of length n_classes, default=None
        How each class is printed, by default its label; long names are shorten.

    indices : ndarray of shape (n_shown,), int, default=None
        Where each image stands in the set that it was chosen from.

    title : str, default=None
        What is said above the images.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes around the images, invisible.

    axes_ : ndarray of matplotlib Axes, shape (n_rows, n_columns)
        One for each image; those left over are invisible.

    figure_ : matplotlib Figure
        Figure that holds them.

    See Also
    --------
    PredictionGridDisplay : Images drawn by lot, wrong ones, or unsure ones.
    ConfusedPairsDisplay : Which classes are taken for which.

    Notes
    -----
    A probability of 0 counts as the smallest normal number of its dtype, so that its
    loss is finite: 87.3 for float32, 708.4 for float64.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import train_test_split
    >>> from sktransfer import TopLossesDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = LogisticRegression(max_iter=1000).fit(X_train[:200], y_train[:200])
    >>> display = TopLossesDisplay.from_estimator(clf, X_test, y_test)
    >>> len(display.images)
    12
    >>> plt.show()
    """

    __module__ = "sktransfer"

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray],
        y_true: np.ndarray,
        y_pred: np.ndarray,
        losses: np.ndarray,
        true_proba: np.ndarray,
        classes: np.ndarray,
        display_labels: Sequence[Any] | None = None,
        indices: np.ndarray | None = None,
        title: str | None = None,
    ) -> None:
        super().__init__(
            images, y_true, y_pred, classes, display_labels, indices, title
        )
        self.losses = losses
        self.true_proba = true_proba

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_images: int = 12,
        n_columns: int = 6,
        display_labels: Sequence[Any] | None = None,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        im_kw: Mapping[str, Any] | None = None,
    ) -> TopLossesDisplay:
        """Predict, and show the images of the highest loss.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier with ``predict_proba``, or a pipeline or search that ends
            in one.

        X : array-like of shape (n_images, height, width, n_channels)
            Images as `estimator` takes them; also (n_images, height, width), rows of
            pixels, paths, or PIL images.

        y : array-like of shape (n_images,)
            True labels.

        n_images : int, default=12
            Most images to show, 1 or more, by default two rows of six. A figure of its
            own is 2.2 inches higher for each row.

        n_columns : int, default=6
            Images in a row, 1 or more.

        display_labels : sequence of length n_classes, default=None
            How each class is printed, in the order of ``estimator.classes_``; by
            default, its label.

        image_shape : tuple of int, default=None
            (height, width, channels) of rows of pixels, where one may be -1; by
            default, what `estimator` was fitted on, or square grey or RGB, where that
            fits.

        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` makes a figure.

        im_kw : dict, default=None
            For ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        TopLossesDisplay
            The display, drawn.

        Raises
        ------
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If `estimator` has no ``predict_proba``, `X` and `y` differ in length, `y`
            holds labels that the estimator does not know, or a parameter is not as
            described.
        TypeError
            If `X` is one picture, or a count is no integer.
        ImportError
            Without matplotlib.

        See Also
        --------
        TopLossesDisplay.from_predictions : From probabilities, such as
            cross-validated ones.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_counts(n_images=n_images, n_columns=n_columns)
        images = predict_images(estimator, X, y, display_labels, image_shape)
        display = cls._choose(images, n_images)
        return display.plot(ax, n_columns=n_columns, im_kw=im_kw)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y_true: Any,
        y_proba: Any,
        *,
        y_pred: Any = None,
        classes: Any = None,
        n_images: int = 12,
        n_columns: int = 6,
        display_labels: Sequence[Any] | None = None,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        im_kw: Mapping[str, Any] | None = None,
    ) -> TopLossesDisplay:
        """Show the images of the highest loss, whose probabilities are known.

        Parameters
        ----------
        X : array-like of shape (n_images, height, width, n_channels)
            Images, uint8 in [0, 255] or float in [0, 1]; also (n_images, height,
            width), rows of pixels, paths, or PIL images. Of those shown, floats of
            another scale are moved to [0, 1], all alike.

        y_true : array-like of shape (n_images,)
            True labels.

        y_proba : array-like of shape (n_images, n_classes), float in [0, 1]
            Probabilities, as ``predict_proba`` returns them; rows sum to 1.

        y_pred : array-like of shape (n_images,), default=None
            Predicted labels, where another rule than the highest probability decided;
            by default, the most probable class.

        classes : array-like of shape (n_classes,), default=None
            Label of each column of `y_proba`, as in ``estimator.classes_``; by default,
            the sorted labels of `y_true`.

        n_images : int, default=12
            Most images to show, 1 or more, by default two rows of six. A figure of its
            own is 2.2 inches higher for each row.

        n_columns : int, default=6
            Images in a row, 1 or more.

        display_labels : sequence of length n_classes, default=None
            How each class is printed, in the order of `classes`; by default, its label.

        image_shape : tuple of int, default=None
            (height, width, channels) of rows of pixels, where one may be -1; square
            grey or RGB is inferred where that is exact.

        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` makes a figure.

        im_kw : dict, default=None
            For ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        TopLossesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `X`, `y_true` and `y_proba` differ in length, labels or columns do not
            fit `classes`, `y_proba` holds nan or no probabilities, or a parameter is
            not as described.
        TypeError
            If `X` is one picture or None, or a count is no integer.
        ImportError
            Without matplotlib.

        See Also
        --------
        TopLossesDisplay.from_estimator : From a fitted classifier.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sktransfer import TopLossesDisplay
        >>> from sktransfer.datasets import make_shapes
        >>> X = make_shapes(4, random_state=0).data
        >>> y_true = ["a", "a", "b", "b"]
        >>> y_proba = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]]
        >>> display = TopLossesDisplay.from_predictions(X, y_true, y_proba)
        >>> display.indices.tolist()
        [1, 3, 2, 0]
        >>> plt.show()
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        check_counts(n_images=n_images, n_columns=n_columns)
        images = check_predictions(
            X, y_true, y_proba, y_pred, classes, display_labels, image_shape
        )
        display = cls._choose(images, n_images)
        return display.plot(ax, n_columns=n_columns, im_kw=im_kw)

    @classmethod
    def _choose(cls, images: Predictions, n_images: int) -> Self:
        """The display of the images of the highest loss."""
        n = len(images.y_true)
        rows = sort_rows(-images.losses, np.arange(n))[:n_images]
        accuracy = percent(1 - images.is_wrong.mean(), 1)
        return cls._from_rows(
            images,
            rows,
            f"Highest losses, {len(rows)} of {n} images; mean loss "
            f"{images.losses.mean():.2f}, accuracy {accuracy}",
            losses=images.losses[rows],
            true_proba=images.proba[rows, images.y_true[rows]],
        )

    def plot(
        self,
        ax: Any = None,
        *,
        n_columns: int = 6,
        im_kw: Mapping[str, Any] | None = None,
    ) -> TopLossesDisplay:
        """Draw the images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` makes a figure. Captions
            shrink where a column is narrower than in a figure of its own.

        n_columns : int, default=6
            Images in a row, 1 or more.

        im_kw : dict, default=None
            For ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        TopLossesDisplay
            Itself.

        Raises
        ------
        ImportError
            Without matplotlib.
        ValueError
            If `n_columns` is less than 1.
        """
        details = [
            f"loss {loss:.2f}\ntrue: {percent(proba)}"
            for loss, proba in zip(self.losses, self.true_proba, strict=True)
        ]
        return self._draw(details, ax, n_columns, im_kw)
