"""The training loop: skorch trains stages under an unfreeze schedule."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PrintLog
from skorch.helper import predefined_split
from torch import nn
from torch.nn import functional as F

from sktransfer._augmentation import Augment
from sktransfer._batches import Batch, Batches, ImageDataset
from sktransfer._device import autocast
from sktransfer._schedule import Schedule
from sktransfer._stages import Stages
from sktransfer._unfreezing import UnfreezeSchedule

_REMEDY = "Lower lr, or check that X is scaled to [0, 1]."


class StagesNet(NeuralNet):
    """skorch's net over :class:`Stages`, with whole-batch iteration.

    Parameters
    ----------
    module : Stages
        The network; trained in place.

    augment : str, callable or None
        Augmentation of training batches.

    precision : {"float32", "bfloat16"}
        Number format of matrix products while training.

    seed : int
        Seeds shuffling and augmentation.

    **kwargs
        Passed on to :class:`skorch.NeuralNet`.
    """

    def __init__(
        self,
        module: Stages,
        *,
        augment: Augment = None,
        precision: str = "float32",
        seed: int = 0,
        criterion: type[nn.Module] = nn.CrossEntropyLoss,
        **kwargs: Any,
    ) -> None:
        self.augment = augment
        self.precision = precision
        self.seed = seed
        super().__init__(module, criterion, **kwargs)

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        # Losses are recorded once an epoch below, so skorch's per-batch scorers go.
        return [("epoch_timer", EpochTimer()), ("print_log", PrintLog())]

    def get_iterator(self, dataset: ImageDataset, training: bool = False) -> Batches:
        """Batches of a data set, as :class:`Batches`."""
        generator = torch.Generator().manual_seed(self.seed) if training else None
        return Batches(
            dataset, self.batch_size, torch.device(self.device), self.augment, generator
        )

    def fit_loop(
        self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any
    ) -> StagesNet:
        """Train; remember a Ctrl-C, which skorch would swallow."""
        self.interrupt_: KeyboardInterrupt | None = None
        try:
            super().fit_loop(X, y, epochs, **fit_params)
        except KeyboardInterrupt as error:
            # skorch's EarlyStopping stops by the same exception.
            if not any(_has_stopped(callback) for _, callback in self.callbacks_):
                self.interrupt_ = error
            raise
        return self

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **kwargs: Any
    ) -> None:
        """Run over all batches; read losses back from the device only at the end."""
        if iterator is None:
            return
        self.module_.train(training)
        losses, weights, right = [], [], []
        for batch in iterator:
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **kwargs)
            labels, weight = batch[1]
            losses.append(step["loss"].detach())
            weights.append(weight.sum())
            right.append(((step["y_pred"].argmax(1) == labels) * weight).sum())
            self.notify("on_batch_end", batch=batch, training=training, **step)
        loss, weight = torch.stack(losses), torch.stack(weights)
        self._check_finite(loss, prefix)
        total = weight.sum()
        self.history.record(f"{prefix}_loss", float((loss * weight).sum() / total))
        accuracy = float(torch.stack(right).sum() / total)
        self.history.record(f"{prefix}_accuracy", accuracy)

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Forward and backward pass over one batch."""
        images, (labels, weights) = batch
        with autocast(self.precision, images.device):
            logits = self.infer(images)
        # A plain mean: dividing by the weights of the batch would train a batch of
        # unimportant images at full strength.
        loss = (self.criterion_(logits.float(), labels) * weights).mean()
        loss.backward()
        return {"loss": loss, "y_pred": logits.detach()}

    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Weighted cross-entropy of one batch, unsmoothed."""
        images, (labels, weights) = batch
        with torch.no_grad():
            logits = self.infer(images)
            loss = F.cross_entropy(logits.float(), labels, reduction="none") * weights
        return {"loss": loss.sum() / weights.sum(), "y_pred": logits}

    def _check_finite(self, losses: torch.Tensor, prefix: str) -> None:
        """Raise where the loss of a batch is nan or infinite."""
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            batch = int(bad[0])
            raise FloatingPointError(
                f"The {prefix} loss became {float(losses[batch])} at epoch "
                f"{len(self.history)}, batch {batch + 1} (lr={self.lr:g}). {_REMEDY}"
            )

    def check_last_step(self, dataset: ImageDataset) -> None:
        """Raise where the last step left weights that give no finite logits.

        No loss after it has shown that.
        """
        batch, _ = next(iter(self.get_iterator(dataset)))
        with torch.inference_mode():
            logits = self.module_.eval()(batch)
        if not logits.isfinite().all():
            raise FloatingPointError(
                f"The logits became nan or infinite in the last step of epoch "
                f"{len(self.history)} (lr={self.lr:g}). {_REMEDY}"
            )


def _has_stopped(callback: Callback) -> bool:
    """Whether an early stopping callback ended the training."""
    return isinstance(callback, EarlyStopping) and callback.misses_ >= callback.patience


@dataclass(frozen=True)
class TrainingSettings:
    """What the loop needs to know, in the words of the estimators' parameters."""

    max_epochs: int
    batch_size: int
    lr: float
    backbone_lr_factor: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    augment: Augment
    unfreeze_depth: int
    unfreeze_schedule: Schedule
    patience: int
    device: torch.device
    precision: str
    seed: int
    verbose: int
    callbacks: list[Callback]
    net_params: Mapping[str, Any]


