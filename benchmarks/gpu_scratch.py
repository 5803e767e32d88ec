"""Slices of ``gpu.py``: `ScratchCNNClassifier` and airbench94, one after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import airbench
import numpy as np
import torch
from gpu_slices import HAS_GPU, Data, Images, Plan, Slice
from scratch import SPEED_RUN, ours

# Times the seconds of airbench94; above it, a profile says where ours go.
TOO_SLOW = 1.5
N_PROFILED = 15


def list_slices(plan: Plan, program: Path | None) -> list[Slice]:
    """List ten pairs in two slices, then ours compiled, and at 18 epochs."""
    n = plan.n_pairs
    pairs = [{"first_seed": seed, "n": n} for seed in (0, n)]
    others = [{"model": "compiled", "n": n}, {"model": "18 epochs", "n": min(n, 3)}]
    beside = partial(run_pairs, program=program)
    return [
        *(Slice("scratch", key, beside) for key in pairs if program),
        *(Slice("scratch alone", key, run_alone) for key in others),
    ]


def run_pairs(data: Data, program: Path, first_seed: int, n: int) -> dict[str, Any]:
    """Train ours and airbench94 alternately, from other seeds each time.

    Both count what airbench94 counts: training, and predicting the test images from six
    views. Of ours, that includes checks of the images and sending them. Each has run
    once before, which selects its kernels.
    """
    _run_ours(data, 0, max_epochs=1)
    epochs = None if HAS_GPU else 1
    peers = airbench.speed_run(program, data.train, data.test, n, epochs)
    rows: dict[str, list[dict[str, Any]]] = {"ours": [], "airbench94": []}
    torch.manual_seed(first_seed)  # airbench94 draws from the seed of the process
    with closing(peers):
        for seed in range(first_seed, first_seed + n):
            rows["airbench94"].append(next(peers))
            with _own_settings():
                rows["ours"].append(_run_ours(data, seed))
    seconds = {who: [row["seconds"] for row in rows[who]] for who in rows}
    ratio = float(np.median(np.divide(seconds["ours"], seconds["airbench94"])))
    found: dict[str, Any] = {
        **{f"{who}_runs": rows[who] for who in rows},
        **{
            f"{who}_accuracy": float(np.mean([row["accuracy"] for row in rows[who]]))
            for who in rows
        },
        **{f"{who}_seconds": float(np.median(seconds[who])) for who in rows},
        "ours_over_airbench94": ratio,
    }
    if HAS_GPU and ratio > TOO_SLOW:
        found["profile"] = _profile(data.train)
    return found


def run_alone(data: Data, model: str, n: int) -> dict[str, Any]:
    """Train ours in another way, from several seeds, after a first fit."""
    params: dict[str, Any] = {
        "compiled": {**SPEED_RUN, "compile": True},
        "18 epochs": {"max_epochs": 18, "tta": "flip_shift"},
    }[model]
    first = ours(data.train, data.test, 0, **{**params, "max_epochs": 1})
    rows = [_add_up(ours(data.train, data.test, seed, **params)) for seed in range(n)]
    return {
        "ours_runs": rows,
        "ours_accuracy": float(np.mean([row["accuracy"] for row in rows])),
        "ours_seconds": float(np.median([row["seconds"] for row in rows])),
        "first_fit_seconds": first["seconds"],
    }


def _run_ours(data: Data, seed: int, **params: Any) -> dict[str, Any]:
    return _add_up(ours(data.train, data.test, seed, **{**SPEED_RUN, **params}))


def _add_up(row: dict[str, Any]) -> dict[str, Any]:
    """Count predicting too, as airbench94 does."""
    fit = row["seconds"]
    return {**row, "fit_seconds": fit, "seconds": fit + row["predict_seconds"]}


@contextmanager
def _own_settings() -> Iterator[None]:
    """Undo, for ours, what airbench94 sets for the whole process."""
    kept = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = kept


def _profile(train: Images) -> dict[str, list[list[Any]]]:
    """Return the operations that take most time in two epochs, in milliseconds."""
    from sktransfer import ScratchCNNClassifier

    params = {**SPEED_RUN, "max_epochs": 2, "early_stopping": False}
    kinds = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=kinds) as profiler:
        ScratchCNNClassifier(random_state=0, **params).fit(*train)
    found = {}
    for where in ("self_cpu_time_total", "self_device_time_total"):
        events = profiler.key_averages()
        longest = sorted(events, key=lambda event: -getattr(event, where))[:N_PROFILED]
        found[where] = [
            [event.key[:60], event.count, round(getattr(event, where) / 1000, 1)]
            for event in longest
        ]
    return found
