"""The batch size at which a network is fastest, without gradients, on a CPU.

    python benchmarks/batches.py

Milliseconds per image, including resizing, in batches of 8 to 64 images, with the sizes
taken in turn: the source of the sizes in ``sktransfer._networks.fixed_batches``. A
single image costs a whole batch, so the best size is the smallest one that is about as
fast as the fastest. Weights and images are random.
"""

from __future__ import annotations

import time

import numpy as np
import torch
from record import Record, spread

from sktransfer._networks.backbones.build import make_stages

N_ROUNDS, SIZES = 7, (8, 16, 32, 64)
CASES = (
    ("mini_resnet18", 32),
    ("resnet18", 64),
    ("resnet50", 64),
    ("resnet18", 128),
    ("resnet50", 128),
    ("resnet50", 224),
)


def main() -> None:
    """Measure what the record lacks."""
    record = Record("batches")
    for backbone, pixels in CASES:
        if record.find(backbone=backbone, pixels=pixels):
            continue
        net = make_stages(backbone, 10, 0.0, (pixels, pixels)).eval()
        images = torch.randint(0, 256, (max(SIZES), 32, 32, 3), dtype=torch.uint8)
        times: dict[int, list[float]] = {size: [] for size in SIZES}
        with torch.inference_mode():
            for i in range(N_ROUNDS + 1):
                for size in SIZES:
                    started = time.perf_counter()
                    for batch in images.split(size):
                        net(batch)
                    took = (time.perf_counter() - started) / len(images)
                    if i:  # the first is a warm-up
                        times[size].append(1000 * took)
        fastest = min(SIZES, key=lambda size: float(np.median(times[size])))
        record.add(
            backbone=backbone,
            pixels=pixels,
            fastest=fastest,
            ms_per_image={size: spread(ms, ".2f") for size, ms in times.items()},
        )


if __name__ == "__main__":
    main()
