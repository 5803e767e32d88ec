"""The study's own experiment on a CPU: CIFAR-10 with ImageNet weights, in 5 epochs.

    SKTRANSFER_DATA=FOLDER nohup python benchmarks/headline.py --size 128 > LOG &
    python benchmarks/headline.py --table

The claim: fine-tuning on all 50,000 training images for 5 epochs beats 18 epochs from
scratch (86.0 %) and airbench94 on the same files (90.6 %). The schedule is the study's:
first the head, then the last stage of the backbone joins it, then the one before
(``layer4`` and ``layer3`` of a ResNet). Nothing is set aside; the accuracy is that of
the 10,000 official test images after the last epoch. The backbone is
EfficientNet-Lite0, or with ``--resnet FILE`` torchvision's
``ResNet(BasicBlock, [2, 2, 2, 3])`` with the weights in a file. ``--n`` takes a
stratified subset. FOLDER holds ``cifar10/{train,test}/<class>``.

Seconds are given by part: reading the images, computing the activations of the stages
that stay frozen, solving the head (the first epoch), each later epoch, and predicting.
``--cache FOLDER`` keeps activations on disk, where an interrupted run finds them again;
without it they are kept in memory, as far as it reaches (``--gigabytes``). Finished
rows are not run again; ``--out work`` is for rehearsals.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import HERE, Record
from sets import describe_resnet20, score
from sklearn.model_selection import train_test_split
from threadpoolctl import threadpool_limits

from sktransfer import ActivationCache, TransferClassifier, datasets

SEED = 0
PARTS = "read", "activations", "fit", "predict"
KEPT_OF_EPOCHS = "unfreeze_depth", "dur", "train_loss", "train_accuracy"


def make_cache(folder: Path | None, gigabytes: float | None) -> ActivationCache:
    """Make an empty cache in memory, or one that is also in a folder."""
    max_bytes = "auto" if gigabytes is None else int(gigabytes * 2**30)
    return ActivationCache(max_bytes, path=folder)


def load(n: int) -> tuple[Any, ...]:
    """Return a stratified subset to train on, and all images to test."""
    X, y = datasets.fetch_cifar10(subset="train", return_X_y=True)
    X_test, y_test = datasets.fetch_cifar10(subset="test", return_X_y=True)
    if n < len(y):
        X, _, y, _ = train_test_split(X, y, train_size=n, stratify=y, random_state=SEED)
    return X, y, X_test, y_test


def measure(clf: TransferClassifier, n: int, n_test: int) -> dict[str, Any]:
    """Read, compute the activations, fit and predict."""
    times = [time.perf_counter()]

    def clock(done: str) -> None:
        times.append(time.perf_counter())
        print(f"{done}: {times[-1] - times[-2]:.0f} s")

    X, y, X_test, y_test = load(n)
    X_test, y_test = X_test[:: 10_000 // n_test], y_test[:: 10_000 // n_test]
    clock("read")
    print(clf.activation_cache.warm(clf, X))
    clock("activations")
    clf.fit(X, y)
    clock("fit")
    proba = clf.predict_proba(X_test)
    clock("predict")
    spans = np.diff(times).tolist()
    return {
        **score(proba, clf.classes_, y_test),
        **{f"{part}_seconds": s for part, s in zip(PARTS, spans, strict=True)},
        "epochs": [{k: row[k] for k in KEPT_OF_EPOCHS} for row in clf.history_],
        "precision": clf.precision_,
        "cache": clf.cache_info_._asdict(),
    }


def parse() -> argparse.Namespace:
    """Parse the arguments."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--n-test", type=int, default=10_000)
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--augment", default="flip")
    parser.add_argument("--lr", type=float, default=None)
    parser.add_argument("--batch-size", type=int, default=None)
    parser.add_argument("--resnet", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--gigabytes", type=float)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", default="results", choices=["results", "work"])
    parser.add_argument("--table", action="store_true")
    return parser.parse_args()


def make(args: argparse.Namespace) -> tuple[dict[str, Any], TransferClassifier]:
    """Return what identifies the row, and the estimator."""
    backbone: Any = "efficientnet_lite0"
    if args.resnet:
        backbone = describe_resnet20(args.resnet)
    params = {
        "unfreeze_depth": args.depth,
        "unfreeze_schedule": {epoch: epoch for epoch in range(args.depth + 1)},
        "image_size": args.size,
        "max_epochs": args.epochs,
        "augment": None if args.augment == "none" else args.augment,
        "lr": args.lr or "auto",
        "batch_size": args.batch_size or "auto",
        "early_stopping": False,
        "random_state": SEED,
    }
    clf = TransferClassifier(
        backbone,
        **params,
        activation_cache=make_cache(args.cache, args.gigabytes),
        verbose=1,
    )
    del params["unfreeze_schedule"]
    name = "resnet20" if args.resnet else backbone
    key = {"backbone": name, "n": args.n, "n_test": args.n_test, **params}
    return key, clf


def table(record: Record) -> str:
    """Return a Markdown table with a row per run."""
    lines = [
        "| backbone | images | pixels | augment | accuracy, % | log loss "
        f"| {' | '.join(f'{part}, s' for part in PARTS)} |",
        "|---|---:|---:|---|---:|---:" + "|---:" * len(PARTS) + "|",
    ]
    for row in record.rows:
        seconds = " | ".join(f"{row[f'{part}_seconds']:.0f}" for part in PARTS)
        lines.append(
            f"| {row['backbone']} | {row['n']:,} | {row['image_size']} "
            f"| {row['augment']} | {100 * row['accuracy']:.1f} "
            f"| {row['log_loss']:.3f} | {seconds} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run what the record lacks, and print the tables."""
    args = parse()
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    torch.set_num_threads(args.threads)
    record = Record("headline", HERE / args.out)
    key, clf = make(args)
    if not args.table and not record.find(**key):
        with threadpool_limits(args.threads):
            record.add(**key, **measure(clf, args.n, args.n_test))
    print(table(record))


if __name__ == "__main__":
    main()
