"""The scikit-learn contract: NumPy in, NumPy out."""

from __future__ import annotations

import copy
import time
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import train_test_split
from sklearn.utils import check_array, check_random_state, compute_sample_weight
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from sktransfer._images import (
    array_shape,
    common_shape,
    is_pictures,
    picture_list,
    read_pictures,
    row_shape,
)

if TYPE_CHECKING:
    from sktransfer._stages import Stages
    from sktransfer._training import ImageDataset, StagesNet, TrainingSettings

Shape = tuple[int, int, int]

# From this many images on, early_stopping="auto" sets some aside, as scikit-learn's
# HistGradientBoostingClassifier does.
EARLY_STOPPING_FROM = 10_000

# scikit-learn's word for a check of X alone, where y=None would be an error.
NO_LABELS = "no_validation"


class ImageInput(BaseEstimator):
    """What every estimator here does with ``X``: checked once, then (n, h, w, c)."""

    image_shape: Shape | None
    image_shape_: Shape

    def _check_images(
        self, X: Any, y: Any = NO_LABELS, *, reset: bool, min_samples: int = 1
    ) -> tuple[np.ndarray, Any]:
        """Validate X, and y where given; set or compare the image shape.

        Returns
        -------
        images : ndarray of shape (n_images, height, width, n_channels)

        y : ndarray of shape (n_images,), or as it was where not given
        """
        if is_pictures(X):
            return self._check_pictures(X, y, reset, min_samples)
        shape = None
        if getattr(X, "ndim", None) is None:
            X = check_array(X, ensure_2d=False, allow_nd=True, ensure_min_samples=0)
        if X.ndim > 2:
            shape = array_shape(X.shape, self.image_shape)
            if not reset and shape != self.image_shape_:
                raise ValueError(
                    f"X holds images of shape {shape}, but {type(self).__name__} was "
                    f"fitted on images of shape {self.image_shape_}."
                )
            X = X.reshape(len(X), int(np.prod(shape)))
        options = {"reset": reset, "ensure_min_samples": min_samples}
        if isinstance(y, str) and y == NO_LABELS:
            X = validate_data(self, X, **options)
        else:
            X, y = validate_data(self, X, y, **options)
        if reset:
            self.image_shape_ = shape or row_shape(X.shape[1], self.image_shape)
        return X.reshape(len(X), *self.image_shape_), y

    def _check_pictures(
        self, X: Any, y: Any, reset: bool, min_samples: int
    ) -> tuple[np.ndarray, Any]:
        """Read files or PIL images; validate y where given."""
        pictures = picture_list(X)
        if len(pictures) < min_samples:
            raise ValueError(
                f"Found array with {len(pictures)} sample(s) while a minimum of "
                f"{min_samples} is required by {type(self).__name__}."
            )
        if not (isinstance(y, str) and y == NO_LABELS):
            if y is None:
                raise ValueError(
                    f"{type(self).__name__} requires y to be passed, but the target y "
                    "is None."
                )
            y = column_or_1d(check_array(y, ensure_2d=False, dtype=None), warn=True)
            check_consistent_length(pictures, y)
        shape = common_shape(pictures)
        if reset:
            self.image_shape_ = self._shape_of_pictures(shape)
            self.n_features_in_ = int(np.prod(self.image_shape_))
        return read_pictures(pictures, self.image_shape_), y

    def _shape_of_pictures(self, common: Shape | None) -> Shape:
        """Shape at which pictures are read: given, shared by all, or square."""
        if self.image_shape is not None:
            n_channels = self.image_shape[2]
            if min(self.image_shape) < 1 or n_channels not in (1, 3):
                raise ValueError(
                    f"image_shape={self.image_shape!r}: pictures need a height and a "
                    "width in pixels and 1 or 3 channels."
                )
            return self.image_shape
        if common is not None:
            return common
        size = self._size_for_pictures()
        return (size, size, 3)

    def _size_for_pictures(self) -> int:
        """Height and width at which pictures of different sizes are read."""
        raise NotImplementedError


