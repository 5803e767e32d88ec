"""What each piece of ScratchCNNClassifier contributes.

    SKTRANSFER_DATA=FOLDER python benchmarks/ablation.py
    python benchmarks/ablation.py --table

The full recipe ("all pieces"), and the recipe with one piece changed at a time, trained
for 10 epochs (``--epochs``) on 10,000 images (``--n-images``), a stratified sample of
the official training split of CIFAR-10. Accuracy is measured on 10,000 other images of
that split, never on the test split, since these results choose defaults. ``--table``
prints Markdown: median, minimum and maximum over the seeds, and the mean difference
from the full recipe, paired by seed.
"""

from __future__ import annotations

import argparse
from typing import Any
from unittest import mock

import numpy as np
from record import Record, spread
from sklearn.model_selection import train_test_split

import sktransfer._networks.statistics as _statistics
from sktransfer import ScratchCNNClassifier, datasets

SHARP = "whitening by Jordan's epsilon"

VARIANTS: dict[str, dict[str, Any]] = {
    "all pieces": {},
    "no whitening": {"whiten": False},
    SHARP: {},
    "cosine": {"lr_schedule": "cosine"},
    "no lookahead": {"lookahead": False},
    "flips by lot": {"alternate_flip": False},
    "flips, no shifts": {"augment": "flip"},
    "nothing augmented": {"augment": None},
    "no label smoothing": {"label_smoothing": 0.0},
    "biases of batch norm at the rate of the others": {"bias_lr_factor": 1.0},
    "maxima pooled": {"global_pool": "max"},
    "float32": {"precision": "float32"},
}
PREDICTED: dict[str, str | None] = {
    "all pieces": None,
    "tta='flip'": "flip",
    "tta='flip_shift'": "flip_shift",
}


def run(record: Record, key: dict[str, Any], variants: list[str], seeds: int) -> None:
    """Run what the record lacks."""
    X, y = datasets.fetch_cifar10(subset="train", return_X_y=True)
    for seed in range(seeds):
        X_train, X_valid, y_train, y_valid = train_test_split(
            X,
            y,
            train_size=key["n_images"],
            test_size=10_000,
            stratify=y,
            random_state=seed,
        )
        for name in variants:
            views = PREDICTED if name == "all pieces" else {name: None}
            rows = {
                called: {**key, "variant": called, "seed": seed} for called in views
            }
            if all(record.find(**row) for row in rows.values()):
                continue
            clf = ScratchCNNClassifier(
                width=key["width"],
                max_epochs=key["epochs"],
                early_stopping=False,
                random_state=seed,
                **VARIANTS[name],
            )
            epsilon = 5e-4 if name == SHARP else _statistics.WHITENING_EPSILON
            with mock.patch.object(_statistics, "WHITENING_EPSILON", epsilon):
                clf.fit(X_train, y_train)
            for called, tta in views.items():
                accuracy = clf.set_params(tta=tta).score(X_valid, y_valid)
                if not record.find(**rows[called]):
                    record.add(
                        **rows[called],
                        accuracy=accuracy,
                        fit_seconds=clf.fit_time_,
                        precision=clf.precision_,
                    )


def table(record: Record, key: dict[str, Any], seeds: int) -> str:
    """Return the rows as a Markdown table."""
    lines = [
        "| variant | accuracy, % | more than all pieces, points | fit, s |",
        "|---|---:|---:|---:|",
    ]
    for name in [*VARIANTS, *list(PREDICTED)[1:]]:
        cells = [
            (row, whole)
            for seed in range(seeds)
            for row in record.find(**key, variant=name, seed=seed)
            for whole in record.find(**key, variant="all pieces", seed=seed)
        ]
        if cells:
            more = [100 * (row["accuracy"] - whole["accuracy"]) for row, whole in cells]
            accuracy = spread([100 * row["accuracy"] for row, _ in cells], ".1f")
            seconds = spread([row["fit_seconds"] for row, _ in cells], ".0f")
            lines.append(f"| {name} | {accuracy} | {np.mean(more):+.1f} | {seconds} |")
    return "\n".join(lines)


def main() -> None:
    """Run what the record lacks, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS)
    )
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    key = {"n_images": args.n_images, "epochs": args.epochs, "width": args.width}
    record = Record("ablation")
    if not args.table:
        run(record, key, args.variants, args.seeds)
    print(table(record, key, args.seeds))


if __name__ == "__main__":
    main()
