"""Training: settings in, a trained net out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from skorch.callbacks import (
    BatchScoring,
    Callback,
    EarlyStopping,
    EpochScoring,
    LRScheduler,
)
from skorch.helper import predefined_split

from sktransfer._activations.cache import ActivationCache
from sktransfer._activations.prefix import Prefix
from sktransfer._images.views import Augment
from sktransfer._networks.device import moved
from sktransfer._networks.stages import Stages
from sktransfer._training.batches import ImageDataset, resident
from sktransfer._training.frozen import (
    Sets,
    any_full,
    encoded,
    n_always_frozen,
    reason_without_cache,
    summary,
    total_info,
)
from sktransfer._training.lookahead import Lookahead
from sktransfer._training.net import StagesNet
from sktransfer._training.progress import training_bar
from sktransfer._training.schedule import Schedule
from sktransfer._training.unfreezing import UnfreezeSchedule


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
    activation_cache: ActivationCache | None
    compile: bool = False
    bias_lr_factor: float = 1.0
    lr_schedule: str = "cosine"
    alternate_flip: bool = False
    lookahead: bool = False


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
        If `settings.net_params` do not fit their optimizer.
    """
    callbacks: list[Any] = [
        (
            "unfreeze_schedule",
            UnfreezeSchedule(
                settings.unfreeze_schedule,
                settings.unfreeze_depth,
                settings.backbone_lr_factor,
                settings.bias_lr_factor,
                settings.lr_schedule,
            ),
        ),
        *settings.callbacks,
    ]
    if settings.lookahead:
        callbacks.append(("lookahead", Lookahead()))
    best = None
    if valid_set is not None:
        best = EarlyStopping(
            "valid_loss",
            settings.patience,
            threshold=0,
            load_best=True,
            sink=_discard,
        )
        callbacks.append(("early_stopping", best))
    moved(stages, settings.device)
    n_prefix = n_always_frozen(
        stages, settings.unfreeze_schedule, settings.unfreeze_depth, settings.max_epochs
    )
    prefix, cache = None, settings.activation_cache
    if n_prefix:
        prefix = Prefix(stages, n_prefix, settings.device, settings.precision)
    reason = reason_without_cache(
        prefix, train_set.images, settings.augment, cache is not None
    )
    if settings.verbose and reason is not None:
        print(reason)
    with encoded(
        prefix, (train_set, valid_set), settings.augment, cache, settings.verbose
    ) as sets:
        sets = _resident(sets, settings.device)
        with training_bar(settings.verbose) as bars:
            net = _make_net(stages, n_prefix, sets[1], settings, [*bars, *callbacks])
            net.partial_fit(sets[0], None)
        if net.interrupt_ is None:
            net.check_last_step(sets[0])
        net.cache_info_ = total_info(sets)
        if settings.verbose and reason is None and prefix is not None:
            print(summary(net.cache_info_, any_full(sets)))
    _forget_training_state(net, best)
    return net


def _resident(sets: Sets, device: torch.device) -> Sets:
    """The sets with their images on the device, where that serves."""
    there: dict[int, torch.Tensor | None] = {}

    def placed(dataset: ImageDataset) -> ImageDataset:
        if dataset.activations is not None:
            return dataset
        key = id(dataset.images)
        if key not in there:
            there[key] = resident(dataset.images, device)
        return dataset.changed(resident=there[key])

    train_set, valid_set = sets
    return placed(train_set), None if valid_set is None else placed(valid_set)


