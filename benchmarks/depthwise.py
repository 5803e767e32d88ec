"""Time of steps with depthwise convolutions, on this processor.

    python benchmarks/depthwise.py

A training step, or a prediction, of the last two stages of efficientnet_lite0 on 32
activations, as the cache returns them, or in the layout ``channels_last``; in float32,
in bfloat16, and in bfloat16 with depthwise convolutions in float32. The answers decide
how the library trains and predicts. Every combination runs in turn in one run. The
report has the milliseconds in float32 on activations as the cache returns them, and how
many times as fast each other combination is.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from itertools import product

import numpy as np
import torch
from record import Record, spread, time_in_turn

from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.depthwise import DepthwiseInFloat32
from sktransfer._networks.device import autocast

N_ROUNDS, N_IMAGES, DEPTH = 7, 32, 2
CPU = torch.device("cpu")
LAYOUTS = {"plain": torch.contiguous_format, "channels_last": torch.channels_last}
FORMATS = {
    "float32": ("float32", nullcontext),
    "bfloat16": ("bfloat16", nullcontext),
    "bfloat16, depthwise float32": ("bfloat16", DepthwiseInFloat32),
}


def list_steps(size: int, is_training: bool) -> dict[str, Callable[[], None]]:
    """Return a step for each combination, by its name."""
    stages = make_stages("efficientnet_lite0", 10, 0.0, (size, size))
    stages.fixed_statistics = True
    stages.train(is_training).unfreeze(DEPTH)
    n_frozen = stages.n_frozen(DEPTH)
    images = torch.randint(0, 256, (N_IMAGES, size, size, 3), dtype=torch.uint8)
    with torch.no_grad():
        inputs = stages.encode(images, n_frozen)
    learning = [stages.get_submodule(name) for name in stages.learning()]

    def make(kind: str, layout: str) -> Callable[[], None]:
        precision, context = FORMATS[kind]
        laid = inputs.contiguous(memory_format=LAYOUTS[layout])

        def step() -> None:
            x = laid
            with torch.set_grad_enabled(is_training):
                with context(), autocast(precision, CPU):
                    for stage in learning:
                        x = stage(x)
                if is_training:
                    stages.zero_grad()
                    x.logsumexp(1).mean().backward()

        return step

    return {f"{k}, {lay}": make(k, lay) for lay, k in product(LAYOUTS, FORMATS)}


def main() -> None:
    """Time every combination in turn."""
    torch.set_num_threads(2)
    record = Record("depthwise")
    for size, is_training in product((128, 288), (True, False)):
        steps = list_steps(size, is_training)
        seconds = time_in_turn(steps, N_ROUNDS)
        plain, *others = seconds
        record.add(
            image_size=size,
            step="training" if is_training else "prediction",
            n_images=N_IMAGES,
            milliseconds=round(1000 * float(np.median(seconds[plain])), 1),
            faster_by={
                name: spread(np.divide(seconds[plain], seconds[name]).tolist(), ".2f")
                for name in others
            },
        )


if __name__ == "__main__":
    main()
