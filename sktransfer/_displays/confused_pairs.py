"""ConfusedPairsDisplay: a confusion matrix and images of its worst pairs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np

from sktransfer._displays.content.confusions import ConfusedPair, find_pairs
from sktransfer._displays.content.predictions import (
    Predictions,
    check_counts,
    check_predictions,
    name_classes,
    predict_images,
)
from sktransfer._displays.content.ranking import sort_rows
from sktransfer._displays.content.shown_images import prepare_images
from sktransfer._displays.drawing.captions import Caption, percent, shorten
from sktransfer._displays.drawing.confusion_matrix import draw_matrix
from sktransfer._displays.drawing.image_grid import draw_image
from sktransfer._displays.drawing.panels import check_matplotlib, make_panels

# Width and height in inches of the matrix, and of the images beside it.
HALF = (5.8, 5.4)
# With fewer columns, images would be too large beside the matrix.
LEAST_COLUMNS = 4
# Characters of each of the two names above a row of images.
NAME_CHARACTERS = 22


class ConfusedPairsDisplay:
    """Confusion matrix, and images of the classes that are confused most often.

    The most confused pairs are outlined and numbered in the matrix. Beside it, each has
    a row of images, the most confident predictions first. It is recommended to create a
    display with :meth:`from_estimator` or :meth:`from_predictions`. All parameters are
    stored as attributes.

    Parameters
    ----------
    confusion_matrix : ndarray of shape (n_classes, n_classes), int
        Number of images per true class (row) and predicted class (column).

    pairs : sequence of ConfusedPair
        Pairs to show, the most frequent pair first.

    images : sequence of sequences of ndarray, float32 in [0, 1]
        Images of each pair, of shape (height, width) or (height, width, 3).

    confidences : sequence of ndarray, float in [0, 1]
        Probability of the predicted class of each image of each pair.

    classes : ndarray of shape (n_classes,)
        Label of each row and column.

    display_labels : sequence of length n_classes, default=None
        Name of each class, by default its label; long names are shortened.

    indices : sequence of ndarray of int, default=None
        Positions of the images of each pair in the set that they were chosen from.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Invisible axes around everything.

    matrix_ax_ : matplotlib Axes
        Axes of the confusion matrix.

    axes_ : ndarray of matplotlib Axes, shape (n_pairs, n_columns)
        One for each image, in 4 columns or more; the others are invisible. Of shape
        (0, 0) if nothing is confused.

    figure_ : matplotlib Figure
        Figure that contains them.

    See Also
    --------
    most_confused : The pairs alone.
    PredictionGridDisplay : Images with their true and their predicted class.
    sklearn.metrics.ConfusionMatrixDisplay : The matrix alone.

    Notes
    -----
    Colours follow the square root of the counts: on a linear scale the diagonal would
    leave all confusions pale. With up to 20 classes, the counts are written into the
    matrix; with more, there is a colour bar beside it. With up to 60 classes, each is
    named beside the matrix; with more, every second, third and so on. The classes of
    the pairs are always named above their images.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.model_selection import train_test_split
    >>> from sktransfer import ConfusedPairsDisplay
    >>> X, y = load_digits(return_X_y=True)
    >>> X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
    >>> clf = LogisticRegression(max_iter=1000).fit(X_train[:200], y_train[:200])
    >>> display = ConfusedPairsDisplay.from_estimator(clf, X_test, y_test)
    >>> display.pairs[0]
    ConfusedPair(true=8, predicted=1, count=3)
    >>> plt.show()
    """

    __module__ = "sktransfer"

    def __init__(
        self,
        *,
        confusion_matrix: np.ndarray,
        pairs: Sequence[ConfusedPair],
        images: Sequence[Sequence[np.ndarray]],
        confidences: Sequence[np.ndarray],
        classes: np.ndarray,
        display_labels: Sequence[Any] | None = None,
        indices: Sequence[np.ndarray] | None = None,
    ) -> None:
        self.confusion_matrix = confusion_matrix
        self.pairs = pairs
        self.images = images
        self.confidences = confidences
        self.classes = classes
        self.display_labels = display_labels
        self.indices = indices

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        y: Any,
        *,
        n_pairs: int = 3,
        n_images: int = 4,
        display_labels: Sequence[Any] | None = None,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        cmap: Any = "Blues",
        im_kw: Mapping[str, Any] | None = None,
    ) -> ConfusedPairsDisplay:
        """Predict the classes of images, and show which are confused.

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

        n_pairs : int, default=3
            Maximum number of pairs, 1 or more.

        n_images : int, default=4
            Maximum number of images per pair, 1 or more.

        display_labels : sequence of length n_classes, default=None
            Name of each class, in the order of ``estimator.classes_``; by default, its
            label.

        image_shape : tuple of int, default=None
            (height, width, channels) of rows of pixels, one of which may be -1. By
            default, the shape that `estimator` was fitted on, or else square grey or
            square RGB images, if that fits.

        ax : matplotlib Axes, default=None
            Axes that the display replaces; ``None`` creates a figure.

        cmap : str or matplotlib Colormap, default="Blues"
            Colours of the matrix, from few to many images.

        im_kw : dict, default=None
            Options for ``matplotlib.axes.Axes.imshow``, for the images only.

        Returns
        -------
        ConfusedPairsDisplay
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
        ConfusedPairsDisplay.from_predictions : Show probabilities that are known.
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_counts(n_pairs=n_pairs, n_images=n_images)
        predictions = predict_images(estimator, X, y, display_labels, image_shape)
        display = cls._choose(predictions, n_pairs, n_images)
        return display.plot(ax, cmap=cmap, im_kw=im_kw)

    @classmethod
    def from_predictions(
        cls,
        X: Any,
        y_true: Any,
        y_proba: Any,
        *,
        y_pred: Any = None,
        classes: Any = None,
        n_pairs: int = 3,
        n_images: int = 4,
        display_labels: Sequence[Any] | None = None,
        image_shape: Sequence[int] | None = None,
        ax: Any = None,
        cmap: Any = "Blues",
        im_kw: Mapping[str, Any] | None = None,
    ) -> ConfusedPairsDisplay:
        """Show which classes are confused, given the predicted probabilities.

        Parameters
        ----------
        X : array-like of shape (n_images, height, width, n_channels)
            Images, uint8 in [0, 255] or float in [0, 1]; also (n_images, height,
            width), rows of pixels, paths, or PIL images. Floats of another scale are
            rescaled to [0, 1], all images of a pair together.

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

        n_pairs : int, default=3
            Maximum number of pairs, 1 or more.

        n_images : int, default=4
            Maximum number of images per pair, 1 or more.

        display_labels : sequence of length n_classes, default=None
            Name of each class, in the order of `classes`; by default, its label.

        image_shape : tuple of int, default=None
            (height, width, channels) of rows of pixels, one of which may be -1. By
            default, square grey or square RGB images, if that fits exactly.

        ax : matplotlib Axes, default=None
            Axes that the display replaces; ``None`` creates a figure.

        cmap : str or matplotlib Colormap, default="Blues"
            Colours of the matrix, from few to many images.

        im_kw : dict, default=None
            Options for ``matplotlib.axes.Axes.imshow``, for the images only.

        Returns
        -------
        ConfusedPairsDisplay
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
        ConfusedPairsDisplay.from_estimator : Predict with a fitted classifier.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sktransfer import ConfusedPairsDisplay
        >>> from sktransfer.datasets import make_shapes
        >>> X = make_shapes(4, random_state=0).data
        >>> y_true = ["a", "a", "b", "b"]
        >>> y_proba = [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.1, 0.9]]
        >>> display = ConfusedPairsDisplay.from_predictions(X, y_true, y_proba)
        >>> display.pairs
        [ConfusedPair(true='a', predicted='b', count=1)]
        >>> plt.show()
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        check_counts(n_pairs=n_pairs, n_images=n_images)
        predictions = check_predictions(
            X, y_true, y_proba, y_pred, classes, display_labels, image_shape
        )
        display = cls._choose(predictions, n_pairs, n_images)
        return display.plot(ax, cmap=cmap, im_kw=im_kw)

    @classmethod
    def _choose(cls, predictions: Predictions, n_pairs: int, n_images: int) -> Self:
        """Create the display of the pairs that are confused most often."""
        n = len(predictions.classes)
        cells = n * predictions.y_true + predictions.y_pred
        counts = np.bincount(cells, minlength=n * n).reshape(n, n)
        found = find_pairs(counts, np.arange(n), n_pairs=n_pairs)
        rows = [_find_rows(pair, predictions)[:n_images] for pair in found]
        labels = predictions.classes.tolist()
        return cls(
            confusion_matrix=counts,
            pairs=[ConfusedPair(labels[t], labels[p], count) for t, p, count in found],
            images=[
                prepare_images(predictions.X, r, predictions.image_shape) for r in rows
            ],
            confidences=[predictions.confidences[r] for r in rows],
            classes=predictions.classes,
            display_labels=predictions.display_labels,
            indices=rows,
        )

    def plot(
        self,
        ax: Any = None,
        *,
        cmap: Any = "Blues",
        im_kw: Mapping[str, Any] | None = None,
    ) -> ConfusedPairsDisplay:
        """Draw the matrix and the images.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes that the display replaces; ``None`` creates a figure.

        cmap : str or matplotlib Colormap, default="Blues"
            Colours of the matrix, from few to many images.

        im_kw : dict, default=None
            Options for ``matplotlib.axes.Axes.imshow``, for the images only.

        Returns
        -------
        ConfusedPairsDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        """
        caller = f"{type(self).__name__}.plot"
        n_halves = 2 if len(self.pairs) else 1
        self.ax_, halves = make_panels(ax, 1, n_halves, HALF, caller)
        self.figure_ = self.ax_.figure
        self.matrix_ax_ = halves[0, 0]
        position = {label: i for i, label in enumerate(self.classes.tolist())}
        names = name_classes(self.classes, self.display_labels)
        draw_matrix(
            self.matrix_ax_,
            self.confusion_matrix,
            names,
            [(position[pair.true], position[pair.predicted]) for pair in self.pairs],
            cmap,
        )
        self.axes_ = np.empty((0, 0), object)
        if len(self.pairs):
            name_of = dict(zip(position, names, strict=True))
            self.axes_ = self._draw_images(halves[0, 1], name_of, caller, im_kw or {})
        return self

    def _draw_images(
        self,
        half: Any,
        name_of: Mapping[Any, str],
        caller: str,
        im_kw: Mapping[str, Any],
    ) -> np.ndarray:
        """Draw a row of images for each pair, below a line that names the pair."""
        n_columns = max(LEAST_COLUMNS, *(len(images) for images in self.images))
        _, places = make_panels(half, len(self.pairs), 1, HALF, caller)
        rows = []
        for number, (pair, place) in enumerate(
            zip(self.pairs, places[:, 0], strict=True), start=1
        ):
            true, predicted = (
                shorten(name_of[label], NAME_CHARACTERS)
                for label in (pair.true, pair.predicted)
            )
            _, panels = make_panels(
                place,
                1,
                n_columns,
                HALF,
                caller,
                title=f"{number}. {true} taken for {predicted}: {pair.count}",
                title_height=0.3,
                title_options={"ha": "left", "va": "center", "fontsize": 10},
                text_height=0.2,
            )
            rows.append(panels[0])
            for panel in panels[0]:
                panel.set_axis_off()
            for panel, image, proba in zip(
                panels[0],
                self.images[number - 1],
                self.confidences[number - 1],
                strict=False,
            ):
                draw_image(panel, image, Caption(percent(proba)), **im_kw)
        return np.array(rows)


def _find_rows(pair: ConfusedPair, predictions: Predictions) -> np.ndarray:
    """Rows of the images of a pair of positions, the most confident first."""
    is_true = predictions.y_true == pair.true
    is_predicted = predictions.y_pred == pair.predicted
    return sort_rows(-predictions.confidences, np.flatnonzero(is_true & is_predicted))
