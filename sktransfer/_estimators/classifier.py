"""What the two classifiers share: parameters, fit and predict."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    _check_sample_weight,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
)

from sktransfer._estimators.inputs import ImageInput, kept_on_error
from sktransfer._estimators.targets import loss_weights, split_rows
from sktransfer._feedback import warn
from sktransfer._images.views import DrawnViews

if TYPE_CHECKING:
    from sktransfer._networks.stages import Stages
    from sktransfer._training.batches import ImageDataset
    from sktransfer._training.net import StagesNet
    from sktransfer._training.train import TrainingSettings


class BaseImageClassifier(ClassifierMixin, ImageInput):
    """Fit and predict; a subclass says which network and what it trains with."""

    # A network without frozen stages has nothing to keep.
    activation_cache: Any = None

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "image_size": [
            StrOptions({"auto"}),
            None,
            Interval(Integral, 1, None, closed="left"),
        ],
        "image_shape": [tuple, list, None],
        "augment": [StrOptions({"flip", "flip_crop"}), DrawnViews, callable, None],
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
        "compile": ["boolean"],
        "tta": [StrOptions({"flip", "flip_shift"}), None],
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
            On Ctrl-C after the first epoch; the estimator keeps the weights of the best
            epoch, or without validation images those of the moment.
        """
        started = time.perf_counter()
        with kept_on_error(self):
            self._validate_params()
            if (X_val is None) != (y_val is None):
                raise ValueError("X_val and y_val must be passed together.")
            if X_val is None and sample_weight_val is not None:
                raise ValueError("sample_weight_val needs X_val and y_val beside it.")
            net, classes = self._train(
                X, y, sample_weight, X_val, y_val, sample_weight_val
            )
            self._set_fitted(net, classes)
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
        return softmax(self._logits(X))

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
        images, _ = self._check_images(X, reset=False)
        return self._logits_of(images)

    def _logits_of(self, images: np.ndarray) -> np.ndarray:
        """Logits of images that are checked, (n_images, n_classes), float32."""
        from sktransfer._activations.cache import resolve_cache
        from sktransfer._activations.prediction import logits
        from sktransfer._networks.device import resolve_device

        device = resolve_device(self.device_)
        cache = resolve_cache(self.activation_cache)
        net = self.net_
        return logits(
            net.module_,
            net.n_prefix,
            images,
            device,
            net.precision,
            cache,
            self.tta,
            int(self.verbose),
        )

    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
        sample_weight_val: Any,
    ) -> tuple[StagesNet, np.ndarray]:
        """The trained net and the classes; sets the shape of the images alone."""
        from sktransfer._networks.device import (
            autocast,
            resolve_device,
            resolve_precision,
        )
        from sktransfer._networks.seed import forked_rng
        from sktransfer._training.batches import ImageDataset
        from sktransfer._training.train import train

        device = resolve_device(self.device)
        precision = resolve_precision(self.precision, device)
        unfreezing = self._unfreezing()
        last_shape = getattr(self, "image_shape_", None)

        images, y = self._check_images(X, y, reset=True, min_samples=2)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        warn_of_a_single_class(classes)
        weights, by_class = loss_weights(sample_weight, self.class_weight, y)
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        if X_val is None:
            stop, fraction = self.early_stopping, self.validation_fraction
            rows, valid_rows = split_rows(labels, weights, stop, fraction, seed)
            valid_set = None
            if valid_rows is not None:
                valid_set = ImageDataset(images, labels, weights, valid_rows)
        else:
            rows = np.flatnonzero(weights > 0)
            valid_set = self._validation_set(
                X_val, y_val, sample_weight_val, classes, by_class
            )

        goes_on = self.warm_start and hasattr(self, "net_")
        if goes_on:
            self._check_warm_start(classes, last_shape)
            unfreezing["unfreeze_schedule"] = "immediate"
        # Before the network: its errors must not wait until weights are downloaded.
        settings = self._settings(len(rows), device, precision, seed, unfreezing)
        # A number format set outside would also reach the backward pass.
        with forked_rng(seed, device), autocast("float32", device):
            if goes_on:
                stages = copy.deepcopy(self.net_.module_)
            else:
                stages = self._make_stages(images, rows, len(classes))
            stages.unfreeze(settings.unfreeze_depth)
            train_set = ImageDataset(images, labels, weights, rows)
            return train(stages, train_set, valid_set, settings), classes

    def _check_warm_start(self, classes: np.ndarray, last_shape: Any) -> None:
        """Raise where training cannot go on from the last fit."""
        changed = [
            name
            for name, value in self._network_params().items()
            if value != self._fitted_network.get(name)
        ]
        if self.image_shape_ != last_shape:
            changed.append("the image shape")
        if not np.array_equal(classes, self.classes_):
            changed.append("the classes")
        if changed:
            raise ValueError(
                f"warm_start=True goes on from the last fit, but {', '.join(changed)} "
                "changed since; pass warm_start=False to start over."
            )

    def _network_params(self) -> dict[str, Any]:
        """The parameters that decide what the network is."""
        names = ("backbone", "width", "whiten", "global_pool", "dropout", "image_size")
        return {n: v for n, v in self.get_params(deep=False).items() if n in names}

    def _make_stages(
        self, images: np.ndarray, rows: np.ndarray, n_classes: int
    ) -> Stages:
        """The network for these images, of which `rows` are trained on."""
        raise NotImplementedError

    def _unfreezing(self) -> dict[str, Any]:
        """Depth, schedule and the like, for `TrainingSettings`; checked."""
        raise NotImplementedError

    def _peak_rate(self, images_a_step: float) -> float:
        """Peak rate of the head, per step."""
        return float(self.lr)

    def _settings(
        self,
        n_images: int,
        device: Any,
        precision: str,
        seed: int,
        unfreezing: Mapping[str, Any],
    ) -> TrainingSettings:
        """The parameters that the training loop reads."""
        from sktransfer._activations.cache import resolve_cache
        from sktransfer._training.schedule import n_batches, resolve_batch_size
        from sktransfer._training.train import (
            TrainingSettings,
            optimizer_params,
            own_callbacks,
        )

        stop = self.early_stopping
        batch_size = resolve_batch_size(self.batch_size, n_images)
        return TrainingSettings(
            max_epochs=self.max_epochs,
            batch_size=batch_size,
            lr=self._peak_rate(n_images / n_batches(n_images, batch_size)),
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
            callbacks=own_callbacks(list(self.callbacks or [])),
            net_params=optimizer_params(self.net_params or {}),
            activation_cache=resolve_cache(self.activation_cache),
            compile=self.compile,
            **unfreezing,
        )

    def _validation_set(
        self,
        X_val: Any,
        y_val: Any,
        sample_weight_val: Any,
        classes: np.ndarray,
        by_class: np.ndarray,
    ) -> ImageDataset:
        """The validation set that the user passed, weighted as the training set is."""
        from sktransfer._training.batches import ImageDataset

        images, _ = self._check_images(X_val, reset=False)
        y_val = column_or_1d(y_val, warn=True)
        check_consistent_length(images, y_val)
        unknown = np.setdiff1d(y_val, classes)
        if len(unknown):
            raise ValueError(f"y_val holds labels that y does not: {unknown[:5]}.")
        weights = _check_sample_weight(
            sample_weight_val, y_val, dtype=np.float32, ensure_non_negative=True
        )
        labels = np.searchsorted(classes, y_val)
        weights = (weights * by_class[labels]).astype(np.float32)
        rows = np.flatnonzero(weights)
        if not len(rows):
            raise ValueError(
                "sample_weight_val leaves no image with a positive weight."
            )
        return ImageDataset(images, labels, weights, rows)

    def _set_fitted(self, net: StagesNet, classes: np.ndarray) -> None:
        """Set every fitted attribute but the shape of the images, all at once."""
        # skorch has begun a row for an epoch that Ctrl-C cut off.
        history = [
            {name: value for name, value in row.items() if name != "batches"}
            for row in net.history
            if "dur" in row
        ]
        if net.interrupt_ is not None and not history:
            raise net.interrupt_
        losses = [row["valid_loss"] for row in history if "valid_loss" in row]
        self.classes_ = classes
        self.net_ = net
        self.history_ = history
        self.n_iter_ = len(history)
        self.best_epoch_ = int(np.argmin(losses)) + 1 if losses else self.n_iter_
        self._fitted_network = self._network_params()
        self.device_ = str(net.device)
        self.precision_ = net.precision
        self.cache_info_ = net.cache_info_

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # skorch has moved the network to where this process can run it.
        if hasattr(self, "net_"):
            from sktransfer._networks.device import resolve_device, still_native

            self.device_ = str(self.net_.device)
            self.precision_ = self.net_.precision = still_native(
                self.precision_, self.precision, resolve_device(self.device_)
            )


def warn_of_a_single_class(classes: np.ndarray) -> None:
    """Warn where there is nothing to tell apart."""
    if len(classes) == 1:
        warn(
            f"y holds a single class, {classes.tolist()[0]!r}, so nothing else can be "
            "predicted; shuffle images that are sorted by class before cutting them."
        )


def softmax(logits: np.ndarray) -> np.ndarray:
    """Probabilities, whose rows sum to 1, of logits (n_images, n_classes)."""
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    proba: np.ndarray = exponentials / exponentials.sum(axis=1, keepdims=True)
    return proba
