"""What each decision of fine-tuning contributes.

    SKTRANSFER_DATA=FOLDER python benchmarks/fine_tuning.py
    python benchmarks/fine_tuning.py --table

`TransferClassifier` as it is, and with one decision changed at a time, on ants and
bees, 1,000 images each of trash and CIFAR-10, and 200 digits: how the head starts, how
stages open and how many, how images are resized, varied and mixed, and, in the
description of the backbone, optimizer, rates, batch norm and clipping. A value that is
the default is left out; nothing varies digits unless that is what is changed.
``--backbone`` takes another than EfficientNet-Lite0, and ``--resnet FILE`` takes
torchvision's ``ResNet(BasicBlock, [2, 2, 2, 3])`` with the weights in a file.
``sets.py`` says what FOLDER holds.

These results choose defaults, so the images to test are not official test images,
except those of ants and bees, of which there are too few. All fits of a process share
one activation cache, so that times mean little. A run that diverges is recorded with
its error. Finished rows are not run again. ``--variants`` chooses some by name, such as
``"lr times 2"``. ``--rehearse`` takes 60 images and two epochs, and writes to
``work/``. ``--table`` prints Markdown: median, minimum and maximum over the seeds, also
of the difference from the default with the same seed.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from record import RESULTS, SCORES, WORK, Record, Shown, tabulate
from sets import ALL_ANTS_AND_BEES, Split, describe_resnet20, load_to_choose, score
from threadpoolctl import threadpool_limits

from sktransfer import Backbone, TransferClassifier
from sktransfer._networks.backbones.known import find_backbone

SETS = {"ants_bees": ALL_ANTS_AND_BEES, "trash": 1000, "cifar10": 1000, "digits": 200}
N_TEST, N_REHEARSED = 1000, 60
DEFAULT = "as it is"

# Parameters of the estimator, and values to try.
PARAMS: dict[str, list[Any]] = {
    "head_init": ["random"],
    "probe_share": [0.0, 0.25, 0.5, 0.75],
    "unfreeze_schedule": ["immediate"],
    "resize": ["crop", "pad", "squash"],
    "augment": [None, "flip", "advanced"],
    "mixup": [0.2],
    "max_epochs": [3, 5, 10],
    "label_smoothing": [0.0, 0.1],
}
# The same, where the default depends on the images.
OF_PHOTOGRAPHS = {"image_size": [224, 256, 320], "unfreeze_depth": [0, 1, 3]}
OF_SMALL_IMAGES = {"image_size": [96, 160, 224], "unfreeze_depth": [0, 1, 2, 4]}
# Fields of the backbone's description, and values to try; rates are multiplied.
FIELDS: dict[str, list[Any]] = {
    "backbone_lr_factor": [0.1, 0.3, 1.0],
    "layer_decay": [0.7, 1.0],
    "batch_norm": ["train", "eval"],
    "clip_norm": [None, 1.0],
}
TIMES = (0.2, 0.6, 2, 4)
# Of the head, and of open stages as a share of it. The last pair was once the default.
SGD_RATES = ((0.003, 1.0), (0.01, 1.0), (0.03, 1.0), (0.05, 0.1))


def start(data: str, backbone: Backbone) -> TransferClassifier:
    """Make the estimator that one decision of is changed."""
    params: dict[str, Any] = {"augment": None} if data == "digits" else {}
    return TransferClassifier(backbone, **params)


def list_variants(data: str, backbone: Backbone) -> dict[str, dict[str, Any]]:
    """Return the parameters that each variant changes, by its name."""
    params = start(data, backbone).get_params()
    variants: dict[str, dict[str, Any]] = {DEFAULT: {}}
    are_small = data in ("cifar10", "digits")
    of_these = OF_SMALL_IMAGES if are_small else OF_PHOTOGRAPHS
    for name, values in {**PARAMS, **of_these}.items():
        others = [value for value in values if value != params[name]]
        variants |= {f"{name}={value!r}": {name: value} for value in others}
    for name, fields in list_recipes(backbone).items():
        variants[name] = {"backbone": replace(backbone, **fields)}
    return variants


def list_recipes(backbone: Backbone) -> dict[str, dict[str, Any]]:
    """Return the fields of the description that each variant changes, by its name."""
    recipes: dict[str, dict[str, Any]] = {
        f"lr times {factor:g}": {"lr": backbone.lr * factor} for factor in TIMES
    }
    for name, values in FIELDS.items():
        others = [value for value in values if value != getattr(backbone, name)]
        recipes |= {f"{name}={value!r}": {name: value} for value in others}
    if backbone.optimizer != "sgd":
        for lr, factor in SGD_RATES:
            recipes[f"SGD, lr={lr:g}, backbone_lr_factor={factor:g}"] = {
                "optimizer": "sgd",
                "lr": lr,
                "backbone_lr_factor": factor,
                "weight_decay": 5e-4,
            }
    return recipes


def fit(clf: TransferClassifier, split: Split) -> dict[str, Any]:
    """Fine-tune, and test."""
    try:
        clf.fit(split.X, split.y)
    except FloatingPointError as error:
        return {"error": str(error)}
    scores = score(clf.predict_proba(split.X_test), clf.classes_, split.y_test)
    return {**scores, "fit_seconds": clf.fit_time_}


def run(record: Record, backbone: Backbone, args: argparse.Namespace) -> None:
    """Run what the record lacks; first everything with one seed."""
    n_test = N_REHEARSED if args.rehearse else N_TEST
    shared = {"max_epochs": 2} if args.rehearse else {}
    for seed in range(args.seeds):
        for data, n in list_sizes(args).items():
            split = load_to_choose(data, n, seed, n_test)
            for name, changes in list_variants(data, backbone).items():
                key = {"backbone": backbone.name, "set": data, "n": n}
                key |= {"variant": name, "seed": seed}
                is_chosen = not args.variants or name in (DEFAULT, *args.variants)
                if is_chosen and not record.find(**key):
                    clf = start(data, backbone).set_params(random_state=seed)
                    clf.set_params(**{**shared, **changes})
                    record.add(**key, **fit(clf, split))


def list_sizes(args: argparse.Namespace) -> dict[str, int]:
    """Return how many images of each set are trained on."""
    return {data: N_REHEARSED if args.rehearse else SETS[data] for data in args.sets}


def difference(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows with what each has more than the default with the same seed."""
    shared = "set", "n", "seed"
    default = {tuple(r[k] for k in shared): r for r in rows if r["variant"] == DEFAULT}
    found = [(row, default.get(tuple(row[k] for k in shared))) for row in rows]
    return [
        {**row, "more": row["accuracy"] - whole["accuracy"]}
        for row, whole in found
        if whole is not None
    ]


def table(rows: list[dict[str, Any]], backbone: Backbone, sizes: dict[str, int]) -> str:
    """Return the rows of a backbone as Markdown tables."""
    rows = [r for r in rows if r["backbone"] == backbone.name]
    diverged = [f"{r['variant']} on {r['set']}" for r in rows if "error" in r]
    rows = difference([r for r in rows if "error" not in r])
    down = {row["variant"]: {"variant": row["variant"]} for row in rows}
    across = {f"{data}, {n:,}": {"set": data, "n": n} for data, n in sizes.items()}
    shown = {**SCORES, "more": Shown("More than as it is, points", 100, "+.1f")}
    text = tabulate(rows, down, across, shown)
    return f"{text}\n\nDiverged: {', '.join(diverged)}" if diverged else text


def main() -> None:
    """Run what the record lacks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--variants", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--resnet", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = Record("fine_tuning", WORK if args.rehearse else RESULTS)
    backbone = find_backbone(args.backbone)
    if args.resnet:
        backbone = describe_resnet20(args.resnet)
    if not args.table:
        with threadpool_limits(args.threads):
            run(record, backbone, args)
    print(table(record.rows, backbone, list_sizes(args)))


if __name__ == "__main__":
    main()
