"""Pure functions of the step or the epoch: rates, depths, batch sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from numbers import Integral

# As users pass it, or already resolved: the depth of every epoch.
Schedule = str | Mapping[int, int] | Sequence[int]

# The share of an epoch in which a newly opened stage warms up to its rate.
WARMUP_EPOCHS = 0.25

# The triangle of rates: the position of its peak as a share of all steps, and its first
# and last rates as shares of the peak.
PEAK_AT, FIRST_RATE, LAST_RATE = 0.23, 0.2, 0.07

# unfreeze_depth="auto": the study's depth, and one more for enlarged images. That these
# are blurred is a difference that early stages meet first (Lee et al. 2023).
# benchmarks/fine_tuning.py compares depths.
DEPTH, DEPTH_FOR_ENLARGED = 2, 3

# batch_size="auto": at least this many steps per epoch, within these sizes.
MIN_STEPS_PER_EPOCH = 32
SMALLEST_BATCH, LARGEST_BATCH = 8, 128


def choose_unfreeze_depth(
    n_stages: int, has_weights: bool, are_enlarged: bool
) -> tuple[int, str]:
    """Choose how many stages besides the head should learn in the end, and say why.

    Parameters
    ----------
    n_stages : int
        Stages of the backbone. The first, which has most pixels, stays frozen.

    has_weights : bool
        Whether its weights are pretrained; random ones all have to learn.

    are_enlarged : bool
        Whether it sees images much enlarged.

    Returns
    -------
    depth : int

    reason : str
        The second half of a sentence.
    """
    if not has_weights:
        return n_stages, "with weights=None all stages have to learn"
    if n_stages < 2:
        return 0, "the backbone has a single stage, which opens only if you pass 1"
    if are_enlarged:
        depth = min(DEPTH_FOR_ENLARGED, n_stages - 1)
        return depth, "the network sees the images much enlarged"
    return min(DEPTH, n_stages - 1), "the images are not much enlarged"


def plan_unfreezing(
    schedule: Schedule, unfreeze_depth: int, max_epochs: int
) -> tuple[int, ...]:
    """Plan how many stages besides the head learn in each epoch.

    Parameters
    ----------
    schedule : {"gradual", "immediate"}, mapping of int to int, or sequence of int
        ``"gradual"`` trains the head alone in the first epoch, then opens one stage per
        epoch, or several if it would otherwise take more than half of the epochs to
        open all; a single epoch opens all. ``"immediate"`` opens all at once. A mapping
        ``{epoch: depth}`` (epochs from 0) sets the depth from that epoch on. A sequence
        is a plan already: the depth of every epoch.

    unfreeze_depth : int
        Greatest depth; mappings and sequences are clipped to it.

    max_epochs : int
        Number of epochs.

    Returns
    -------
    tuple of int of length max_epochs

    Raises
    ------
    ValueError
        If `schedule` is unknown, or a stage that it opens would close again.
    """
    if isinstance(schedule, Mapping):
        return _plan_mapping(schedule, unfreeze_depth, max_epochs)
    if not isinstance(schedule, str):
        return _check_plan(schedule, unfreeze_depth, max_epochs)
    if schedule == "immediate" or (schedule == "gradual" and max_epochs == 1):
        return (unfreeze_depth,) * max_epochs
    if schedule == "gradual":
        per_epoch = max(1.0, unfreeze_depth / max(1, max_epochs // 2))
        return tuple(
            min(unfreeze_depth, math.ceil(epoch * per_epoch))
            for epoch in range(max_epochs)
        )
    raise _unknown_schedule(schedule)


def begin_with_probe(plan: Sequence[int]) -> tuple[int, ...]:
    """Let the first epoch of a plan, and no other, be that of the head alone."""
    later = [depth for depth in plan[1:] if depth > 0]
    return (0, *later)


def _unknown_schedule(schedule: object) -> ValueError:
    """Make the error that names what a schedule may be."""
    return ValueError(
        f"unfreeze_schedule={schedule!r} is unknown; pass 'gradual', 'immediate', a "
        "mapping {epoch: depth}, or a list with the depth of every epoch."
    )


def _check_plan(
    plan: Sequence[int], unfreeze_depth: int, max_epochs: int
) -> tuple[int, ...]:
    """Return a plan as it is, but no deeper than `unfreeze_depth`."""
    if not isinstance(plan, Sequence):
        raise _unknown_schedule(plan)
    if len(plan) != max_epochs:
        raise ValueError(
            f"unfreeze_schedule={plan!r} has {len(plan)} depths for {max_epochs} "
            "epochs; pass one depth per epoch."
        )
    if not _are_counts(plan) or list(plan) != sorted(plan):
        raise ValueError(
            f"unfreeze_schedule={plan!r} must hold depths (0 or more) that never "
            "decrease: an open stage stays open."
        )
    return tuple(min(unfreeze_depth, depth) for depth in plan)


def _plan_mapping(
    schedule: Mapping[int, int], unfreeze_depth: int, max_epochs: int
) -> tuple[int, ...]:
    """Plan what a mapping of first epochs to depths describes."""
    are_counts = _are_counts([*schedule.keys(), *schedule.values()])
    pairs = sorted(schedule.items()) if are_counts else []
    depths = [depth for _, depth in pairs]
    if not are_counts or depths != sorted(depths):
        raise ValueError(
            f"unfreeze_schedule={dict(schedule)!r} must map epochs (from 0) to depths "
            "(0 or more) that never decrease: an open stage stays open."
        )
    return tuple(
        min(unfreeze_depth, max((d for first, d in pairs if first <= epoch), default=0))
        for epoch in range(max_epochs)
    )


def _are_counts(numbers: Sequence[object]) -> bool:
    """Return whether all are integers of 0 or more."""
    return all(isinstance(n, Integral) and int(n) >= 0 for n in numbers)


def triangle_rate(step: int, n_steps: int) -> float:
    """Return the share of its peak rate at which a network learns from scratch.

    Linear up to the peak and down again, in ``[0, 1]`` (numbers from Jordan 2024).
    """
    progress = min(1.0, step / max(1, n_steps))
    if progress < PEAK_AT:
        return FIRST_RATE + (1 - FIRST_RATE) * progress / PEAK_AT
    return 1 - (1 - LAST_RATE) * (progress - PEAK_AT) / (1 - PEAK_AT)


def cosine_rate(step: int, n_steps: int, opened_at: int, warmup_steps: int) -> float:
    """Return the share of its peak rate at which a stage learns, in ``[0, 1]``.

    A cosine from 1 to 0 over all `n_steps` steps, times a linear warm-up over the
    first `warmup_steps` steps since the stage was opened at step `opened_at`.
    """
    warmup = min(1.0, (step - opened_at + 1) / max(1, warmup_steps))
    progress = min(1.0, step / max(1, n_steps))
    return warmup * 0.5 * (1 + math.cos(math.pi * progress))


def resolve_batch_size(batch_size: int | str, n_images: int) -> int:
    """Choose the images per step; ``"auto"`` takes smaller batches of smaller sets."""
    if not isinstance(batch_size, str):
        return int(batch_size)
    return min(LARGEST_BATCH, max(SMALLEST_BATCH, n_images // MIN_STEPS_PER_EPOCH))


def count_batches(n_images: int, batch_size: int) -> int:
    """Count the batches per epoch, so that none of them holds a single image.

    Batch norm cannot learn from one image. Batches are of even size, and there is one
    batch fewer if that is not enough.
    """
    count = math.ceil(n_images / batch_size)
    return max(1, min(count, n_images // 2))
