"""The linear probe at every cut, and whether it tells how many stages should learn.

    SKTRANSFER_DATA=FOLDER python benchmarks/probe_at_cuts.py
    python benchmarks/probe_at_cuts.py --table

The claim to refute: where the features of an earlier stage are as good as the last ones
for a linear probe, more stages should learn. The activations of each stage of the
default backbone are averaged over their pixels, and a head is solved on them as ``fit``
does, of images as they are. The report has the errors in cross-validation, by which
``fit`` could choose, as a share of those of the last cut; ``fine_tuning.py`` has the
best depth.
``sets.py`` says what FOLDER holds; these are the splits that choose defaults. Finished
rows are not run again. ``--table`` prints Markdown: median, minimum and maximum.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from record import Record, Shown, tabulate
from sets import ALL_ANTS_AND_BEES, load_to_choose

from sktransfer import FeatureExtractor
from sktransfer._estimators.probe import solve_head
from sktransfer._images.preprocessing import to_batch

SETS = {
    "ants_bees": [ALL_ANTS_AND_BEES],
    "trash": [100, 1000],
    "cifar10": [100, 1000],
    "digits": [50, 200],
}
BATCH_SIZE = 50
SHOWN = {
    "n_wrong": Shown("Errors in cross-validation", 1, ".0f"),
    "relative": Shown("As a share of those of the last cut", 1, ".2f"),
}


@torch.inference_mode()
def pool_cuts(X: np.ndarray) -> dict[str, np.ndarray]:
    """Return the pooled activations of each stage, (n_images, n_channels), by name."""
    extractor = FeatureExtractor(activation_cache=None).fit(X[:2])
    stages, names = extractor.stages_, extractor.stages_.names[:-1]
    images, _ = extractor._check_images(X, reset=True)
    pooled: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for batch in cut_batches(images):
        x = stages.encode(to_batch(batch, torch.device("cpu")), 1)
        for name in names:
            x = x if name == names[0] else stages.get_submodule(name)(x)
            pooled[name].append(x.float().flatten(2).mean(2).numpy())
    return {name: np.concatenate(parts) for name, parts in pooled.items()}


def cut_batches(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield some images at a time."""
    edges = [*range(0, len(images), BATCH_SIZE), len(images)]
    for start, stop in pairwise(edges):
        yield images[start:stop]


def count_errors(X: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Count the errors in cross-validation of the probe at each cut."""
    classes, labels = np.unique(y, return_inverse=True)
    alike = np.ones(len(y), np.float32)
    return {
        name: solve_head(features[None], labels, alike, len(classes)).n_wrong
        for name, features in pool_cuts(X).items()
    }


def main() -> None:
    """Run what the record lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    record = Record("probe_at_cuts")
    cells = [(data, n) for data, sizes in SETS.items() for n in sizes]
    for seed in [] if args.table else range(args.seeds):
        for data, n in cells:
            key = {"set": data, "n": n, "seed": seed}
            if record.find(**key):
                continue
            split = load_to_choose(data, n, seed)
            wrong = count_errors(split.X, split.y)
            last = list(wrong.values())[-1]
            for name, n_wrong in wrong.items():
                relative = n_wrong / max(last, 1)
                record.add(**key, cut=name, n_wrong=n_wrong, relative=relative)
    down = {f"{data}, {n:,}": {"set": data, "n": n} for data, n in cells}
    across = {row["cut"]: {"cut": row["cut"]} for row in record.rows}
    print(tabulate(record.rows, down, across, SHOWN))


if __name__ == "__main__":
    main()