def own_callbacks(callbacks: list[Any]) -> list[Any]:
    """Copies of the user's callbacks, bare or as (name, callback).

    Raises
    ------
    ValueError
        If they are not callbacks of skorch, or of a kind that cannot serve here.
    """
    for item in callbacks:
        callback = item[1] if isinstance(item, tuple) and len(item) == 2 else item
        kind = callback if isinstance(callback, type) else type(callback)
        if not issubclass(kind, Callback):
            raise ValueError(
                f"callbacks holds {item!r}; pass skorch callbacks, or pairs of a name "
                "and a callback."
            )
        if issubclass(kind, UnfreezeSchedule):
            raise ValueError(
                "callbacks holds an UnfreezeSchedule, which the estimator has already; "
                "pass unfreeze_schedule and unfreeze_depth."
            )
        if issubclass(kind, (EpochScoring, BatchScoring)):
            raise ValueError(
                f"callbacks holds a {kind.__name__}, which cannot read weighted "
                "batches; history_ has train_ and valid_accuracy, and predict any "
                "other score."
            )
        if issubclass(kind, LRScheduler):
            raise ValueError(
                f"callbacks holds a {kind.__name__}, but the estimator sets the rate "
                "of every stage itself; pass lr."
            )
    try:
        return copy.deepcopy(callbacks)
    except Exception as error:
        raise ValueError(
            f"callbacks={callbacks!r} could not be copied, which fit does so that each "
            f"fit has its own: {error}"
        ) from error


def optimizer_params(net_params: Mapping[str, Any]) -> Mapping[str, Any]:
    """`net_params` if they are about the optimizer alone, else a ValueError."""
    for key in net_params:
        if key != "optimizer" and not key.startswith("optimizer__"):
            raise ValueError(
                f"net_params has {key!r}; only 'optimizer' and 'optimizer__...' go "
                "there, the estimator's own parameters say the rest."
            )
    return net_params


def _optimizer(settings: TrainingSettings) -> dict[str, Any]:
    """SGD with Nesterov momentum, or what `net_params` has in its place."""
    defaults: dict[str, Any] = {"optimizer__weight_decay": settings.weight_decay}
    if "optimizer" not in settings.net_params:
        defaults["optimizer"] = torch.optim.SGD
        defaults["optimizer__momentum"] = settings.momentum
        defaults["optimizer__nesterov"] = settings.momentum > 0
        # One kernel for all that a step does to a parameter.
        foreach = settings.net_params.get("optimizer__foreach")
        defaults["optimizer__fused"] = not foreach
    return {**defaults, **settings.net_params}


def _make_net(
    stages: Stages,
    n_prefix: int,
    valid_set: ImageDataset | None,
    settings: TrainingSettings,
    callbacks: list[Any],
) -> StagesNet:
    """The net, ready to train."""
    arguments = {
        "augment": settings.augment,
        "precision": settings.precision,
        "seed": settings.seed,
        "n_prefix": n_prefix,
        "alternate_flip": settings.alternate_flip,
        "compile_forward": settings.compile,
        "criterion__reduction": "none",
        "criterion__label_smoothing": settings.label_smoothing,
        **_optimizer(settings),
        "lr": settings.lr,
        "max_epochs": settings.max_epochs,
        "batch_size": settings.batch_size,
        "train_split": predefined_split(valid_set) if valid_set else None,
        "callbacks": callbacks,
        "device": str(settings.device),
        "verbose": settings.verbose,
    }
    try:
        net = StagesNet(stages, **arguments)
        return net.initialize()  # type: ignore[no-any-return]
    except (TypeError, ValueError, RuntimeError) as error:
        if not settings.net_params:
            raise
        raise ValueError(
            f"net_params={dict(settings.net_params)!r} does not fit skorch's net: "
            f"{error}"
        ) from error


def _forget_training_state(net: StagesNet, best: EarlyStopping | None) -> None:
    """Drop what prediction does not need and a pickle would carry along."""
    net.module_.eval()
    net.compiled_ = None
    # skorch pickles `module` beside `module_`, and with the device it is on.
    net.module = Stages
    net.optimizer_.state.clear()
    net.train_split = None
    if best is not None:
        best.best_model_weights_ = None


def _discard(*args: Any, **kwargs: Any) -> None:
    """A sink for skorch's messages."""
