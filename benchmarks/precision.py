"""bfloat16 against float32 on this processor: the time of a training step.

    python benchmarks/precision.py

The question behind ``precision="auto"``: does bfloat16 autocast train a small network
faster on a CPU? Median seconds of a step over 128 images of 32 pixels, both formats in
turn in one run; the ratio is float32's time over bfloat16's.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from record import Record, spread
from torch.nn import functional as F

from sktransfer._device import autocast
from sktransfer._resnet import make_resnet

N_ROUNDS, N_IMAGES = 7, 128


def main() -> None:
    """Time both formats in turn."""
    net = make_resnet("mini_resnet18", 10, 0.0, None).train()
    optimizer = torch.optim.SGD(net.parameters(), 0.01)
    images = torch.randint(0, 256, (N_IMAGES, 32, 32, 3), dtype=torch.uint8)
    labels = torch.randint(0, 10, (N_IMAGES,))
    seconds: dict[str, list[float]] = {"float32": [], "bfloat16": []}
    for round_ in range(N_ROUNDS + 1):
        for precision, times in seconds.items():
            started = time.perf_counter()
            with autocast(precision, torch.device("cpu")):
                logits = net(images)
            optimizer.zero_grad()
            F.cross_entropy(logits.float(), labels).backward()
            optimizer.step()
            if round_:  # the first round compiles kernels
                times.append(time.perf_counter() - started)
    ratios = np.divide(seconds["float32"], seconds["bfloat16"]).tolist()
    Record("precision").add(
        float32_seconds=float(np.median(seconds["float32"])),
        bfloat16_seconds=float(np.median(seconds["bfloat16"])),
        ratio=spread(ratios, ".2f"),
        mkldnn_bf16=torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    )


if __name__ == "__main__":
    main()
