"""SaliencyDisplay: where in an image a classifier finds evidence for a class."""

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
from sktransfer._images.levels import rescale

# All images are drawn, and nobody looks at a figure of more than this.
MOST_IMAGES = 100
# Inches: the width of an image, and the height of a caption of two lines.
WIDTH, CAPTION_HEIGHT = 2.3, 0.4
# Characters of 9 points that fit into this width.
LINE = 30
# Height divided by width of a panel: images outside this range are drawn smaller.
FLATTEST, TALLEST = 0.4, 2.0
COLOR_MAP = "inferno"
# The picture must stay visible where the map is at its highest.
HIGHEST_ALPHA = 0.7
# Weights of red, green and blue in a grey image (ITU-R BT.601).
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)


class SaliencyDisplay:
    """Images, and below each a map of the evidence for a class (Grad-CAM).

    The map covers a grey version of the image: the stronger the evidence for the class,
    the brighter and denser the colour. Without evidence the image stays grey. It is
    recommended to create a display with :meth:`from_estimator`. All parameters are
    stored as attributes.

    Parameters
    ----------
    images : sequence of ndarray
        Images of shape (height, width) or (height, width, 3), float in [0, 1].

    maps : ndarray of shape (n_images, height, width), float32
        Evidence for the target, in [0, 1]. Each map is divided by its maximum, or all
        zeros if there is no evidence.

    targets : ndarray of shape (n_images,)
        Label of the class that each map explains.

    proba : ndarray of shape (n_images, n_classes), float32
        Probability of each class, in [0, 1].

    classes : ndarray of shape (n_classes,)
        Labels, as in ``classes_``.

    display_labels : sequence of length n_classes, default=None
        Name of each class, by default its label.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Invisible axes around all images.

    axes_ : ndarray of matplotlib Axes, shape (2 * n_rows, n_columns)
        A row of images, below it a row of their maps, and so on; axes without an image
        are invisible.

    figure_ : matplotlib Figure
        Figure that contains them.

    See Also
    --------
    PredictionGridDisplay : Images with their true and their predicted class.
    TopLossesDisplay : The images with the highest losses.

    Notes
    -----
    Grad-CAM [1]_ weights the channels of a stage's activation by the mean gradient of
    the class's logit, and keeps the positive part of their sum. It needs gradients of
    the stages after the chosen one only, so it also works with a frozen backbone. It
    computes in float32, whatever the precision of the fit.

    The probability above an image is the mean over the views of the classifier's `tta`;
    the map is computed from the unchanged image.

    A map is only as fine as the activation. The last stage of a ResNet has 7 x 7
    locations for images of 224 pixels, and that of ``"mini_resnet18"`` 4 x 4 for 32
    pixels. That of ``ScratchCNNClassifier`` has 1 x 1 for 8 pixels: such a map says
    nothing, and a warning is raised. Earlier stages have more locations, but their
    channels are less specific to a class.

    Each map is divided by its own maximum, so colours cannot be compared between
    images.

    A class that is recognised by what is missing, such as the second of two classes,
    has no location of its own: its map may highlight the background.

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
            Images, in any form that `estimator` accepts, at most 100.

        target : label or array-like of shape (n_images,), default=None
            Class to explain: one label for all images, or one per image. ``None``
            explains the predicted class of each image.

        stage : str, default=None
            Stage whose output the maps are computed from, such as ``"layer3"``. By
            default, the last stage that outputs maps, whose channels are the most
            specific. Pooled features and the tokens of a transformer are no maps.

        n_columns : int, default=4
            Number of images per row, 1 or more.

        display_labels : sequence of length n_classes, default=None
            Name of each class, by default its label.

        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` creates a figure.

        Returns
        -------
        SaliencyDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `X` is not a set of images, or `n_columns` is not an integer.
        ValueError
            If `estimator` or another parameter is not as described.
        NotFittedError
            If `estimator` is not fitted.

        See Also
        --------
        SaliencyDisplay.plot : Draw the maps again, without computing anything.

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
        check_stage(stages, stage)
        name_classes(classes, display_labels)
        refuse_bad_container(X)
        reading = getattr(classifier, "_reading", {})
        X = read_if_pictures(X, classifier.image_shape_, reading)
        # This also checks the images, which the lines below rely on.
        proba = classifier.predict_proba(X)
        positions = _find_targets(target, classes, len(proba))
        images = check_array(X, ensure_2d=False, allow_nd=True)
        images = images.reshape(len(images), *classifier.image_shape_)
        images = rescale(images, reading.get("max_value", "auto"))
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
        """Draw the images, and below each its map.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes in whose place the images are drawn; ``None`` creates a figure.

        n_columns : int, default=4
            Number of images per row, 1 or more.

        Returns
        -------
        SaliencyDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `n_columns` is not an integer.
        ValueError
            If `n_columns` is less than 1.
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
        """Draw an image, and below it its map, at a `share` of their usual width."""
        most = int(LINE * share * FONT_SIZE / font_size)
        image, caption = self.images[row], Caption(self._caption(row, most))
        draw_image(above, image, caption, font_size=font_size)
        draw_image(below, _convert_to_grey(image), Caption(""))
        _draw_map(below, self.maps[row])
        # Image and map stay together; free space goes between images.
        above.set_anchor("S")
        below.set_anchor("N")

    def _caption(self, row: int, most: int) -> str:
        """Name the prediction and, if it differs, the target; `most` is per line."""
        names = self.classes if self.display_labels is None else self.display_labels
        best = int(self.proba[row].argmax())
        behind = f", {percent(float(self.proba[row, best]))}"
        text = _caption_line("Prediction: ", names[best], behind, most)
        target = int(np.flatnonzero(self.classes == self.targets[row])[0])
        if target != best:
            text += "\n" + _caption_line("map for: ", names[target], "", most)
        # A grey image without an explanation would be a puzzle.
        return text if self.maps[row].any() else text + "\n(no evidence for it)"


