"""Training: settings in, a trained net out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from skorch.helper import predefined_split

from sktransfer._activations.cache import CacheInfo
from sktransfer._activations.prefix import Prefix
from sktransfer._feedback import warn
from sktransfer._networks.device import move_to
from sktransfer._networks.stages import Stages
from sktransfer._training.callbacks.averaging import ProbeAverage, StopAtProbe
from sktransfer._training.callbacks.checkpoint import Checkpoint
from sktransfer._training.callbacks.lookahead import Lookahead
from sktransfer._training.callbacks.progress import open_bar
from sktransfer._training.callbacks.stopping import StopEarly
from sktransfer._training.callbacks.unfreezing import UnfreezeSchedule
from sktransfer._training.faults.resuming import make_checkpoint
from sktransfer._training.image_sets import (
    ImageDataset,
    explain_recomputing,
    is_any_full,
    keep_on_device,
    list_info,
    sum_info,
    warn_of_no_changes,
    with_activations,
)
from sktransfer._training.mixing import name_mixing
from sktransfer._training.net import StagesNet
from sktransfer._training.probe import Probe, make_probe
from sktransfer._training.ranks.agreement import check_agreement
from sktransfer._training.ranks.group import Group, join_group
from sktransfer._training.ranks.shares import assign
from sktransfer._training.settings import TrainingSettings


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
    device, cache = settings.device, settings.activation_cache
    group = join_group(device)
    if group is not None:
        check_agreement(group, stages, train_set, valid_set, settings)
        group.is_training = True
        settings = _settle(settings, group)
        train_set = _take_own(train_set, group)
        valid_set = None if valid_set is None else _take_own(valid_set, group)
    verbose = settings.verbose
    if verbose and group is not None:
        n_each = len(train_set) / group.n_ranks
        print(f"{group.n_ranks} ranks train together, on {n_each:.0f} images each.")
    move_to(stages, device)
    n_prefix = stages.n_frozen(max(settings.plan))
    prefix = None
    if n_prefix:
        prefix = Prefix(stages, n_prefix, device, settings.precision)
    mixed = name_mixing(settings.mixup, settings.cutmix)
    reason = None
    if settings.solve_head is None or len(settings.plan) > 1:
        reason = explain_recomputing(
            prefix, train_set.images, settings.augment, cache is not None, mixed
        )
    else:  # a head that is solved, and nothing else trained, passes each image once
        warn_of_no_changes(train_set.images, settings.augment, mixed)
    if verbose:
        for line in filter(None, (settings.depth_reason, reason)):
            print(line)
    best = None if valid_set is None else StopEarly(settings.patience)
    checkpoint = make_checkpoint(stages, train_set, valid_set, settings, group)
    both = (train_set, valid_set)
    with with_activations(
        prefix, both, settings.augment, cache, verbose, is_mixed=mixed is not None
    ) as sets:
        probe = make_probe(stages, sets[0], settings, group)
        sets = keep_on_device(sets, device)
        callbacks = _list_callbacks(settings, best, probe, checkpoint)
        with open_bar(verbose) as bars:
            net = _make_net(stages, n_prefix, sets[1], settings, [*bars, *callbacks])
            net.probe, net.has_probe_ = probe, probe is not None
            net.group = group
            net.partial_fit(sets[0], None)
        if net.interrupt_ is None:
            net.check_last_step(sets[0])
        else:  # other ranks may not have been interrupted, and wait for nothing
            group = None
        infos = [*list_info(sets), *([probe.info] if probe else [])]
        net.cache_info_ = _sum_over_ranks(sum_info(infos), group)
        if verbose and reason is None and prefix is not None and cache is not None:
            full = "; memory is full, so some were computed more than once"
            end = full if is_any_full(sets) else ""
            print(f"activation_cache: {net.cache_info_}{end}.")
    if group is not None:
        _share_times(net, group)
    forget_training_state(net, best)
    return net


def _settle(settings: TrainingSettings, group: Group) -> TrainingSettings:
    """Let the first rank alone print, and leave out what several cannot do."""
    if settings.compile:
        warn(
            "compile=True has no effect where several ranks train together; pass "
            "compile=False."
        )
    verbose = settings.verbose if group.is_first else 0
    return replace(settings, verbose=verbose, compile=False)


def _take_own(dataset: ImageDataset, group: Group) -> ImageDataset:
    """Let this rank learn from, or validate on, its share of a set."""
    n_images = len(dataset.images)
    is_own = assign(dataset.rows, n_images, group.number, group.n_ranks)
    return dataset.replace(is_own=is_own)


def _sum_over_ranks(info: CacheInfo, group: Group | None) -> CacheInfo:
    """Add up what the caches of all ranks did; they have one folder, if any."""
    if group is None:
        return info
    every = group.collect(info)
    on_disk = max(one.n_bytes_on_disk for one in every)
    return sum_info(every)._replace(n_bytes_on_disk=on_disk)


def _share_times(net: StagesNet, group: Group) -> None:
    """Record the seconds of the first rank everywhere: all have one history then."""
    seconds = group.share([row.get("dur") for row in net.history])
    for row, some in zip(net.history, seconds, strict=True):
        if some is not None:
            row["dur"] = some


def _list_callbacks(
    settings: TrainingSettings,
    best: StopEarly | None,
    probe: Probe | None,
    checkpoint: Checkpoint | None,
) -> list[Any]:
    """List the callbacks of a fit, with the user's among them."""
    schedule = UnfreezeSchedule(
        settings.plan,
        max(settings.plan),
        settings.backbone_lr_factor,
        settings.bias_lr_factor,
        settings.lr_schedule,
        settings.layer_decay,
    )
    average: list[Any] = []
    at_probe: list[Any] = []
    # A probe alone has nothing to be averaged with.
    if probe is not None and settings.probe_share and max(settings.plan):
        is_checked = settings.check_average and best is None
        callback = ProbeAverage(
            settings.probe_share, is_checked, settings.max_probe_share
        )
        average = [("probe_average", callback)]
        at_probe = [("stop_at_probe", StopAtProbe(callback))]
    lookahead = [("lookahead", Lookahead())] if settings.lookahead else []
    # Late: it compares the weights that the other callbacks leave.
    stopping = [] if best is None else [("early_stopping", best)]
    return [
        ("unfreeze_schedule", schedule),
        *average,
        *settings.callbacks,
        *lookahead,
        *stopping,
        *at_probe,
        # Last: what it writes is the end of the epoch.
        *([] if checkpoint is None else [("resume_checkpoint", checkpoint)]),
    ]