def train(
    stages: Stages,
    train_set: ImageDataset,
    valid_set: ImageDataset | None,
    settings: TrainingSettings,
) -> StagesNet:
    """Train stages; with a validation set, restore the weights of the best epoch.

    Parameters
    ----------
    stages : Stages
        Trained in place.

    train_set, valid_set : ImageDataset
        `valid_set` may be None.

    settings : TrainingSettings
        Everything else.

    Returns
    -------
    StagesNet
        ``interrupt_`` holds a KeyboardInterrupt that ended the training, or None.

    Raises
    ------
    FloatingPointError
        If a loss or the logits become nan or infinite.
    ValueError
        If `settings.net_params` or `settings.callbacks` are not skorch's.
    """
    callbacks: list[Any] = [
        (
            "unfreeze_schedule",
            UnfreezeSchedule(
                settings.unfreeze_schedule,
                settings.unfreeze_depth,
                settings.backbone_lr_factor,
            ),
        ),
        *_copied(settings.callbacks),
    ]
    best = None
    if valid_set is not None:
        best = EarlyStopping(
            "valid_loss", settings.patience, load_best=True, sink=_discard
        )
        callbacks.append(("early_stopping", best))
    net = _make_net(stages, valid_set, settings, callbacks)
    net.partial_fit(train_set, None)
    net.check_last_step(train_set)
    _forget_training_state(net, best)
    return net


def _copied(callbacks: list[Any]) -> list[Any]:
    """Copies of the user's callbacks, bare or as (name, callback)."""
    for item in callbacks:
        callback = item[1] if isinstance(item, tuple) and len(item) == 2 else item
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"callbacks holds {item!r}; pass skorch callbacks, or pairs of a name "
                "and a callback."
            )
    return copy.deepcopy(callbacks)


def _make_net(
    stages: Stages,
    valid_set: ImageDataset | None,
    settings: TrainingSettings,
    callbacks: list[Any],
) -> StagesNet:
    """The net, ready to train."""
    arguments = {
        "augment": settings.augment,
        "precision": settings.precision,
        "seed": settings.seed,
        "criterion__reduction": "none",
        "criterion__label_smoothing": settings.label_smoothing,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": settings.momentum,
        "optimizer__nesterov": settings.momentum > 0,
        "optimizer__weight_decay": settings.weight_decay,
        "lr": settings.lr,
        "max_epochs": settings.max_epochs,
        "batch_size": settings.batch_size,
        "train_split": predefined_split(valid_set) if valid_set else None,
        "callbacks": callbacks,
        "device": str(settings.device),
        "verbose": settings.verbose,
    }
    try:
        net = StagesNet(
            stages.to(settings.device), **{**arguments, **settings.net_params}
        )
        return net.initialize()  # type: ignore[no-any-return]
    except (TypeError, ValueError) as error:
        if not settings.net_params:
            raise
        raise ValueError(
            f"net_params={dict(settings.net_params)!r} does not fit skorch's net: "
            f"{error}"
        ) from error


def _forget_training_state(net: StagesNet, best: EarlyStopping | None) -> None:
    """Drop what prediction does not need and a pickle would carry along."""
    net.module_.eval()
    # skorch pickles `module` beside `module_`, and with the device it is on.
    net.module = Stages
    net.optimizer_.state.clear()
    net.train_split = None
    if best is not None:
        best.best_model_weights_ = None


def _discard(*args: Any, **kwargs: Any) -> None:
    """A sink for skorch's messages."""