def _caption_line(before: str, name: Any, behind: str, most: int) -> str:
    """A line of a caption; its name is shortened to fit into `most` characters."""
    room = max(1, most - len(before) - len(behind))
    return before + shorten(name, room) + behind


def _convert_to_grey(image: np.ndarray) -> np.ndarray:
    """Convert an image (height, width[, 3]) to grey, (height, width)."""
    grey: np.ndarray = image if image.ndim == 2 else image @ LUMINANCE
    return grey


def _draw_map(ax: Any, seen: np.ndarray) -> Any:
    """Draw a map (height, width) in [0, 1] over an image, denser where it is high."""
    return ax.imshow(
        seen,
        cmap=COLOR_MAP,
        vmin=0,
        vmax=1,
        alpha=HIGHEST_ALPHA * seen,
        interpolation="bilinear",
    )


def _check_few(X: Any) -> None:
    """Raise a ValueError if `X` has too many images for a figure."""
    # Anything that is not a set is refused later, with a better message.
    is_set = hasattr(X, "shape") or isinstance(X, (list, tuple))
    n_images = _num_samples(X) if is_set else 0
    if n_images > MOST_IMAGES:
        raise ValueError(
            f"X has {n_images} images, but a figure has room for {MOST_IMAGES}; pass "
            "fewer, such as X[:12]."
        )


def _find_classifier(estimator: Any, X: Any) -> tuple[Any, Any]:
    """Find the image classifier inside a pipeline or a search, and its images.

    Raises
    ------
    ValueError
        If `estimator` does not end in an image classifier.
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
    """Whether an estimator classifies images with stages, whatever its own class."""
    from sktransfer._networks.stages import Stages

    is_classifier = hasattr(estimator, "predict_proba")
    module = getattr(getattr(estimator, "net_", None), "module_", None)
    has_shape = hasattr(estimator, "image_shape_")
    return is_classifier and has_shape and isinstance(module, Stages)


def _describe(estimator: Any, last: Any) -> str:
    """Name the class of what was passed, and of what it ends in if that differs."""
    name, end = type(estimator).__name__, type(last).__name__
    return name if last is estimator else f"{name} that ends in {end}"


def _find_targets(target: Any, classes: np.ndarray, n: int) -> np.ndarray | None:
    """Find the positions of the targets in `classes`, (n,); None without targets.

    Raises
    ------
    ValueError
        If a target is not one of the classes, or there is not one per image.
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
            f"target={unknown[0]!r} is not one of the classes; pass one of "
            f"{shorten(classes.tolist(), 200)}."
        )
    return np.array([known[label] for label in labels])
