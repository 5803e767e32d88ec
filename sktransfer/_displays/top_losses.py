"""TopLossesDisplay: the images with the highest losses."""

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
    """The images with the highest losses: hard ones, and ones with a wrong label.

    The loss of an image is its cross-entropy: -log of the probability of its true
    class. Wrong predictions have a coloured frame and a cross. It is recommended to
    create a display with :meth:`from_estimator` or :meth:`from_predictions`, which
    choose the images. All parameters are stored as attributes.

    Parameters
    ----------
    images : sequence of ndarray, float32 in [0, 1]
        Images to show, of shape (height, width) or (height, width, 3).

    y_true : ndarray of shape (n_shown,)
        True label of each image.

    y_pred : ndarray of shape (n_shown,)
        Predicted label of each image.

    losses : ndarray of shape (n_shown,), float of 0 or more
        Cross-entropy of each image, in nats.

    true_proba : ndarray of shape (n_shown,), float in [0, 1]
        Probability of the true class of each image.

    classes : ndarray of shape (n_classes,)
        Labels of all classes.

    display_labels : sequence of length n_classes, default=None
        Name of each class, by default its label; long names are shortened.

    indices : ndarray of shape (n_shown,), int, default=None
        Position of each image in the set that it was chosen from.

    title : str, default=None
        Title above the images.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Invisible axes around the images.

    axes_ : ndarray of matplotlib Axes, shape (n_rows, n_columns)
        One for each image; the others are invisible.

    figure_ : matplotlib Figure
        Figure that contains them.

    See Also
    --------
    PredictionGridDisplay : Random, wrong or unsure predictions.
    ConfusedPairsDisplay : The pairs of classes that are confused most often.

    Notes
    -----
    A probability of 0 is replaced by the smallest normal number of its dtype, so that
    the loss is finite: 87.3 for float32, 708.4 for float64.

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
        """Predict the classes of images, and show those with the highest losses.

        Parameters
        ----------
        estimator : estimator
            Fitted classifier with ``predict_proba``, or a pipeline or search that ends
            in one.

        X : array-like of shape (n_images, height, width, n_channels)
            Images, in any form that `estimator` accepts; also (n_images, height,
            width), rows of pixels, paths, or PIL images.

        y : array-like of shape (n_images,)
            True labels.

        n_images : int, default=12
            Maximum number of images, 1 or more; the default fills two rows of six. A
            new figure has 2.2 inches per row.

        n_columns : int, default=6
            Number of images per row, 1 or more.

        display_labels : sequence of length n_classes, default=None
            Name of each class, in the order of ``estimator.classes_``; by default, its
            label.

        image_shape : tuple of int, default=None
            (height, width, channels) of rows of pixels, one of which may be -1. By
            default, the shape that `estimator` was fitted on, or else square grey or
            square RGB images, if that fits.

        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` creates a figure.

        im_kw : dict, default=None
            Options for ``matplotlib.axes.Axes.imshow``.

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
            contains labels that the estimator does not know, or a parameter is not as
            described.
        TypeError
            If `X` is a single picture, or a count is not an integer.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        TopLossesDisplay.from_predictions : Show probabilities that are known, such as
            those of a cross-validation.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_counts(n_images=n_images, n_columns=n_columns)
        predictions = predict_images(estimator, X, y, display_labels, image_shape)
        display = cls._choose(predictions, n_images)
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
        """Show the images with the highest losses, given their predicted probabilities.

        Parameters
        ----------
        X : array-like of shape (n_images, height, width, n_channels)
            Images, uint8 in [0, 255] or float in [0, 1]; also (n_images, height,
            width), rows of pixels, paths, or PIL images. Floats of another scale are
            rescaled to [0, 1], all shown images together.

        y_true : array-like of shape (n_images,)
            True labels.

        y_proba : array-like of shape (n_images, n_classes), float in [0, 1]
            Probabilities, as ``predict_proba`` returns them; rows sum to 1.

        y_pred : array-like of shape (n_images,), default=None
            Predicted labels, by default the most probable classes. Pass them if another
            rule decided.

        classes : array-like of shape (n_classes,), default=None
            Label of each column of `y_proba`, as in ``estimator.classes_``; by default,
            the sorted labels of `y_true`.

        n_images : int, default=12
            Maximum number of images, 1 or more; the default fills two rows of six. A
            new figure has 2.2 inches per row.

        n_columns : int, default=6
            Number of images per row, 1 or more.

        display_labels : sequence of length n_classes, default=None
            Name of each class, in the order of `classes`; by default, its label.

        image_shape : tuple of int, default=None
            (height, width, channels) of rows of pixels, one of which may be -1. By
            default, square grey or square RGB images, if that fits exactly.

        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` creates a figure.

        im_kw : dict, default=None
            Options for ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        TopLossesDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If `X`, `y_true` and `y_proba` differ in length, labels or columns do not
            match `classes`, `y_proba` contains NaN or other values than probabilities,
            or a parameter is not as described.
        TypeError
            If `X` is a single picture or None, or a count is not an integer.
        ImportError
            If matplotlib is not installed.

        See Also
        --------
        TopLossesDisplay.from_estimator : Predict with a fitted classifier.

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
        predictions = check_predictions(
            X, y_true, y_proba, y_pred, classes, display_labels, image_shape
        )
        display = cls._choose(predictions, n_images)
        return display.plot(ax, n_columns=n_columns, im_kw=im_kw)

    @classmethod
    def _choose(cls, predictions: Predictions, n_images: int) -> Self:
        """Create the display of the images with the highest losses."""
        n = len(predictions.y_true)
        rows = sort_rows(-predictions.losses, np.arange(n))[:n_images]
        accuracy = percent(1 - predictions.is_wrong.mean(), 1)
        return cls._from_rows(
            predictions,
            rows,
            f"Highest losses, {len(rows)} of {n} images; mean loss "
            f"{predictions.losses.mean():.2f}, accuracy {accuracy}",
            losses=predictions.losses[rows],
            true_proba=predictions.proba[rows, predictions.y_true[rows]],
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
            Axes in whose place the images are drawn; ``None`` creates a figure.
            Captions shrink if columns are narrower than in a figure of their own.

        n_columns : int, default=6
            Number of images per row, 1 or more.

        im_kw : dict, default=None
            Options for ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        TopLossesDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `n_columns` is less than 1.
        """
        details = [
            f"loss {loss:.2f}\ntrue: {percent(proba)}"
            for loss, proba in zip(self.losses, self.true_proba, strict=True)
        ]
        return self._draw(details, ax, n_columns, im_kw)
