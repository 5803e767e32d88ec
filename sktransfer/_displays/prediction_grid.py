"""PredictionGridDisplay: images with their true and their predicted class."""

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
from sktransfer._displays.content.ranking import check_show, choose_rows
from sktransfer._displays.drawing.captions import grid_title, percent
from sktransfer._displays.drawing.panels import check_matplotlib
from sktransfer._displays.predicted_images import PredictedImagesDisplay


class PredictionGridDisplay(PredictedImagesDisplay):
    """Images with their true class, the predicted one and its probability.

    Wrong predictions have a coloured frame and a cross. It is recommended to create a
    display with :meth:`from_estimator` or :meth:`from_predictions`, which choose the
    images. All parameters are stored as attributes.

    Parameters
    ----------
    images : sequence of ndarray, float32 in [0, 1]
        Images to show, of shape (height, width) or (height, width, 3).

    y_true : ndarray of shape (n_shown,)
        True label of each image.

    y_pred : ndarray of shape (n_shown,)
        Predicted label of each image.

    confidences : ndarray of shape (n_shown,), float in [0, 1]
        Probability of the predicted class of each image.

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
        One for each image; the others are invisible. Of shape (0, 0) without images.

    figure_ : matplotlib Figure
        Figure that contains them.

    See Also
    --------
    TopLossesDisplay : The images with the highest losses.
    ConfusedPairsDisplay : The pairs of classes that are confused most often.
    SaliencyDisplay : Where in an image the network finds evidence for a class.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import train_test_split
    >>> from sktransfer import PredictionGridDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = LogisticRegression(max_iter=1000).fit(X_train[:200], y_train[:200])
    >>> display = PredictionGridDisplay.from_estimator(clf, X_test, y_test)
    >>> display.title
    '24 of 450 images, drawn at random; accuracy 93.1 %'
    >>> plt.show()
    """

    __module__ = "sktransfer"

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray],
        y_true: np.ndarray,
        y_pred: np.ndarray,
        confidences: np.ndarray,
        classes: np.ndarray,
        display_labels: Sequence[Any] | None = None,
        indices: np.ndarray | None = None,
        title: str | None = None,
    ) -> None:
        super().__init__(
            images, y_true, y_pred, classes, display_labels, indices, title
        )
        self.confidences = confidences

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        show: str = "all",
        n_images: int = 24,
        n_columns: int = 6,
        display_labels: Sequence[Any] | None = None,
        image_shape: Sequence[int] | None = None,
        random_state: Any = None,
        ax: Any = None,
        im_kw: Mapping[str, Any] | None = None,
    ) -> PredictionGridDisplay:
        """Predict the classes of images, and show some of them.

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

        show : {"all", "wrong", "most_confident_wrong", "least_sure"}, default="all"
            Which images to show. ``"all"`` shows all images, and ``"wrong"`` all wrong
            predictions; if there are more than `n_images`, they are drawn at random.
            ``"most_confident_wrong"`` shows wrong predictions, those with the highest
            probability first. ``"least_sure"`` shows images whose two most probable
            classes are closest, the closest first.

        n_images : int, default=24
            Maximum number of images, 1 or more; the default fills four rows of six. A
            new figure is 2.2 inches high per row, plus the title.

        n_columns : int, default=6
            Number of images per row, 1 or more.

        display_labels : sequence of length n_classes, default=None
            Name of each class, in the order of ``estimator.classes_``; by default, its
            label.

        image_shape : tuple of int, default=None
            (height, width, channels) of rows of pixels, one of which may be -1. By
            default, the shape that `estimator` was fitted on, or else square grey or
            square RGB images, if that fits.

        random_state : int, RandomState instance or None, default=None
            Seed for the images that are drawn at random. Unlike elsewhere in
            scikit-learn, ``None`` draws the same images every time.

        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` creates a figure.

        im_kw : dict, default=None
            Options for ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        PredictionGridDisplay
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
        PredictionGridDisplay.from_predictions : Show probabilities that are known.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_show(show)
        check_counts(n_images=n_images, n_columns=n_columns)
        predictions = predict_images(estimator, X, y, display_labels, image_shape)
        display = cls._choose(predictions, show, n_images, random_state)
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
        show: str = "all",
        n_images: int = 24,
        n_columns: int = 6,
        display_labels: Sequence[Any] | None = None,
        image_shape: Sequence[int] | None = None,
        random_state: Any = None,
        ax: Any = None,
        im_kw: Mapping[str, Any] | None = None,
    ) -> PredictionGridDisplay:
        """Show some of the images, given their predicted probabilities.

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

        show : {"all", "wrong", "most_confident_wrong", "least_sure"}, default="all"
            Which images to show, as in :meth:`from_estimator`.

        n_images : int, default=24
            Maximum number of images, 1 or more; the default fills four rows of six. A
            new figure is 2.2 inches high per row, plus the title.

        n_columns : int, default=6
            Number of images per row, 1 or more.

        display_labels : sequence of length n_classes, default=None
            Name of each class, in the order of `classes`; by default, its label.

        image_shape : tuple of int, default=None
            (height, width, channels) of rows of pixels, one of which may be -1. By
            default, square grey or square RGB images, if that fits exactly.

        random_state : int, RandomState instance or None, default=None
            Seed for the images that are drawn at random. Unlike elsewhere in
            scikit-learn, ``None`` draws the same images every time.

        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` creates a figure.

        im_kw : dict, default=None
            Options for ``matplotlib.axes.Axes.imshow``.

        Returns
        -------
        PredictionGridDisplay
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
        PredictionGridDisplay.from_estimator : Predict with a fitted classifier.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sktransfer import PredictionGridDisplay
        >>> from sktransfer.datasets import make_shapes
        >>> X = make_shapes(4, random_state=0).data
        >>> y_true = ["a", "a", "b", "b"]
        >>> y_proba = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]]
        >>> display = PredictionGridDisplay.from_predictions(
        ...     X, y_true, y_proba, show="wrong"
        ... )
        >>> display.title
        'One wrong prediction among 4 images; accuracy 75.0 %'
        >>> plt.show()
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        check_show(show)
        check_counts(n_images=n_images, n_columns=n_columns)
        predictions = check_predictions(
            X, y_true, y_proba, y_pred, classes, display_labels, image_shape
        )
        display = cls._choose(predictions, show, n_images, random_state)
        return display.plot(ax, n_columns=n_columns, im_kw=im_kw)

    @classmethod
    def _choose(
        cls, predictions: Predictions, show: str, n_images: int, random_state: Any
    ) -> Self:
        """Create the display of the images that `show` asks for."""
        rows = choose_rows(predictions, show, n_images, random_state)
        title = grid_title(predictions, show, len(rows))
        confidences = predictions.confidences[rows]
        return cls._from_rows(predictions, rows, title, confidences=confidences)

    def plot(
        self,
        ax: Any = None,
        *,
        n_columns: int = 6,
        im_kw: Mapping[str, Any] | None = None,
    ) -> PredictionGridDisplay:
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
        PredictionGridDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `n_columns` is less than 1.
        """
        details = [percent(proba) for proba in self.confidences]
        return self._draw(details, ax, n_columns, im_kw)
