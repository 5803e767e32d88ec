"""What the classifiers share: parameters, fit and predict."""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from joblib import parallel_config
from scipy.special import softmax
from sklearn.base import ClassifierMixin
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import _safe_indexing
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sktransfer._estimators.computing import Computing
from sktransfer._estimators.export.methods import ExportedClasses
from sktransfer._estimators.inputs import ImageInput, restore_on_error
from sktransfer._estimators.targets import (
    check_validation_targets,
    refuse_bad_labels,
    split_rows,
    warn_of_a_single_class,
    weigh_images,
)
from sktransfer._estimators.workers.ranks import end_together, telling_ranks
from sktransfer._feedback import Bar, warn
from sktransfer._images.containers import (
    is_pictures,
    list_pictures,
    refuse_bad_container,
    unpack,
)
from sktransfer._images.pictures.opening import (
    BadImageError,
    join_errors,
    list_errors,
)
from sktransfer._images.pictures.reading import find_unreadable
from sktransfer._images.streams.ahead import Images
from sktransfer._images.streams.lazy import ArrayStream
from sktransfer._images.streams.spool import Spool
from sktransfer._images.views import DrawnViews
from sktransfer._processes.ranks import find_rank
from sktransfer._training.faults.interrupts import finish_imports

if TYPE_CHECKING:
    import torch

    from sktransfer._networks.stages import Stages
    from sktransfer._training.image_sets import ImageDataset
    from sktransfer._training.net import StagesNet
    from sktransfer._training.settings import TrainingSettings


_LEAVE_OUT = (
    "Repair them, leave them out of X and y, or pass on_bad_image='warn' or 'skip'."
)


