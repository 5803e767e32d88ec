"""How many labels it takes: transfer against scratch on CIFAR-10.

    SKTRANSFER_DATA=FOLDER python benchmarks/labels.py --sizes 100 500 1000 --seeds 5

The claim: with few labels, fine-tuning the bundled backbone beats training the
scratch CNN on the same images. Stratified subsets of the official training split, one
a seed; accuracy on the whole official test split; seconds of ``fit`` alone. Scratch
runs with its defaults and, so that few images are no handicap of a fixed number of
epochs, with enough epochs for 1,000 steps ("scratch, long"). Results go to
``benchmarks/results/labels.json`` one by one; finished ones are not run again.
``--table`` prints them as Markdown: least, median and greatest over the seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
from sklearn.model_selection import train_test_split

from sktransfer import ResNetTransferClassifier, ScratchCNNClassifier, datasets
from sktransfer._schedule import n_batches, resolve_batch_size

RESULTS = Path(__file__).parent / "results" / "labels.json"
LONG_STEPS = 1000


def long_epochs(n_images: int) -> int:
    """Epochs for at least `LONG_STEPS` steps, and at least the default."""
    steps = n_batches(n_images, resolve_batch_size("auto", n_images))
    return max(18, math.ceil(LONG_STEPS / steps))


MODELS: dict[str, Callable[[int, int], Any]] = {
    "transfer": lambda n, seed: ResNetTransferClassifier(
        "mini_resnet18", random_state=seed
    ),
    "scratch": lambda n, seed: ScratchCNNClassifier(random_state=seed),
    "scratch, long": lambda n, seed: ScratchCNNClassifier(
        max_epochs=long_epochs(n), random_state=seed
    ),
}


def subset(y: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Rows of a stratified subset of n images."""
    if n >= len(y):
        return np.arange(len(y))
    rows, _ = train_test_split(
        np.arange(len(y)), train_size=n, stratify=y, random_state=seed
    )
    return rows


def environment() -> dict[str, Any]:
    """Versions, hardware and commit that a result belongs to."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    cpu = next(
        (
            line.split(":")[1].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit.stdout.strip(),
        "cpu": cpu,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "sklearn": sklearn.__version__,
        "data": "CIFAR-10 (JPEG q75)",
    }


def run(sizes: list[int], n_seeds: int, data_home: str | None) -> None:
    """Run what is missing and write each result as it comes."""
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    done = {(r["model"], r["n"], r["seed"]) for r in results}
    X, y = datasets.fetch_cifar10(data_home, subset="train", return_X_y=True)
    X_test, y_test = datasets.fetch_cifar10(data_home, subset="test", return_X_y=True)
    for n in sizes:
        for seed in range(n_seeds):
            rows = subset(y, n, seed)
            for name, make in MODELS.items():
                if (name, n, seed) in done:
                    continue
                model = make(n, seed).fit(X[rows], y[rows])
                result = {
                    "model": name,
                    "n": n,
                    "seed": seed,
                    "accuracy": model.score(X_test, y_test),
                    "fit_seconds": model.fit_time_,
                    "epochs": model.n_iter_,
                    "environment": environment(),
                }
                results.append(result)
                print({k: result[k] for k in list(result)[:-1]}, flush=True)
                RESULTS.parent.mkdir(parents=True, exist_ok=True)
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")


def spread(values: list[float], form: str) -> str:
    """Least, median and greatest."""
    return " / ".join(
        format(v, form) for v in (min(values), np.median(values), max(values))
    )


def table() -> str:
    """The results as a Markdown table."""
    results = json.loads(RESULTS.read_text())
    lines = [
        "| images | model | seeds | test accuracy, % | fit, s |",
        "|---:|---|---:|---:|---:|",
    ]
    for n in sorted({r["n"] for r in results}):
        for name in MODELS:
            cell = [r for r in results if r["n"] == n and r["model"] == name]
            if cell:
                accuracy = spread([100 * r["accuracy"] for r in cell], ".1f")
                seconds = spread([r["fit_seconds"] for r in cell], ".1f")
                lines.append(f"| {n} | {name} | {len(cell)} | {accuracy} | {seconds} |")
    return "\n".join(lines)


def main() -> None:
    """Run or print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[100, 500, 1000])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--data-home", default=None)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if not args.table:
        run(args.sizes, args.seeds, args.data_home)
    print(table())


if __name__ == "__main__":
    main()
