"""ScratchCNNClassifier and its peers on CIFAR-10: accuracy against seconds.

    SKTRANSFER_DATA=FOLDER python benchmarks/scratch.py
    python benchmarks/scratch.py --models airbench94 --airbench FILE
    python benchmarks/scratch.py --table

All train on the 50,000 training images, with nothing set aside; accuracy is measured on
the official test split:

- ours: the estimator with its defaults, for several numbers of epochs;
- ours, speed run: with the widths, pooling, batch size and views of airbench94;
- skorch: ``NeuralNetClassifier`` around our default network, with SGD, momentum and
  shuffling as in its documentation, and no augmentation;
- airbench94: the public speed run itself, from a clone (``airbench.py``), for the same
  number of epochs as ours (its own is 9.9); FILE is its ``legacy/airbench94.py``.

Seconds are those of ``fit``, and of ``fit`` plus predicting the test split. airbench94
counts only both together, and leaves out the statistics, checks and uploads that our
``fit`` includes.
``--table`` prints Markdown: median, minimum and maximum over the seeds. If the seeds
ran on several processors, seconds are those of the first one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import airbench
import numpy as np
import torch
from record import Record, spread
from skorch import NeuralNetClassifier
from torch import nn

from sktransfer import ScratchCNNClassifier, datasets
from sktransfer._images.preprocessing import Preprocess
from sktransfer._networks.cnn import make_cnn
from sktransfer._networks.statistics import measure_channels

Images = tuple[np.ndarray, np.ndarray]
EPOCHS = (1, 2, 4, 8, 18)
SPEED_RUN: dict[str, Any] = {
    "width": (64, 256, 256),
    "global_pool": "max",
    "batch_size": 1024,
    "max_epochs": 10,
    "tta": "flip_shift",
}


def ours(train: Images, test: Images, seed: int, **params: Any) -> dict[str, Any]:
    """Fit the estimator and score it."""
    clf = ScratchCNNClassifier(early_stopping=False, random_state=seed, **params)
    clf.fit(*train)
    started = time.perf_counter()
    accuracy = clf.score(*test)
    return {
        "accuracy": accuracy,
        "seconds": clf.fit_time_,
        "predict_seconds": time.perf_counter() - started,
        "precision": clf.precision_,
    }


class Network(nn.Module):
    """The default network, without the pieces that belong to its training."""

    def __init__(self, width: int) -> None:
        super().__init__()
        neutral = Preprocess(None, [0.0] * 3, [1.0] * 3)
        widths = (width, 2 * width, 2 * width)
        self.stages = make_cnn(10, widths, 0.0, neutral, None)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of normalised images (n, 3, height, width)."""
        return self.stages.decode(images, 0)


def skorch(train: Images, test: Images, seed: int, epochs: int) -> dict[str, Any]:
    """Fit plain skorch and score it."""
    torch.manual_seed(seed)
    mean, std = measure_channels(train[0], np.arange(len(train[0])))

    def prepared(images: np.ndarray) -> np.ndarray:
        scaled = (images.astype(np.float32) / 255 - np.float32(mean)) / np.float32(std)
        return np.ascontiguousarray(scaled.transpose(0, 3, 1, 2))

    classes, labels = np.unique(train[1], return_inverse=True)
    net = NeuralNetClassifier(
        Network,
        module__width=ScratchCNNClassifier().width,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=0.9,
        lr=0.05,
        batch_size=128,
        max_epochs=epochs,
        iterator_train__shuffle=True,
        train_split=None,
        verbose=0,
    )
    started = time.perf_counter()
    net.fit(prepared(train[0]), labels)
    fitted = time.perf_counter()
    predicted = classes[net.predict(prepared(test[0]))]
    return {
        "accuracy": float((predicted == test[1]).mean()),
        "seconds": fitted - started,
        "predict_seconds": time.perf_counter() - fitted,
        "precision": "float32",
    }


def missing(args: argparse.Namespace, record: Record) -> Iterator[dict[str, Any]]:
    """Yield the keys that the record lacks."""
    for seed in range(args.seeds):
        for model in args.models:
            counted = model in ("ours", "skorch")
            for epochs in args.epochs if counted else [args.speed_run_epochs]:
                key = {"model": model, "epochs": epochs, "seed": seed}
                if not record.find(**key):
                    yield key


def run(args: argparse.Namespace, record: Record) -> None:
    """Run what the record lacks."""
    train, test = (
        datasets.fetch_cifar10(subset=subset, return_X_y=True)
        for subset in ("train", "test")
    )
    for key in missing(args, record):
        model, epochs, seed = key["model"], key["epochs"], key["seed"]
        if model == "ours":
            result = ours(train, test, seed, max_epochs=epochs)
        elif model == "ours, speed run":
            result = ours(train, test, seed, **{**SPEED_RUN, "max_epochs": epochs})
        elif model == "skorch":
            result = skorch(train, test, seed, epochs)
        else:
            torch.manual_seed(seed)
            (result,) = airbench.speed_run(args.airbench, train, test, 1, epochs)
        record.add(**key, **result)


def table(record: Record) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| model | numbers | epochs | seeds | accuracy, % | fit, s | and predict, s |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    cells = dict.fromkeys((row["model"], row["epochs"]) for row in record.rows)
    for model, epochs in sorted(cells):
        rows = record.find(model=model, epochs=epochs)
        accuracy = spread([100 * row["accuracy"] for row in rows], ".1f")
        timed = [row for row in rows if record.cpu_of(row) == record.cpu_of(rows[0])]
        whole = [row["seconds"] + row.get("predict_seconds", 0) for row in timed]
        both = spread(whole, ".0f")
        fit = spread([row["seconds"] for row in timed], ".0f")
        if model == "airbench94":
            fit = ""
        numbers = rows[0].get("precision", "half")
        what = f"{model} | {numbers} | {epochs} | {len(rows)}"
        lines.append(f"| {what} | {accuracy} | {fit} | {both} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the record lacks, and print the table."""
    models = ["ours", "ours, speed run", "skorch"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--airbench", type=Path, help="airbench94.py of a clone")
    parser.add_argument(
        "--models", nargs="+", default=models, choices=[*models, "airbench94"]
    )
    parser.add_argument("--epochs", type=int, nargs="+", default=list(EPOCHS))
    parser.add_argument("--speed-run-epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    if "airbench94" in args.models and args.airbench is None:
        parser.error("airbench94 needs --airbench FILE")
    record = Record("scratch")
    if not args.table:
        run(args, record)
    print(table(record))


if __name__ == "__main__":
    main()
