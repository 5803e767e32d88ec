"""SaliencyDisplay: where in an image a classifier finds what speaks for a class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils import check_array
from sklearn.utils.validation import (
    _num_samples,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from sktransfer._displays.content.predictions import (
    check_counts,
    name_classes,
    walk_parts,
)
from sktransfer._displays.content.shown_images import prepare_images, read_if_pictures
from sktransfer._displays.drawing.captions import Caption, percent, shorten
from sktransfer._displays.drawing.image_grid import (
    FONT_SIZE,
    LEAST_FONT_SIZE,
    draw_image,
)
from sktransfer._displays.drawing.panels import (
    check_matplotlib,
    make_panels,
    measure_axes,
)
from sktransfer._images.containers import refuse_bad_container

# Every image is drawn; more than this make a figure that nobody looks at.
MOST_IMAGES = 100
# Inches: the width of an image, and the height of two lines of caption.
WIDTH, CAPTION_HEIGHT = 2.3, 0.4
# Characters of a line of 9 points over that width.
LINE = 30
# Taller or wider images than this, height over width, are drawn smaller.
FLATTEST, TALLEST = 0.4, 2.0
COLOR_MAP = "inferno"
# Where the map is at its highest, the picture must still be seen through it.
HIGHEST_ALPHA = 0.7
# Of red, green and blue in grey (ITU-R BT.601).
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class SaliencyDisplay:
    """Images, and below each a map of what speaks for a class (Grad-CAM).

    The map lies over the picture in grey: where nothing speaks for the class that is
    all there is; the more a place does, the brighter and denser its colour. It is
    recommended to use :meth:`from_estimator` to create one. All parameters are stored
    as attributes.

    Parameters
    ----------
    images : sequence of ndarray
        Pictures of shape (height, width) or (height, width, 3), float in [0, 1].

    maps : ndarray of shape (n_images, height, width), float32
        What speaks for the target, in [0, 1], each divided by its own maximum; zeros
        where nothing does.

    targets : ndarray of shape (n_images,)
        Label that each map speaks for.

    proba : ndarray of shape (n_images, n_classes), float32
        Probability of each class, in [0, 1].

    classes : ndarray of shape (n_classes,)
        Labels, as in ``classes_``.

    display_labels : sequence of length n_classes, default=None
        How each class is printed; ``None`` prints its label.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Axes around all images, invisible.

    axes_ : ndarray of matplotlib Axes, shape (2 * n_rows, n_columns)
        A row of pictures, below it a row of their maps, and so on; those beyond the
        last image are invisible.

    figure_ : matplotlib Figure
        Figure that holds them.

    See Also
    --------
    PredictionGridDisplay : Images with what is true and what was predicted.
    TopLossesDisplay : The images on which the loss is highest.

    Notes
    -----
    Grad-CAM [1]_ weights the channels of a stage's activation by the mean gradient of
    the class's logit, and keeps what is positive of their sum. It needs the stages
    behind the chosen one alone, so that it works with a frozen backbone too; it
    computes in float32, whatever the precision of the fit.

    The probability above an image is the mean over the views of the classifier's `tta`;
    its map is of the image as it is.

    A map is no finer than the activation: the last stage of a ResNet puts out 7 x 7
    places for 224 pixels and ``"mini_resnet18"`` 4 x 4 for its 32, and
    ``ScratchCNNClassifier`` 1 x 1 for images of 8 pixels, which tells nothing and
    is warned of. An earlier `stage` has more places, but its channels mean less.

    Each map is divided by its own maximum: colours of two images do not compare.

    A class that is known by what is missing, such as the second of two, has no place
    of its own: its map may lie on the background.

    References
    ----------
    .. [1] R. R. Selvaraju, M. Cogswell, A. Das, R. Vedantam, D. Parikh and D. Batra,
       "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
       Localization", ICCV 2017. https://arxiv.org/abs/1610.02391

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sktransfer import ResNetTransferClassifier, SaliencyDisplay, datasets
    >>> X, y = datasets.make_shapes(20, n_classes=2, random_state=0, return_X_y=True)
    >>> clf = ResNetTransferClassifier(
    ...     "mini_resnet18", unfreeze_depth=0, max_epochs=2, random_state=0
    ... ).fit(X, y)
    >>> display = SaliencyDisplay.from_estimator(clf, X[:4])
    >>> display.maps.shape
    (4, 32, 32)
    >>> plt.show()
    """

    __module__ = "sktransfer"

    def __init__(
        self,
        *,
        images: Sequence[np.ndarray],
        maps: np.ndarray,
        targets: np.ndarray,
        proba: np.ndarray,
        classes: np.ndarray,
        display_labels: Sequence[Any] | None = None,
    ) -> None:
        self.images = images
        self.maps = maps
        self.targets = targets
        self.proba = proba
        self.classes = classes
        self.display_labels = display_labels

    @classmethod
    def from_estimator(
        cls,
        estimator: Any,
        X: Any,
        *,
        target: Any = None,
        stage: str | None = None,
        n_columns: int = 4,
        display_labels: Sequence[Any] | None = None,
        ax: Any = None,
    ) -> SaliencyDisplay:
        """Compute the maps of images and draw them.

        Parameters
        ----------
        estimator : object
            Fitted ``ResNetTransferClassifier`` or ``ScratchCNNClassifier``, or a
            pipeline or a search that ends in one.

        X : array-like
            Images as `estimator` takes them, at most 100.

        target : label or array-like of shape (n_images,), default=None
            Class that the maps speak for, one for all images or one an image.
            ``None`` takes the predicted class of each.

        stage : str, default=None
            Stage whose output the maps are made of, such as ``"layer3"``. ``None``
            takes the last before the head, whose channels mean most.

        n_columns : int, default=4
            Images in a row.

        display_labels : sequence of length n_classes, default=None
            How each class is printed; ``None`` prints its label.

        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` makes a figure.

        Returns
        -------
        SaliencyDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        TypeError
            If `X` is no set of images, or `n_columns` no integer.
        ValueError
            If `estimator` is none of these, or another parameter is not as described.
        NotFittedError
            If `estimator` is not fitted.

        See Also
        --------
        SaliencyDisplay.plot : Draws them again, without computing anything.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sktransfer import ResNetTransferClassifier, SaliencyDisplay, datasets
        >>> X, y = datasets.make_shapes(
        ...     20, n_classes=2, random_state=0, return_X_y=True
        ... )
        >>> clf = ResNetTransferClassifier(
        ...     "mini_resnet18", unfreeze_depth=0, max_epochs=1, random_state=0
        ... ).fit(X, y)
        >>> display = SaliencyDisplay.from_estimator(clf, X[:3], target="circle")
        >>> display.targets.tolist()
        ['circle', 'circle', 'circle']
        >>> plt.show()
        """
        from sktransfer._displays.content.grad_cam import check_stage, grad_cam
        from sktransfer._networks.device import resolve_device

        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_counts(n_columns=n_columns)
        check_is_fitted(estimator)
        _check_few(X)
        classifier, X = _find_classifier(estimator, X)
        stages, classes = classifier.net_.module_, classifier.classes_
        stage = check_stage(stages, stage)
        name_classes(classes, display_labels)
        refuse_bad_container(X)
        X = read_if_pictures(X, classifier.image_shape_)
        positions = _find_targets(target, classes, _num_samples(X))
        # Before anything else is done with X: it also checks the images.
        proba = classifier.predict_proba(X)
        images = check_array(X, ensure_2d=False, allow_nd=True)
        images = images.reshape(len(images), *classifier.image_shape_)
        if positions is None:
            positions = proba.argmax(axis=1)
        device = resolve_device(classifier.device_)
        display = cls(
            images=prepare_images(images, range(len(images))),
            maps=grad_cam(stages, stage, images, positions, device),
            targets=classes[positions],
            proba=proba,
            classes=classes,
            display_labels=display_labels,
        )
        return display.plot(ax, n_columns=n_columns)

    def plot(self, ax: Any = None, *, n_columns: int = 4) -> SaliencyDisplay:
        """Draw the images with their maps over them.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` makes a figure.

        n_columns : int, default=4
            Images in a row.

        Returns
        -------
        SaliencyDisplay
            The display itself.

        Raises
        ------
        ImportError
            Without matplotlib.
        TypeError
            If `n_columns` is no integer.
        ValueError
            If it is less than 1.
        """
        check_counts(n_columns=n_columns)
        n_columns = min(n_columns, len(self.images))
        height, width = np.shape(self.maps)[1:]
        aspect = float(np.clip(height / width, FLATTEST, TALLEST))
        share = 1.0 if ax is None else min(1.0, measure_axes(ax)[0] / n_columns / WIDTH)
        font_size = max(LEAST_FONT_SIZE, FONT_SIZE * share)
        self.ax_, self.axes_ = make_panels(
            ax,
            2 * -(-len(self.images) // n_columns),
            n_columns,
            (WIDTH, WIDTH * aspect + CAPTION_HEIGHT / 2),
            f"{type(self).__name__}.plot",
            text_height=CAPTION_HEIGHT * font_size / FONT_SIZE,
        )
        self.figure_ = self.ax_.figure
        pictures, maps = self.axes_[::2].ravel(), self.axes_[1::2].ravel()
        for row in range(len(self.images)):
            self._draw(row, pictures[row], maps[row], font_size, share)
        for panel in (*pictures[len(self.images) :], *maps[len(self.images) :]):
            panel.set_axis_off()
        return self

    def _draw(
        self, row: int, above: Any, below: Any, font_size: float, share: float
    ) -> None:
        """Draw one image, and below it its map, at a share of their usual width."""
        most = int(LINE * share * FONT_SIZE / font_size)
        image, caption = self.images[row], Caption(self._caption(row, most))
        draw_image(above, image, caption, font_size=font_size)
        draw_image(below, _convert_to_grey(image), Caption(""))
        _draw_map(below, self.maps[row])
        # The two belong together: what room is left goes between images.
        above.set_anchor("S")
        below.set_anchor("N")

    def _caption(self, row: int, most: int) -> str:
        """The predicted class, and the target where it is another; `most` a line."""
        names = self.classes if self.display_labels is None else self.display_labels
        best = int(self.proba[row].argmax())
        behind = f", {percent(float(self.proba[row, best]))}"
        text = _caption_line("Prediction: ", names[best], behind, most)
        target = int(np.flatnonzero(self.classes == self.targets[row])[0])
        if target != best:
            text += "\n" + _caption_line("map for: ", names[target], "", most)
        # A grey picture alone would leave one guessing.
        return text if self.maps[row].any() else text + "\n(nothing speaks for it)"


def _caption_line(before: str, name: Any, behind: str, most: int) -> str:
    """A line of a caption, its name shorten so that all has `most` characters."""
    room = max(1, most - len(before) - len(behind))
    return before + shorten(name, room) + behind


def _convert_to_grey(image: np.ndarray) -> np.ndarray:
    """An image (height, width[, 3]) without its colours, (height, width)."""
    grey: np.ndarray = image if image.ndim == 2 else image @ LUMINANCE
    return grey


def _draw_map(ax: Any, seen: np.ndarray) -> Any:
    """Lay a map (height, width) in [0, 1] over a picture, denser where it is high."""
    return ax.imshow(
        seen,
        cmap=COLOR_MAP,
        vmin=0,
        vmax=1,
        alpha=HIGHEST_ALPHA * seen,
        interpolation="bilinear",
    )


def _check_few(X: Any) -> None:
    """Raise a ValueError where `X` holds more images than a figure does."""
    # Anything else is refused later, with a message of its own.
    n_images = (
        _num_samples(X) if hasattr(X, "shape") or isinstance(X, (list, tuple)) else 0
    )
    if n_images > MOST_IMAGES:
        raise ValueError(
            f"X holds {n_images} images, but a figure has room for {MOST_IMAGES}; "
            "pass fewer, such as X[:12]."
        )


def _find_classifier(estimator: Any, X: Any) -> tuple[Any, Any]:
    """The image classifier that a pipeline or a search ends in, and its images.

    Raises
    ------
    ValueError
        If `estimator` ends in none.
    """
    last = estimator
    for last, steps_before in walk_parts(estimator):
        if _has_stages(last):
            for step in steps_before:
                X = step.transform(X)
            return last, X
    raise ValueError(
        "Expected 'estimator' to be a ResNetTransferClassifier or a "
        "ScratchCNNClassifier, or a pipeline or a search that ends in one. "
        f"Got {_describe(estimator, last)} instead."
    )


def _has_stages(estimator: Any) -> bool:
    """Whether it classifies images with a network of stages, whatever its class."""
    from sktransfer._networks.stages import Stages

    is_classifier = hasattr(estimator, "predict_proba")
    module = getattr(getattr(estimator, "net_", None), "module_", None)
    has_shape = hasattr(estimator, "image_shape_")
    return is_classifier and has_shape and isinstance(module, Stages)


def _describe(estimator: Any, last: Any) -> str:
    """What was passed, and what it ends in where that is another thing."""
    name, end = type(estimator).__name__, type(last).__name__
    return name if last is estimator else f"{name} that ends in {end}"


def _find_targets(target: Any, classes: np.ndarray, n: int) -> np.ndarray | None:
    """Positions of the targets in `classes`, (n,), or None for the predicted ones.

    Raises
    ------
    ValueError
        If a target is none of the classes, or there is not one an image.
    """
    if target is None:
        return None
    given = np.full(n, target) if np.ndim(target) == 0 else column_or_1d(target)
    check_consistent_length(range(n), given)
    labels = given.tolist()
    known = {label: position for position, label in enumerate(classes.tolist())}
    unknown = [label for label in labels if label not in known]
    if unknown:
        raise ValueError(
            f"target={unknown[0]!r} is none of the classes, which are "
            f"{shorten(classes.tolist(), 200)}."
        )
    return np.array([known[label] for label in labels])
