"""Transfer against scratch on CIFAR-10, by number of labelled images.

    SKTRANSFER_DATA=FOLDER python benchmarks/labels.py
    python benchmarks/labels.py --table

The claim: with few labels, fine-tuning the bundled backbone beats training the scratch
CNN on the same images. Training uses stratified subsets of the official training split,
one per seed; accuracy is measured on the whole official test split, and seconds are
those of ``fit`` alone. Both models use their defaults, and each fit an empty activation
cache. With 1,000 images or fewer, scratch also runs with enough epochs for 1,000 steps
("scratch, long"), so that a fixed number of epochs is no handicap.
Finished rows are not run again; transfer rows are valid only for the bundled weights
that they were made with. ``--table`` prints Markdown: median, minimum and maximum over
the seeds, and the vector instructions of the processor.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from record import Record, bundled_weights, spread
from sets import describe_sgd
from sklearn.model_selection import train_test_split

from sktransfer import (
    ActivationCache,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
    datasets,
)
from sktransfer._training.schedule import count_batches, resolve_batch_size

SEEDS = {100: 5, 500: 5, 1000: 5, 5000: 3, 50000: 1}
LONG_STEPS, LONG_UP_TO = 1000, 1000


def long_epochs(n_images: int) -> int:
    """Return the epochs for at least `LONG_STEPS` steps, and no fewer than default."""
    steps = count_batches(n_images, resolve_batch_size("auto", n_images))
    return max(18, math.ceil(LONG_STEPS / steps))


MODELS: dict[str, Callable[[int, int], Any]] = {
    "transfer": lambda n, seed: ResNetTransferClassifier(
        describe_sgd(),
        head_init="random",
        unfreeze_depth=2,
        activation_cache=ActivationCache(),
        random_state=seed,
    ),
    "scratch": lambda n, seed: ScratchCNNClassifier(random_state=seed),
    "scratch, long": lambda n, seed: ScratchCNNClassifier(
        max_epochs=long_epochs(n), random_state=seed
    ),
}


def key_of(name: str, n: int, seed: int) -> dict[str, Any]:
    """Return the values that identify a row."""
    key = {"model": name, "n": n, "seed": seed}
    return {**key, "weights": bundled_weights()} if name == "transfer" else key


def subset(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Return the rows of a stratified subset of n images."""
    if n >= len(y):
        return np.arange(len(y))
    rows, _ = train_test_split(
        np.arange(len(y)), train_size=n, stratify=y, random_state=seed
    )
    return rows


def run(record: Record, sizes: list[int], models: list[str]) -> None:
    """Run what the record lacks."""
    X, y = datasets.fetch_cifar10(subset="train", return_X_y=True)
    X_test, y_test = datasets.fetch_cifar10(subset="test", return_X_y=True)
    for n in sizes:
        for seed in range(SEEDS[n]):
            rows = subset(y, n, seed)
            for name in models:
                key = key_of(name, n, seed)
                if record.find(**key) or (name == "scratch, long" and n > LONG_UP_TO):
                    continue
                model = MODELS[name](n, seed).fit(X[rows], y[rows])
                record.add(
                    **key,
                    accuracy=model.score(X_test, y_test),
                    fit_seconds=model.fit_time_,
                    epochs=model.n_iter_,
                )


def table(record: Record) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| images | model | seeds | test accuracy, % | fit, s | processor |",
        "|---:|---|---:|---:|---:|---|",
    ]
    for n, n_seeds in SEEDS.items():
        for name in MODELS:
            keys = [key_of(name, n, seed) for seed in range(n_seeds)]
            cell = [row for key in keys for row in record.find(**key)]
            if cell:
                accuracy = spread([100 * row["accuracy"] for row in cell], ".1f")
                seconds = spread([row["fit_seconds"] for row in cell], ".0f")
                places = [record.environments[row["environment"]] for row in cell]
                kinds = ", ".join(sorted({place["capability"] for place in places}))
                lines.append(
                    f"| {n:,} | {name} | {len(cell)} | {accuracy} | {seconds} "
                    f"| {kinds} |"
                )
    return "\n".join(lines)


def main() -> None:
    """Run what the record lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--sizes", type=int, nargs="+", default=list(SEEDS), choices=list(SEEDS)
    )
    parser.add_argument(
        "--models", nargs="+", default=list(MODELS), choices=list(MODELS)
    )
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    record = Record("labels")
    if not args.table:
        run(record, args.sizes, args.models)
    print(table(record))


if __name__ == "__main__":
    main()
