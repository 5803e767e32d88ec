"""What the training loop needs to know, and checks of what users add to it."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from skorch.callbacks import BatchScoring, Callback, EpochScoring, LRScheduler

from sktransfer._activations.cache import ActivationCache
from sktransfer._images.views import Augment
from sktransfer._training.callbacks.unfreezing import UnfreezeSchedule
from sktransfer._training.probe import SolveHead


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a fit, in the words of the estimators' parameters.

    `plan` holds the depth of every epoch: how many stages besides the head learn in it,
    and `depth_reason` says why, if the user did not choose it. `network_params` are the
    parameters that decide what the network is.
    """

    plan: tuple[int, ...]
    batch_size: int
    lr: float
    backbone_lr_factor: float
    momentum: float
    weight_decay: float
    label_smoothing: float
    augment: Augment
    patience: int
    device: torch.device
    precision: str
    seed: int
    verbose: int
    callbacks: list[Callback]
    net_params: Mapping[str, Any]
    activation_cache: ActivationCache | None
    optimizer: str = "sgd"
    layer_decay: float = 1.0
    clip_norm: float | None = None
    solve_head: SolveHead | None = None
    probe_share: float | str = 0.0
    max_probe_share: float = 1.0
    check_average: bool = False
    depth_reason: str | None = None
    compile: bool = False
    bias_lr_factor: float = 1.0
    lr_schedule: str = "cosine"
    alternate_flip: bool = False
    lookahead: bool = False
    mixup: float = 0.0
    cutmix: float = 0.0
    checkpoint: Path | None = None
    network_params: Mapping[str, Any] = field(default_factory=dict)


def copy_callbacks(callbacks: list[Any]) -> list[Any]:
    """Copy the user's callbacks, bare or as (name, callback).

    Raises
    ------
    ValueError
        If they are not callbacks of skorch, or of a kind that cannot work here.
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
                "callbacks holds an UnfreezeSchedule, but the estimator has its own; "
                "pass unfreeze_schedule and unfreeze_depth."
            )
        if issubclass(kind, (EpochScoring, BatchScoring)):
            raise ValueError(
                f"callbacks holds a {kind.__name__}, which cannot read weighted "
                "batches; history_ has train_ and valid_accuracy, and any other score "
                "can be computed from predict."
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
            f"callbacks={callbacks!r} could not be copied, but each fit needs its own: "
            f"{error}"
        ) from error


def check_net_params(net_params: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return `net_params`; ValueError unless they only concern the optimizer."""
    for key in net_params:
        if key != "optimizer" and not key.startswith("optimizer__"):
            raise ValueError(
                f"net_params has {key!r}, but takes only 'optimizer' and "
                "'optimizer__...'; everything else is a parameter of the estimator."
            )
    return net_params