def _choose_optimizer(settings: TrainingSettings) -> dict[str, Any]:
    """Choose the backbone's optimizer, or what `net_params` holds instead."""
    defaults: dict[str, Any] = {"optimizer__weight_decay": settings.weight_decay}
    if "optimizer" not in settings.net_params and settings.optimizer == "adamw":
        defaults["optimizer"] = torch.optim.AdamW
    elif "optimizer" not in settings.net_params:
        defaults["optimizer"] = torch.optim.SGD
        defaults["optimizer__momentum"] = settings.momentum
        defaults["optimizer__nesterov"] = settings.momentum > 0
        # A single kernel does everything that a step does to a parameter.
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
    """Build the net, ready to train."""
    arguments = {
        "augment": settings.augment,
        "precision": settings.precision,
        "seed": settings.seed,
        "n_prefix": n_prefix,
        "alternate_flip": settings.alternate_flip,
        "mixup": settings.mixup,
        "cutmix": settings.cutmix,
        "compile_forward": settings.compile,
        "clip_norm": settings.clip_norm,
        "criterion__reduction": "none",
        "criterion__label_smoothing": settings.label_smoothing,
        **_choose_optimizer(settings),
        "lr": settings.lr,
        "max_epochs": len(settings.plan),
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


def forget_training_state(net: StagesNet, best: StopEarly | None) -> None:
    """Drop what prediction does not need; a pickle would carry it along."""
    net.module_.eval()
    net.compiled_ = None
    net.probe = net.batches_ = None  # they hold the images
    net.group = None
    # skorch pickles `module` in addition to `module_`, on the device it is on.
    net.module = Stages
    net.optimizer_.state.clear()
    net.train_split = None
    if best is not None:
        best.best_model_weights_ = None
