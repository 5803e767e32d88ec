"""What each decision of the solved head contributes.

    SKTRANSFER_DATA=FOLDER python benchmarks/probe.py
    python benchmarks/probe.py --table

The linear probe as the library solves it ("as it is"), and with one decision changed at
a time, on features of EfficientNet-Lite0 and, with ``--resnet FILE``, of torchvision's
``ResNet(BasicBlock, [2, 2, 2, 3])`` with the weights in a file: features scaled one by
one, the best penalty alone or all penalties averaged, with mirrored images or without,
and a solution ten times as exact. ``sets.py`` says what FOLDER holds. These results
choose defaults, so the images to test are not official test images, except those of
ants and bees, of which there are too few. Seconds are those of the solution, with
cross-validation, without the features. Every row has the penalty that was chosen.
Finished rows are not run again; ``--rehearse`` takes 100 images and writes to
``work/``. ``--table`` prints Markdown: median, minimum and maximum over the seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import torch
from record import RESULTS, SCORES, WORK, Record, Shown, tabulate
from scipy.special import softmax
from sets import ALL_ANTS_AND_BEES, describe_resnet20, load_to_choose, score
from threadpoolctl import threadpool_limits

from sktransfer import Backbone, FeatureExtractor
from sktransfer._estimators import probe

SETS = {
    "ants_bees": [ALL_ANTS_AND_BEES],
    "trash": [100, 500, 1000],
    "cifar10": [100, 1000, 5000],
    "digits": [50, 200],
}
N_TEST, N_REHEARSED = 1000, 60
SHOWN = {**SCORES, "seconds": Shown("Solution, s", 1, ".1f")}


class Variant(NamedTuple):
    """A change: constants of the library by name, the scaling, or which views."""

    constants: Mapping[str, Any] = MappingProxyType({})
    is_scaled_one_by_one: bool = False
    changes_views: bool = False


# Nothing mirrors digits, unless the views are what is changed.
VARIANTS = {
    "as it is": Variant(),
    "features scaled one by one": Variant(is_scaled_one_by_one=True),
    "best penalty alone": Variant({"NEIGHBOURS": 0}),
    "mean over all penalties": Variant({"NEIGHBOURS": len(probe.PENALTIES)}),
    "other views": Variant(changes_views=True),
    "ten times as exact": Variant(
        {"TOLERANCE": probe.TOLERANCE / 10, "MAX_STEPS": 10 * probe.MAX_STEPS}
    ),
}


class Features(NamedTuple):
    """Features (n_views, n_images, n_features) and labels, to train on and to test."""

    train: np.ndarray
    y: np.ndarray
    test: np.ndarray
    y_test: np.ndarray


def extract(backbone: str | Backbone, data: str, n: int, seed: int, n_test: int) -> Any:
    """Extract the features of images and of their mirror images."""
    X, y, X_test, y_test = load_to_choose(data, n, seed, n_test)
    extractor = FeatureExtractor(backbone)
    images, _ = extractor._check_images(np.concatenate([X, X_test]), reset=True)
    views = images, np.ascontiguousarray(images[:, :, ::-1])
    features = np.stack([extractor.fit_transform(view) for view in views])
    return Features(features[:, : len(y)], y, features[:, len(y) :], y_test)


def solve(features: Features, variant: Variant, data: str) -> dict[str, Any]:
    """Solve the head in one way, and test it."""
    train, y, test, y_test = features
    n_views = 1 if (data == "digits") != variant.changes_views else 2
    train, test = train[:n_views], test[0]
    if variant.is_scaled_one_by_one:
        # What one scale for all does afterwards changes nothing any more.
        deviation = np.maximum(train.std(axis=(0, 1)), 1e-6)
        train, test = train / deviation, test / deviation
    classes, labels = np.unique(y, return_inverse=True)
    weights = np.ones(len(y), np.float32)
    chosen: list[float] = []
    started = time.perf_counter()
    with ExitStack() as stack:
        for name, value in variant.constants.items():
            stack.enter_context(mock.patch.object(probe, name, value))
        stack.enter_context(note_penalty(chosen))
        head = probe.solve_head(train, labels, weights, len(classes))
    seconds = time.perf_counter() - started
    proba = softmax(test @ head.weight.T + head.bias, axis=1)
    scores = score(proba, classes, y_test)
    return {**scores, "penalty": chosen[0], "seconds": seconds}


def note_penalty(chosen: list[float]) -> Any:
    """Note which penalty has the lowest loss, while the library solves a head."""
    original = probe._cross_validate

    def validate(*args: Any) -> np.ndarray:
        losses = original(*args)
        chosen.append(probe.PENALTIES[int(np.argmin(losses))])
        return losses

    return mock.patch.object(probe, "_cross_validate", validate)


def run(
    record: Record,
    backbones: dict[str, str | Backbone],
    cells: list[tuple[str, int]],
    seeds: int,
    n_test: int,
) -> None:
    """Run what the record lacks; first everything with one seed."""
    for seed in range(seeds):
        for backbone, described in backbones.items():
            for data, n in cells:
                key = {"backbone": backbone, "set": data, "n": n, "seed": seed}
                missing = [v for v in VARIANTS if not record.find(**key, variant=v)]
                if missing:
                    features = extract(described, data, n, seed, n_test)
                for name in missing:
                    row = solve(features, VARIANTS[name], data)
                    record.add(**key, variant=name, **row)


def main() -> None:
    """Run what the record lacks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resnet", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = Record("probe", WORK if args.rehearse else RESULTS)
    backbones: dict[str, str | Backbone] = {"efficientnet_lite0": "efficientnet_lite0"}
    if args.resnet:
        backbones["resnet20"] = describe_resnet20(args.resnet)
    sizes = {data: [100] if args.rehearse else SETS[data] for data in args.sets}
    cells = [(data, n) for data in sizes for n in sizes[data]]
    if not args.table:
        n_test = N_REHEARSED if args.rehearse else N_TEST
        with threadpool_limits(args.threads):
            run(record, backbones, cells, args.seeds, n_test)
    across = {f"{data}, {n:,}": {"set": data, "n": n} for data, n in cells}
    for name in dict.fromkeys(row["backbone"] for row in record.rows):
        down = {f"{name}, {v}": {"backbone": name, "variant": v} for v in VARIANTS}
        print(tabulate(record.rows, down, across, SHOWN), end="\n\n")


if __name__ == "__main__":
    main()
