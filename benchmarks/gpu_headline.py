"""Slices of ``gpu.py``: fine-tuning on CIFAR-10, and rates as shares of the ceiling."""

from __future__ import annotations

import time
from typing import Any

import torch
from gpu_slices import (
    LITE,
    Data,
    Plan,
    Slice,
    clock,
    count_stages,
    draw,
    measure_ceiling,
)
from sets import score
from torch.utils.flop_counter import FlopCounterMode

from sktransfer import ActivationCache, FeatureExtractor, TransferClassifier
from sktransfer._networks.backbones.build import make_stages

N_EPOCHS = 5
KEPT_OF_EPOCHS = "unfreeze_depth", "dur", "train_loss", "train_accuracy"


def list_slices(plan: Plan) -> list[Slice]:
    """List what is fine-tuned, the most valuable first, and then the rates."""
    backbones = LITE, plan.large
    cases = [(b, d) for b in backbones for d in (2, count_stages(b), 0)]
    starts = {LITE: "probe", plan.large: "random"}
    keys = [
        {"backbone": b, "size": size, "depth": d, "head_init": starts[b], "seed": 0}
        for b, d in cases
        for size in plan.sizes
    ]
    # The probe is solved on the CPU, which may be what takes longest.
    keys.insert(2, {**keys[0], "head_init": "random"})
    rated = [{"backbone": b, "size": s} for b in backbones for s in plan.sizes]
    return [
        *(Slice("headline", k, fine_tune) for k in keys if k["backbone"] == LITE),
        *(Slice("time alone", k, fine_tune) for k in keys if k["backbone"] != LITE),
        *(Slice("rates", k, measure_rates) for k in rated),
    ]


def make(backbone: str, size: int, **params: Any) -> TransferClassifier:
    """Make a classifier, by default where there are weights.

    Of random ones time alone counts: with a rate that changes next to nothing, nothing
    can diverge.
    """
    random = {"weights": None, "lr": 1e-6} if backbone != LITE else {}
    return TransferClassifier(
        backbone, image_size=size, early_stopping=False, **random, **params
    )


def fine_tune(
    data: Data, backbone: str, size: int, depth: int, head_init: str, seed: int
) -> dict[str, Any]:
    """Fit for 5 epochs with everything else by default, and score the test images.

    A fit of a few batches comes before and is not counted: it reads the weights and
    selects kernels.
    """
    params = {"unfreeze_depth": depth, "head_init": head_init, "random_state": seed}
    X, y = data.transferred
    once = {"unfreeze_schedule": "immediate", "batch_size": 128, "max_epochs": 2}
    make(backbone, size, **once, **params).fit(*draw((X, y), 384))
    clf = make(
        backbone,
        size,
        max_epochs=N_EPOCHS,
        activation_cache=ActivationCache(),
        **params,
    )
    started = time.perf_counter()
    clf.fit(X, y)
    fitted = time.perf_counter()
    proba = clf.predict_proba(data.test[0])
    predicted = time.perf_counter()
    return {
        **score(proba, clf.classes_, data.test[1]),
        "fit_seconds": fitted - started,
        "predict_seconds": predicted - fitted,
        "seconds": predicted - started,
        "epochs": [{k: row[k] for k in KEPT_OF_EPOCHS} for row in clf.history_],
        "precision": clf.precision_,
        "cache": clf.cache_info_._asdict(),
    }


def measure_rates(data: Data, backbone: str, size: int) -> dict[str, Any]:
    """Measure images per second, and their share of what matrix products reach."""
    X, y = data.transferred
    net = make_stages(backbone, 10, 0.0, (size, size)).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, *X.shape[1:], dtype=torch.uint8))
    flop, ceiling = counter.get_total_flops(), measure_ceiling(data.plan.side)
    extractor = FeatureExtractor(
        backbone,
        weights="auto" if backbone == LITE else None,
        image_size=size,
        activation_cache=None,
    ).fit(X[:2])
    clf = make(
        backbone,
        size,
        unfreeze_depth=count_stages(backbone),
        unfreeze_schedule="immediate",
        head_init="random",
        augment=None,
        max_epochs=3,
        activation_cache=None,
        random_state=0,
    ).fit(X, y)
    seconds = {
        "encode": min(clock(lambda: extractor.transform(X)) for _ in range(3)),
        "fit": min(row["dur"] for row in clf.history_),
        "predict": min(clock(lambda: clf.predict(X)) for _ in range(3)),
    }
    # A step passes the network forwards once and backwards twice.
    passes = {"encode": 1, "fit": 3, "predict": 1}
    rates = {name: len(X) / s for name, s in seconds.items()}
    return {
        **{f"{name}_images_per_second": rate for name, rate in rates.items()},
        **{
            f"{name}_share_of_ceiling": rate * passes[name] * flop / ceiling
            for name, rate in rates.items()
        },
        "flop_per_image": flop,
        "ceiling_flop_per_second": ceiling,
    }