class BaseImageClassifier(ClassifierMixin, ExportedClasses, Computing, ImageInput):
    """Fit and predict; a subclass chooses the network and how it is trained."""

    # A network without frozen stages has nothing to keep.
    activation_cache: Any = None

    # Estimators that were pickled by an earlier release have no such parameter.
    checkpoint: Any = None

    # The parameters that decide what the network is; training cannot continue after a
    # change of one of them.
    _network_parameters: ClassVar[tuple[str, ...]]

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImageInput._input_constraints,
        **Computing._computing_constraints,
        "dropout": [Interval(Real, 0, 1, closed="left")],
        "augment": [
            StrOptions({"flip", "flip_crop", "advanced"}),
            DrawnViews,
            callable,
            None,
        ],
        "mixup": [Interval(Real, 0, None, closed="left")],
        "cutmix": [Interval(Real, 0, None, closed="left")],
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
        "on_bad_image": [StrOptions({"raise", "warn", "skip"})],
        "early_stopping": [StrOptions({"auto"}), "boolean"],
        "validation_fraction": [Interval(Real, 0, 1, closed="neither")],
        "n_iter_no_change": [Interval(Integral, 1, None, closed="left")],
        "compile": ["boolean"],
        "tta": [StrOptions({"flip", "flip_shift"}), None],
        "checkpoint": [str, os.PathLike, None],
        "callbacks": [list, tuple, None],
        "net_params": [dict, None],
        "warm_start": ["boolean"],
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
            Images for early stopping, used instead of a share of `X`.

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
            On Ctrl-C. After the first epoch, the estimator is fitted all the same, with
            the weights of the best epoch, or the present ones if there are no
            validation images; ``interrupted_`` is True, and a ConvergenceWarning says
            how far training came.

        Warns
        -----
        ConvergenceWarning
            If Ctrl-C ended the training after the first epoch.
        """
        with telling_ranks():
            return self._fit(X, y, sample_weight, X_val, y_val, sample_weight_val)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
        sample_weight_val: Any,
    ) -> BaseImageClassifier:
        """Fit, as :meth:`fit` documents it."""
        started = time.perf_counter()
        with restore_on_error(self):
            self._validate_params()
            if (X_val is None) != (y_val is None):
                raise ValueError("X_val and y_val must be passed together.")
            if X_val is None and sample_weight_val is not None:
                raise ValueError("sample_weight_val needs X_val and y_val as well.")
            try:
                net, classes = self._train(
                    X, y, sample_weight, X_val, y_val, sample_weight_val
                )
            except BadImageError as error:
                if self.on_bad_image != "raise":
                    raise
                raise BadImageError(f"{error}\n{_LEAVE_OUT}", error.indices) from error
            self._set_fitted(net, classes)
            self.fit_time_ = time.perf_counter() - started
        if net.interrupt_ is not None:
            try:
                warn(ConvergenceWarning(self._describe_interrupt()), of_rank=True)
            finally:  # also where warnings are errors
                raise net.interrupt_
        self.fit_time_ = end_together(self.fit_time_, self._fitted_device())
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_images, n_classes), float32
            Rows sum to 1; columns are in the order of ``classes_``.

        Raises
        ------
        ValueError
            If `X` is not as described, or holds values that no image has.
        FloatingPointError
            If a logit is NaN or infinite.
        """
        proba: np.ndarray = softmax(self._logits(X), axis=1)
        return proba

    def decision_function(self, X: Any) -> np.ndarray:
        """Compute the logits of each class.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_images, n_classes) or (n_images,), float32
            For two classes, the second logit minus the first.

        Raises
        ------
        ValueError
            If `X` is not as described, or holds values that no image has.
        FloatingPointError
            If a logit is NaN or infinite.
        """
        logits = self._logits(X)
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """Predict the most probable class.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_images,)
            Labels as in ``classes_``.

        Raises
        ------
        ValueError
            If `X` is not as described, or holds values that no image has.
        FloatingPointError
            If a logit is NaN or infinite.
        """
        logits = self._logits(X)
        labels: np.ndarray = self.classes_[logits.argmax(axis=1)]
        return labels

    @finish_imports()
    def _logits(self, X: Any) -> np.ndarray:
        """Compute logits of shape (n_images, n_classes), float32."""
        from sktransfer._activations.cache import resolve_cache
        from sktransfer._activations.prediction import predict_logits

        check_is_fitted(self)
        images, _ = self._check_images(X, reset=False)
        logits = predict_logits(
            self.net_.module_,
            self.net_.n_prefix,
            images,
            self._fitted_device(),
            self.net_.precision,
            resolve_cache(self.activation_cache),
            self.tta,
            int(self.verbose),
        )
        self._warn_of_findings(images)
        return logits

    @finish_imports()
    def _train(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        X_val: Any,
        y_val: Any,
        sample_weight_val: Any,
    ) -> tuple[StagesNet, np.ndarray]:
        """Return the trained net and the classes; only set the shape of the images."""
        from sktransfer._images.variation import check_brightness
        from sktransfer._training.faults.resuming import check_checkpoint
        from sktransfer._training.image_sets import ImageDataset
        from sktransfer._training.ranks.agreement import share_seed
        from sktransfer._training.train import train

        goes_on = self.warm_start and hasattr(self, "net_")
        device, precision = self._resolve_device()
        # For their errors, which must not wait for images.
        self._resolve_plan(goes_on)
        checkpoint = check_checkpoint(self.checkpoint, self.random_state)
        last_shape = getattr(self, "image_shape_", None)

        refuse_bad_labels("y", y)
        refuse_bad_labels("y_val", y_val)
        X, y, sample_weight = self._leave_out_bad(X, y, sample_weight)
        images, y = self._check_images(X, y, reset=True, min_samples=2)
        if self.augment == "advanced":
            check_brightness(images)
        check_classification_targets(y)
        classes, labels = np.unique(y, return_inverse=True)
        warn_of_a_single_class(classes)
        weights, by_class = weigh_images(sample_weight, self.class_weight, y)
        seed = share_seed(self._draw_seed(), self.random_state, device)
        images = self._keep_pixels(images, goes_on)
        if X_val is None:
            stop, fraction = self.early_stopping, self.validation_fraction
            rows, valid_rows = split_rows(labels, weights, stop, fraction, seed)
            valid_set = None
            if valid_rows is not None:
                valid_set = ImageDataset(images, labels, weights, valid_rows)
        else:
            rows = np.flatnonzero(weights > 0)
            valid_set = self._check_validation_set(
                X_val, y_val, sample_weight_val, classes, by_class, goes_on
            )

        if goes_on:
            self._check_warm_start(classes, last_shape)
        self._trained_on = {
            "n_per_class": np.bincount(labels[rows], minlength=len(classes)),
            "n_validation": 0 if valid_set is None else len(valid_set.rows),
        }
        settings = replace(
            self._make_settings(len(rows), device, precision, seed, goes_on),
            checkpoint=checkpoint,
            network_params=self._network_params(),
        )
        train_set = ImageDataset(images, labels, weights, rows)
        n_classes = len(classes)
        with self._seeded_stages(
            images, rows, n_classes, device, seed, goes_on
        ) as stages:
            net = train(stages, train_set, valid_set, settings)
        for dataset in (train_set, None if X_val is None else valid_set):
            if dataset is not None:
                self._warn_of_findings(dataset.images)
        return net, classes

    def _leave_out_bad(
        self, X: Any, y: Any, sample_weight: Any, name: str = "X"
    ) -> tuple[Any, Any, Any]:
        """Leave out the pictures that cannot be read, unless that is an error."""
        refuse_bad_container(X)
        unpacked = unpack(X)
        if name == "X":
            self.__dict__.pop("bad_images_", None)
        if self.on_bad_image == "raise" or not is_pictures(unpacked):
            return X, y, sample_weight
        pictures = list_pictures(unpacked)
        check_consistent_length(
            pictures, y, sample_weight if np.ndim(sample_weight) else None
        )
        rows = range(len(pictures))
        with Bar("check", len(pictures), int(self.verbose)) as bar:
            errors = find_unreadable(
                pictures, rows, self.max_value, advance=bar.advance
            )
        bad = np.array([i for error in errors for i in error.indices], np.int64)
        if name == "X":
            self.bad_images_ = bad
        if not len(bad):
            return X, y, sample_weight
        if len(bad) == len(pictures):
            raise join_errors(errors, len(pictures))
        if self.on_bad_image == "warn":
            warn(
                f"{len(bad)} of {len(pictures)} images of {name} were left out:\n"
                f"{list_errors(errors)[0]}"
            )
        good = np.delete(np.arange(len(pictures)), bad)
        kept = [
            _safe_indexing(some, good) if np.ndim(some) else some
            for some in (y, sample_weight)
        ]
        return _safe_indexing(unpacked, good), *kept

    def _keep_pixels(self, images: Images, goes_on: bool) -> Images:
        """Keep the pixels of streams for those who ask for them again."""
        from sktransfer._activations.cache import resolve_cache

        # An array, or one that is mapped into memory, is read as fast as what is kept.
        is_there = isinstance(images, np.ndarray) or (
            isinstance(images, ArrayStream)
            and isinstance(images.images.source, np.ndarray)
        )
        if is_there:
            return images
        cache = resolve_cache(self.activation_cache)
        # Within the limit of the folder, if there is one.
        most = None if cache is None else cache.max_disk_bytes
        spool = Spool(
            images,
            None if cache is None else cache.path,
            None if isinstance(most, str) else most,
        )
        if not self._learns_from_pixels(goes_on):
            return spool
        if find_rank().n_ranks > 1:  # this one needs only some of the images
            spool.keep_at_once()
        else:
            with Bar("read", len(images), int(self.verbose)) as bar:
                spool.fill(bar.advance)
        return spool

    def _learns_from_pixels(self, goes_on: bool) -> bool:
        """Return whether the images themselves are needed in every epoch."""
        return True

    @contextmanager
    def _seeded_stages(
        self,
        images: Images,
        rows: np.ndarray,
        n_classes: int,
        device: torch.device,
        seed: int,
        goes_on: bool = False,
    ) -> Iterator[Stages]:
        """Yield the network before training; torch is seeded inside the block."""
        from sktransfer._networks.device import autocast, fork_rng
        from sktransfer._networks.processes import take_turn_on

        # What a fit runs through joblib, as solvers of scikit-learn 1.7 do, stays in
        # this thread: sent to Dask, it would wait behind the next fit, and that one for
        # this. A number format set by the caller would reach the backward pass.
        with (
            take_turn_on(device),
            fork_rng(seed, device),
            parallel_config("sequential"),
            autocast("float32", device),
        ):
            if goes_on:
                yield copy.deepcopy(self.net_.module_)
            else:
                yield self._make_stages(images, rows, n_classes, device)

    def _check_warm_start(self, classes: np.ndarray, last_shape: Any) -> None:
        """Raise a ValueError if training cannot continue from the last fit."""
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
                "warm_start=True continues from the last fit, but "
                f"{', '.join(changed)} changed since; pass warm_start=False to start "
                "again."
            )

    def _network_params(self) -> dict[str, Any]:
        """Return the parameters that decide what the network is, by name."""
        return {name: getattr(self, name) for name in self._network_parameters}

    def _make_stages(
        self,
        images: Images,
        rows: np.ndarray,
        n_classes: int,
        device: torch.device,
    ) -> Stages:
        """Build the network for these images, of which `rows` are trained on."""
        raise NotImplementedError

    def _resolve_plan(self, goes_on: bool) -> tuple[int, ...]:
        """Return how many stages besides the head learn in each epoch; check it.

        It may depend on the images, once they were checked.
        """
        raise NotImplementedError

    def _training_options(self, goes_on: bool) -> dict[str, Any]:
        """Return the settings that only this kind of classifier has."""
        raise NotImplementedError

    def _choose_lr(self, images_per_step: float) -> float:
        """Choose the peak rate of the head, per step."""
        return float(self.lr)

    def _choose_weight_decay(self) -> float:
        """Choose the L2 penalty on learning parameters."""
        return float(self.weight_decay)

    def _make_settings(
        self,
        n_images: int,
        device: torch.device,
        precision: str,
        seed: int,
        goes_on: bool,
    ) -> TrainingSettings:
        """Collect what the training loop needs to know."""
        from sktransfer._activations.cache import resolve_cache
        from sktransfer._training.schedule import count_batches, resolve_batch_size
        from sktransfer._training.settings import (
            TrainingSettings,
            check_net_params,
            copy_callbacks,
        )

        stop = self.early_stopping
        batch_size = resolve_batch_size(self.batch_size, n_images)
        return TrainingSettings(
            plan=self._resolve_plan(goes_on),
            batch_size=batch_size,
            lr=self._choose_lr(n_images / count_batches(n_images, batch_size)),
            momentum=self.momentum,
            weight_decay=self._choose_weight_decay(),
            label_smoothing=self.label_smoothing,
            augment=self.augment,
            mixup=float(self.mixup),
            cutmix=float(self.cutmix),
            # Without early stopping a validation set still chooses the best epoch.
            patience=self.n_iter_no_change if stop else self.max_epochs + 1,
            device=device,
            precision=precision,
            seed=seed,
            verbose=int(self.verbose),
            callbacks=copy_callbacks(list(self.callbacks or [])),
            net_params=check_net_params(self.net_params or {}),
            activation_cache=resolve_cache(self.activation_cache),
            compile=self.compile,
            **self._training_options(goes_on),
        )

    def _check_validation_set(
        self,
        X_val: Any,
        y_val: Any,
        sample_weight_val: Any,
        classes: np.ndarray,
        by_class: np.ndarray,
        goes_on: bool,
    ) -> ImageDataset:
        """Check the validation set that the user passed; weight it as in training."""
        from sktransfer._training.image_sets import ImageDataset

        try:
            X_val, y_val, sample_weight_val = self._leave_out_bad(
                X_val, y_val, sample_weight_val, "X_val"
            )
            images, _ = self._check_images(X_val, reset=False, name="X_val")
        except BadImageError as error:
            raise BadImageError(f"X_val: {error}", error.indices) from error
        except (TypeError, ValueError) as error:
            raise type(error)(f"X_val: {error}") from error
        images = self._keep_pixels(images, goes_on)
        labels, weights = check_validation_targets(
            y_val, sample_weight_val, len(images), classes, by_class
        )
        return ImageDataset(images, labels, weights, np.flatnonzero(weights))

    def _set_fitted(self, net: StagesNet, classes: np.ndarray) -> None:
        """Set every fitted attribute except the shape of the images, all at once."""
        # skorch has started a row for an epoch that Ctrl-C interrupted.
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
        self.interrupted_ = net.interrupt_ is not None
        self.best_epoch_ = int(np.argmin(losses)) + 1 if losses else self.n_iter_
        self._fitted_network = self._network_params()
        self.device_ = str(net.device)
        self.precision_ = net.precision
        self.cache_info_ = net.cache_info_

    def _describe_interrupt(self) -> str:
        """Say how far an interrupted training came, and what was kept of it."""
        kept = "the present weights are kept"
        if "valid_loss" in self.history_[0]:
            kept = f"the weights of epoch {self.best_epoch_} are kept"
        again = ""
        if self.checkpoint is not None:
            again = f" The same fit resumes from checkpoint={str(self.checkpoint)!r}."
        return (
            f"interrupted after epoch {self.n_iter_} of {self.net_.max_epochs}; "
            f"{kept}.{again}"
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "net_")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        # skorch has put the network on a device that this process has.
        if hasattr(self, "net_"):
            self.device_ = str(self.net_.device)
            self.precision_ = self.net_.precision = self._recheck_precision()
