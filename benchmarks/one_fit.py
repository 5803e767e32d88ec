"""One fit of 5 epochs at depths 0, 1 and 2: ours, cached or not, against its peers.

    SKTRANSFER_DATA=FOLDER python benchmarks/one_fit.py
    SKTRANSFER_DATA=FOLDER python benchmarks/one_fit.py --fastai

All run in one process, in turn, on the terms of ``peers.py``:

- cold: ours with an empty cache and with weights that are not yet loaded; warm: the
  same again, with all of it in memory; uncached: ours with ``activation_cache=None``;
- skorch; fastai (with ``--fastai``, if it is installed; it also predicts one image);
  and bare: a plain torch loop over the whole network, frozen by ``requires_grad``.

Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import peers
import torch
from grid_search import images
from peers import Setup
from record import Record, spread

from sktransfer import ActivationCache


def contestants(setup: Setup, depth: int, with_fastai: bool) -> dict[str, Callable]:
    """Return one fit of each contestant, as a function."""
    rows = np.arange(len(setup.X))
    cache = ActivationCache()

    def ours(cache: ActivationCache | None) -> Callable[[], Any]:
        return lambda: peers.ours(setup, depth, cache, dropout=0.0).fit(
            setup.X, setup.y
        )

    def cold() -> None:
        cache.clear()
        peers.forget_weights()
        ours(cache)()

    def bare() -> None:
        net = peers.Network(setup.backbone, setup.weights, depth, 0.0, setup.size)
        peers.bare(net, setup.resized, torch.from_numpy(setup.y), rows)

    found: dict[str, Callable[[], Any]] = {
        "cold": cold,
        "warm": ours(cache),
        "uncached": ours(None),
        "skorch": lambda: peers.skorch(setup, depth).fit(
            setup.resized.numpy(), setup.y
        ),
        "bare": bare,
    }
    if with_fastai:
        found["fastai"] = lambda: peers.fastai(setup, depth, 0.0, rows, rows[:1])
    return found


def main() -> None:
    """Measure what the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--n-images", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fastai", action="store_true", help="measure fastai too")
    args = parser.parse_args()
    record = Record("one_fit")
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/random.pth"
        peers.write_weights(args.backbone, weights)
        setup, few = (
            peers.made_setup(args.backbone, args.size, weights, *images(n))
            for n in (args.n_images, 30)
        )
        for depth in (0, 1, 2):
            key = {
                "backbone": args.backbone,
                "size": args.size,
                "n_images": args.n_images,
                "unfreeze_depth": depth,
                "with_fastai": args.fastai,
            }
            if record.find(**key):
                continue
            # So that what a process loads and sets up once is not timed.
            for run in contestants(few, depth, args.fastai).values():
                run()
            runs = contestants(setup, depth, args.fastai)
            times: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(args.rounds):
                for name, run in runs.items():
                    started = time.perf_counter()
                    run()
                    times[name].append(time.perf_counter() - started)
            cold = times.pop("cold")
            ratios = {
                f"{name}_over_cold": spread(np.divide(t, cold).tolist(), ".2f")
                for name, t in times.items()
            }
            record.add(**key, cold_seconds=spread(cold, ".2f"), **ratios)


if __name__ == "__main__":
    main()
