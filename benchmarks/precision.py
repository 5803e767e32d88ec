"""Time of a training step, by number format and memory layout, on this processor.

    python benchmarks/precision.py

Does bfloat16 autocast train faster on a CPU, and do weights in ``channels_last``? The
answers decide ``precision="auto"`` and the layout of weights. Networks are those that
the estimators train: all stages, or the last ones on activations. Every combination
runs in turn in one run. The report has the milliseconds of a step in float32 with plain
weights, and how many times as fast each other combination is.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from record import Record, spread, time_in_turn
from torch.nn import functional as F

from sktransfer._images.preprocessing import Preprocess
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.cnn import make_cnn
from sktransfer._networks.device import autocast
from sktransfer._networks.stages import Stages

N_ROUNDS = 7
CPU = torch.device("cpu")
LAYOUTS = {"plain": torch.contiguous_format, "channels_last": torch.channels_last}


def cnn(width: int) -> Stages:
    """Return the network that is trained from scratch."""
    preprocess = Preprocess(None, [0.5] * 3, [0.25] * 3)
    widths = (width, 2 * width, 2 * width)
    return make_cnn(10, widths, 0.0, preprocess, torch.randn(24, 3, 2, 2))


# Network, unfreeze depth, and images per step.
CASES: dict[str, tuple[Callable[[], Stages], int, int]] = {
    "CNN, width 32": (lambda: cnn(32), 4, 128),
    "CNN, width 64": (lambda: cnn(64), 4, 128),
    "mini_resnet18, depth 5": (
        lambda: make_stages("mini_resnet18", 10, 0.0, (32, 32)),
        5,
        128,
    ),
    "resnet18, 64 px, depth 1": (
        lambda: make_stages("resnet18", 10, 0.0, (64, 64)),
        1,
        32,
    ),
    "resnet18, 64 px, depth 2": (
        lambda: make_stages("resnet18", 10, 0.0, (64, 64)),
        2,
        32,
    ),
}


def step_of(net: Stages, n_images: int, precision: str) -> Callable[[], None]:
    """Return a training step of the stages that learn, on their input activations."""
    n_frozen = len(net.frozen())
    images = torch.randint(0, 256, (n_images, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, 10, (n_images,))
    with torch.no_grad():
        inputs = net.encode(images, n_frozen)
    if n_frozen:
        inputs = inputs.contiguous()  # as the cache stores them
    optimizer = torch.optim.SGD(
        [p for p in net.parameters() if p.requires_grad], 0.01, momentum=0.9, fused=True
    )

    def step() -> None:
        with autocast(precision, CPU):
            logits = net.decode(inputs, n_frozen)
        optimizer.zero_grad()
        F.cross_entropy(logits.float(), labels).backward()
        optimizer.step()

    return step


def main() -> None:
    """Time every combination in turn."""
    record = Record("precision")
    for name, (make, depth, n_images) in CASES.items():
        steps = {}
        for precision, layout in product(("float32", "bfloat16"), LAYOUTS):
            net = make().to(memory_format=LAYOUTS[layout]).train().unfreeze(depth)
            steps[f"{precision}, {layout}"] = step_of(net, n_images, precision)
        seconds = time_in_turn(steps, N_ROUNDS)
        plain, *others = seconds
        ratios = {
            other: spread(np.divide(seconds[plain], seconds[other]).tolist(), ".2f")
            for other in others
        }
        record.add(
            case=name,
            n_images=n_images,
            milliseconds=round(1000 * float(np.median(seconds[plain])), 1),
            faster_by=ratios,
        )


if __name__ == "__main__":
    main()