class BaseImageClassifier(ClassifierMixin, ImageInput):
    """Fit and predict; a subclass says which network and what it trains with."""

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "image_size": [
            StrOptions({"auto"}),
            None,
            Interval(Integral, 1, None, closed="left"),
        ],
        "image_shape": [tuple, list, None],
        "augment": [StrOptions({"flip", "flip_crop"}), callable, None],
        "max_epochs": [Interval(Integral, 1, None, closed="left")],
        "batch_size": [
            StrOptions({"auto"}),
            Interval(Integral, 2, None, closed="left"),
        ],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "momentum": [Interval(Real, 0, 1, closed="left")],
        "weight_decay": [Interval(Real, 0, None, closed="left")],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
        "class_weight": [StrOptions({"balanced"}), dict, None],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "device": [str],
        "precision": [StrOptions({"auto", "float32", "bfloat16"})],
        "callbacks": [list, tuple, None],
        "net_params": [dict, None],
        "warm_start": ["boolean"],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> BaseImageClassifier:
        """Train the network on images and their labels.

        Parameters
        ----------
        X : array-like of shape (n_images, height, width, n_channels)
            Images, uint8 in [0, 255] or float in [0, 1]; also (n_images, height,
            width) for grey ones, (n_images, n_pixels) rows with `image_shape`, a
            list, array, Series or one-column frame of paths, or a list of PIL images.

        y : array-like of shape (n_images,)
            Labels, of any type scikit-learn accepts.

        sample_weight : array-like of shape (n_images,), default=None
            Weight of each image in the loss; 0 leaves an image out.

        X_val, y_val, sample_weight_val : as X, y and sample_weight, default=None
            Images for early stopping, instead of a share of `X`.

        Returns
        -------
        object
            The fitted estimator.

        Raises
        ------
        ValueError
            If a parameter, `X` or `y` is not as described.
        FloatingPointError
            If the loss becomes nan or infinite.
        KeyboardInterrupt
            On Ctrl-C, after the best weights so far were kept.
        """
        from sktransfer._device import resolve_device, resolve_precision
        from sktransfer._seed import forked_rng
        from sktransfer._training import train

        started = time.perf_counter()
        self._validate_params()
        device = resolve_device(self.device)
        precision = resolve_precision(self.precision, device)
        if (X_val is None) != (y_val is None):
            raise ValueError("X_val and y_val must be passed together.")

        images, y = self._check_images(X, y, reset=True, min_samples=2)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        weights = _check_sample_weight(
            sample_weight, labels, dtype=np.float32, ensure_non_negative=True
        )
        weights = weights * compute_sample_weight(self.class_weight, y)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        datasets = self._split(images, labels, weights, seed)
        if X_val is not None:
            valid = self._validation_set(X_val, y_val, sample_weight_val, classes)
            datasets = (datasets[0], valid)

        with forked_rng(seed, device):
            if self.warm_start and hasattr(self, "net_"):
                self._check_warm_start(classes, images.shape[1:])
                stages = copy.deepcopy(self.net_.module_)
            else:
                stages = self._make_stages(images, len(classes))
            settings = self._settings(len(datasets[0]), device, precision, seed)
            net = train(stages, *datasets, settings)

        if net.interrupt_ is not None and len(net.history) < 2:
            raise net.interrupt_
        self._set_fitted(net, classes, images.shape[1:], str(device), precision)
        self.fit_time_ = time.perf_counter() - started
        if net.interrupt_ is not None:
            raise net.interrupt_
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probability of each class.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_images, n_classes), float32
            Rows sum to 1; columns as in ``classes_``.
        """
        logits = self._logits(X)
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        proba: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
        return proba

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits of each class.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_images, n_classes) or (n_images,), float32
            For two classes, the second logit less the first.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """Most probable class.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_images,)
            Labels as in ``classes_``.
        """
        logits = self._logits(X)
        labels: np.ndarray = self.classes_[logits.argmax(axis=1)]
        return labels

    def _logits(self, X: Any) -> np.ndarray:
        """Logits of shape (n_images, n_classes), float32."""
        check_is_fitted(self)
        from sktransfer._device import resolve_device
        from sktransfer._inference import run_in_batches

        images, _ = self._check_images(X, reset=False)
        device = resolve_device(self.device_)
        return run_in_batches(self.net_.module_, images, device)

    def _make_stages(self, images: np.ndarray, n_classes: int) -> Stages:
        """The network for these training images."""
        raise NotImplementedError

    def _unfreezing(self) -> dict[str, Any]:
        """Depth, schedule and backbone rate, as `TrainingSettings` names them."""
        raise NotImplementedError

    def _settings(
        self, n_images: int, device: Any, precision: str, seed: int
    ) -> TrainingSettings:
        """The parameters that the training loop reads."""
        from sktransfer._schedule import resolve_batch_size
        from sktransfer._training import TrainingSettings

        stop = self.early_stopping
        return TrainingSettings(
            max_epochs=self.max_epochs,
            batch_size=resolve_batch_size(self.batch_size, n_images),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            label_smoothing=self.label_smoothing,
            augment=self.augment,
            # Without early stopping a validation set still picks the best epoch.
            patience=self.n_iter_no_change if stop else self.max_epochs + 1,
            device=device,
            precision=precision,
            seed=seed,
            verbose=int(self.verbose),
            callbacks=list(self.callbacks or []),
            net_params=self.net_params or {},
            **self._unfreezing(),
        )

    def _split(
        self, images: np.ndarray, labels: np.ndarray, weights: np.ndarray, seed: int
    ) -> tuple[ImageDataset, ImageDataset | None]:
        """Training set and, with early stopping, a stratified validation set."""
        from sktransfer._training import ImageDataset

        rows = np.flatnonzero(weights > 0)
        if len(rows) < 2:
            raise ValueError(
                f"sample_weight leaves {len(rows)} image(s) with a positive weight; at "
                "least 2 are needed."
            )
        weights = (weights / weights[rows].mean()).astype(np.float32)
        stop = self.early_stopping
        if stop == "auto":
            stop = len(rows) >= EARLY_STOPPING_FROM
        if not stop:
            return ImageDataset(images, labels, weights, rows), None
        try:
            train, valid = train_test_split(
                rows,
                test_size=self.validation_fraction,
                stratify=labels[rows],
                random_state=seed,
            )
        except ValueError as error:
            raise ValueError(
                f"early_stopping={self.early_stopping!r} cannot set aside "
                f"validation_fraction={self.validation_fraction!r} of {len(rows)} "
                f"images with every class on both sides ({error}) Pass "
                "early_stopping=False, or X_val and y_val."
            ) from error
        return (
            ImageDataset(images, labels, weights, train),
            ImageDataset(images, labels, weights, valid),
        )

    def _validation_set(
        self, X_val: Any, y_val: Any, sample_weight_val: Any, classes: np.ndarray
    ) -> ImageDataset:
        """The validation set that the user passed."""
        from sktransfer._training import ImageDataset

        images, _ = self._check_images(X_val, reset=False)
        y_val = column_or_1d(y_val, warn=True)
        check_consistent_length(images, y_val)
        unknown = np.setdiff1d(y_val, classes)
        if len(unknown):
            raise ValueError(f"y_val holds labels that y does not: {unknown[:5]}.")
        weights = _check_sample_weight(
            sample_weight_val, y_val, dtype=np.float32, ensure_non_negative=True
        )
        return ImageDataset(images, np.searchsorted(classes, y_val), weights)

    def _check_warm_start(self, classes: np.ndarray, image_shape: Any) -> None:
        """Raise where training cannot go on from the last fit."""
        if tuple(image_shape) != self.net_image_shape_ or not np.array_equal(
            classes, self.classes_
        ):
            raise ValueError(
                "warm_start=True needs the classes and the image shape of the last "
                "fit; pass warm_start=False to start over."
            )

    def _set_fitted(
        self,
        net: StagesNet,
        classes: np.ndarray,
        image_shape: Any,
        device: str,
        precision: str,
    ) -> None:
        """Set every fitted attribute, all at once."""
        history = [
            {name: value for name, value in row.items() if name != "batches"}
            for row in net.history
        ]
        losses = [row.get("valid_loss") for row in history]
        complete = [loss for loss in losses if loss is not None]
        self.classes_ = classes
        self.net_ = net
        self.net_image_shape_ = tuple(image_shape)
        self.history_ = history
        self.n_iter_ = len(history)
        self.best_epoch_ = losses.index(min(complete)) + 1 if complete else self.n_iter_
        self.device_ = device
        self.precision_ = precision

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # skorch has moved the network to where this process can run it.
        if hasattr(self, "net_"):
            self.device_ = str(self.net_.device)
