"""The training loop: skorch trains stages under an unfreeze schedule."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochTimer, PrintLog
from skorch.helper import predefined_split
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset

from sktransfer._augmentation import Augment, augment_batch
from sktransfer._device import autocast
from sktransfer._preprocessing import to_batch
from sktransfer._schedule import WARMUP_EPOCHS, Schedule, n_batches, rate, unfreeze_plan
from sktransfer._stages import Stages

Batch = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]


class UnfreezeSchedule(Callback):
    """Open the stages of a network one after another while skorch trains it.

    Works in any skorch net whose module is a :class:`Stages`. The optimizer is left
    with one parameter group for each learning stage; a stage that opens gets a group
    of its own, whose rate warms up from the step at which it opened and then follows
    one cosine to zero that all groups share.

    Parameters
    ----------
    schedule : {"gradual", "immediate"} or mapping of int to int, default="gradual"
        ``"gradual"`` trains the head alone in the first epoch and opens one stage an
        epoch after it, ``"immediate"`` opens all at once, ``{epoch: depth}`` sets the
        depth from an epoch (counted from 0) on.

    unfreeze_depth : int, default=2
        How many stages besides the head learn in the end.

    backbone_lr_factor : float, default=0.1
        Rate of the stages before the head as a share of the net's ``lr``.
    """

    def __init__(
        self,
        schedule: Schedule = "gradual",
        unfreeze_depth: int = 2,
        backbone_lr_factor: float = 0.1,
    ) -> None:
        self.schedule = schedule
        self.unfreeze_depth = unfreeze_depth
        self.backbone_lr_factor = backbone_lr_factor

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Freeze what the first epoch leaves frozen."""
        self.plan_ = unfreeze_plan(self.schedule, self.unfreeze_depth, net.max_epochs)
        self.epoch_ = self.step_ = 0
        stages = net.module_.unfreeze(self.plan_[0])
        ours = {id(p) for p in stages.parameters()}
        others = [
            {**group, "params": [p for p in group["params"] if id(p) not in ours]}
            for group in net.optimizer_.param_groups
        ]
        net.optimizer_.param_groups.clear()
        for group in others:
            if group["params"]:
                net.optimizer_.add_param_group(group)
        self._open(net, stages.learning())

    def on_epoch_begin(
        self, net: NeuralNet, dataset_train: Any = None, **kwargs: Any
    ) -> None:
        """Open the stages that this epoch adds."""
        iterator = net.get_iterator(dataset_train, training=True)
        self.steps_per_epoch_ = len(iterator)
        depth = self.plan_[min(self.epoch_, len(self.plan_) - 1)]
        stages = net.module_
        if depth != stages.unfreeze_depth:
            before = stages.learning()
            stages.unfreeze(depth)
            self._open(net, [n for n in stages.learning() if n not in before])
        net.history.record("unfreeze_depth", depth)

    def on_batch_begin(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Set the rate of every stage for this step."""
        if not training:
            return
        n_steps = len(self.plan_) * self.steps_per_epoch_
        warmup_steps = math.ceil(WARMUP_EPOCHS * self.steps_per_epoch_)
        for group in net.optimizer_.param_groups:
            if "stage" in group:
                share = rate(self.step_, n_steps, group["opened_at"], warmup_steps)
                group["lr"] = group["peak_lr"] * share
        self.step_ += 1

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Count the epoch."""
        self.epoch_ += 1

    def _open(self, net: NeuralNet, names: Any) -> None:
        """Give each stage of these names a group of its own in the optimizer."""
        for name in names:
            parameters = list(net.module_.get_submodule(name).parameters())
            is_head = name == net.module_.names[-1]
            peak_lr = net.lr * (1.0 if is_head else self.backbone_lr_factor)
            if parameters:
                net.optimizer_.add_param_group(
                    {
                        "params": parameters,
                        "stage": name,
                        "peak_lr": peak_lr,
                        "lr": peak_lr,
                        "opened_at": self.step_,
                    }
                )


class ImageDataset(Dataset):  # type: ignore[type-arg]
    """Images in memory with labels and weights, indexed by whole batches.

    Parameters
    ----------
    images : ndarray of shape (n, height, width, n_channels)
        Not copied.

    labels : ndarray of shape (n,), int64
        Class indices.

    weights : ndarray of shape (n,), float32
        Weight of each image in the loss.

    rows : ndarray of int, default=None
        The images that belong to the set; ``None`` means all.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> None:
        self.images, self.labels, self.weights = images, labels, weights
        self.rows = np.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> tuple[Any, tuple[Any, Any]]:
        rows = self.rows[index]
        return self.images[rows], (self.labels[rows], self.weights[rows])


class Batches:
    """One epoch of batches on the device; shuffled and augmented when training."""

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        device: torch.device,
        augment: Augment,
        generator: torch.Generator | None,
    ) -> None:
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self.augment, self.generator = augment, generator

    def __len__(self) -> int:
        return n_batches(len(self.dataset), self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.dataset)
        order = torch.arange(n)
        if self.generator is not None:
            order = torch.randperm(n, generator=self.generator)
        for rows in order.tensor_split(len(self)):
            images, (labels, weights) = self.dataset[rows.numpy()]
            batch = to_batch(images, self.device)
            if self.generator is not None:
                batch = augment_batch(batch, self.augment, self.generator)
            yield (
                batch,
                (
                    torch.from_numpy(labels).to(self.device),
                    torch.from_numpy(weights).to(self.device),
                ),
            )


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
        self._check_finite(loss.tolist(), prefix)
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

    def _check_finite(self, losses: list[float], prefix: str) -> None:
        """Raise where a loss is nan or infinite."""
        bad = [i for i, loss in enumerate(losses) if not math.isfinite(loss)]
        if bad:
            raise FloatingPointError(
                f"The {prefix} loss became {losses[bad[0]]} at epoch "
                f"{len(self.history)}, batch {bad[0] + 1} (lr={self.lr:g}). Lower lr, "
                "or check that X is scaled to [0, 1]."
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
        If a loss is nan or infinite.
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
        *copy.deepcopy(settings.callbacks),
    ]
    best = None
    if valid_set is not None:
        best = EarlyStopping(
            "valid_loss", settings.patience, load_best=True, sink=_discard
        )
        callbacks.append(("early_stopping", best))
    net = StagesNet(
        stages.to(settings.device),
        **{
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
            **settings.net_params,
        },
    )
    net.fit(train_set, None)
    _forget_training_state(net, best)
    return net


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
