"""Files that are read while the network computes, against one array made beforehand.

    python benchmarks/streaming.py --n 1000 10000 100000
    python benchmarks/streaming.py --rehearse --n 200 --backbone mini_resnet18
    python benchmarks/streaming.py --table

The question: what it costs in seconds, and saves in memory, to give an estimator the
paths of files rather than an array, and how both compare with torch's and fastai's own
ways with folders, on a CPU. Cases:

a. the estimators with a frozen backbone on paths: "features" is ``FeatureExtractor``
   with scikit-learn's logistic regression, "transfer" is
   ``TransferClassifier(unfreeze_depth=0)``, whose solved head also sees mirror images;
b. the same on an array, whose making counts ("decode" is its part of the time);
c. ``ScratchCNNClassifier(max_epochs=4)`` on both;
d. torchvision's ``ImageFolder`` and a ``DataLoader`` before the same frozen network and
   the same logistic regression (``efficientnet_lite0`` only);
e. fastai: one epoch of its head and of the batch norm below it (up to 1,000 files, and
   where it is installed; its memory grows to 10 GB);
f. what ``FeatureExtractor.fit`` keeps of 1,000,000 paths (``--paths``), to 1,000 files
   at 8 x 8 pixels; only if asked for, since it takes minutes, or half an hour where the
   files themselves are read.

``jpeg_folder.py`` draws n files to train on and a tenth as many, at least 200, to test,
once, into ``work/``; all are read once before anything is timed. Backbones:
``efficientnet_lite0`` for up to 10,000 files, ``mini_resnet18`` for more, which has
pictures read at 224 x 224 pixels and sees them at 32 x 32, so that reading takes most
of the time. Everyone computes in the format of ``--precision``, except fastai, which
has float32. ``--threads`` limits what computes; files are read with as many threads as
each library takes, and by two processes of each peer.

Each run is a process of its own, so that its peak of resident memory is its own, too
("imported" is the peak after all imports). That of a peer's process that reads comes on
top, twice, but for the pages that it shares with the first. An array that would take
more than 60 % of the free memory is left out. Paths and array have the same pixels,
hence must have equal probabilities, bit for bit. Each row is written as soon as it is
there; rows that are there are not run again. Three repeats of up to 1,000 files, else
one, with other seeds. Seconds include reading the weights.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from importlib.util import find_spec
from operator import itemgetter
from pathlib import Path
from typing import Any

import psutil
import torch
from jpeg_folder import make_folder
from record import RESULTS, WORK, Record, Shown, tabulate
from streaming_cases import BACKBONES, N_LINKED, READ_AT, run_case

FILES = WORK / "streaming"
LARGEST_FOR_LITE, LARGEST_FOR_REPEATS, OF_FASTAI = 10_000, 1000, 1000
SMALLEST_TEST, SHARE_OF_MEMORY = 200, 0.6
FROZEN = ("features", "transfer")

SHOWN = {
    "fit_seconds": Shown("Fit, s", 1, ".1f"),
    "decode_seconds": Shown("of which decode, s", 1, ".1f"),
    "predict_seconds": Shown("Predict, s", 1, ".1f"),
    "first_epoch_seconds": Shown("First epoch, s", 1, ".2f"),
    "later_epoch_seconds": Shown("Later epochs, s", 1, ".2f"),
    "imported_mb": Shown("Imported, MB", 1, ",.0f"),
    "peak_mb": Shown("Peak, MB", 1, ",.0f"),
    "peak_child_mb": Shown("Peak of a worker, MB", 1, ",.0f"),
    "accuracy": Shown("Accuracy, %", 100, ".1f"),
    "bytes_per_path": Shown("Bytes per path", 1, ",.0f"),
}
COMPARED = (
    "fit_seconds",
    "predict_seconds",
    "first_epoch_seconds",
    "later_epoch_seconds",
    "peak_mb",
)
OF_RATIOS = {
    **{name: Shown(f"Ratio of {SHOWN[name].unit}", 1, ".2f") for name in COMPARED},
    "ready": Shown("Ratio of Fit, s, without decode", 1, ".2f"),
    "grown": Shown("Ratio of Peak, MB, without imports", 1, ".2f"),
    "equal": Shown("Equal probabilities, % of runs", 100, ".0f"),
}


def count_test(n: int) -> int:
    """Return how many files are tested beside n to train on."""
    return max(SMALLEST_TEST, n // 10)


def list_cases(letters: list[str], n: int, backbone: str) -> list[dict[str, Any]]:
    """List the cases of a set of n files; say what is left out."""
    on = {"a": "paths", "b": "array"}
    cases: list[dict[str, Any]] = [
        {"model": model, "input": on[letter], "backbone": backbone}
        for model in FROZEN
        for letter in letters
        if letter in on
    ]
    if "c" in letters:
        cases += [{"model": "scratch", "input": i, "backbone": ""} for i in on.values()]
    if "d" in letters and backbone != "efficientnet_lite0":
        print(f"left out: d with {backbone}")
    elif "d" in letters:
        cases.append({"model": "torch", "input": "folder", "backbone": backbone})
    if "e" in letters and n <= OF_FASTAI:
        if find_spec("fastai"):
            cases.append({"model": "fastai", "input": "folder", "backbone": backbone})
        else:
            print("left out: e, since fastai is not installed")
    return [{"n": n, **case} for case in cases]


def is_too_large(case: dict[str, Any]) -> bool:
    """Say whether the array of a case would fill the memory."""
    if case["input"] != "array":
        return False
    height, width = READ_AT[case["backbone"] or "scratch"]
    n_bytes = case["n"] * height * width * 3
    return bool(n_bytes > SHARE_OF_MEMORY * psutil.virtual_memory().available)


def run_apart(case: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Run a case in a fresh process; None, with the reason printed, if it failed."""
    command = [sys.executable, __file__, "--run", json.dumps(case)]
    done = subprocess.run(
        [*command, "--folder", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(case["threads"])},
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["killed?"])[-1]
        print(f"left out: {case}, which returned {done.returncode}: {last}")
        return None
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {name: round(v, 4) if name != "proba" else v for name, v in row.items()}


def run(record: Record, cases: list[dict[str, Any]], folder: Path) -> None:
    """Run the cases that the record lacks."""
    for case in cases:
        if record.find(**case):
            continue
        if is_too_large(case):
            print(f"left out: {case}, whose array would fill the memory")
            continue
        row = run_apart(case, folder)
        if row is not None:
            record.add(**case, **row)


def compare(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return paths over array, for each pair of the same commit and processor."""
    shared = ("n", "model", "backbone", "precision", "threads", "repeat")
    key = itemgetter(*shared, "commit", "cpu")
    arrays = {key(row): row for row in rows if row["input"] == "array"}
    ratios = []
    for row in rows:
        other = arrays.get(key(row))
        if row["input"] != "paths" or other is None:
            continue
        ratio = {k: row[k] / other[k] for k in COMPARED if k in row and k in other}
        ratio["ready"] = row["fit_seconds"] / (
            other["fit_seconds"] - other["decode_seconds"]
        )
        ratio["grown"] = (row["peak_mb"] - row["imported_mb"]) / (
            other["peak_mb"] - other["imported_mb"]
        )
        ratio["equal"] = float(row["proba"] == other["proba"])
        ratios.append({k: row[k] for k in shared} | ratio)
    return ratios


def show(rows: list[dict[str, Any]]) -> str:
    """Return the tables: what was measured, and paths over array."""
    kinds = {(row["n"], row["model"], row["backbone"]): row for row in rows}
    down = {
        f"{model}{backbone and f', {backbone}'}, {n:,}": {
            "n": n,
            "model": model,
            "backbone": backbone,
        }
        for n, model, backbone in sorted(kinds)
    }
    across = {name: {"input": name} for name in ("paths", "array", "folder")}
    tables: tuple[Any, ...] = (
        (rows, across, SHOWN),
        (compare(rows), {"paths / array": {}}, OF_RATIOS),
    )
    return "\n\n".join(
        tabulate(some, down, columns, {k: v for k, v in shown.items() if k in known})
        for some, columns, shown in tables
        for known in [set().union(*some)]
    )


def list_rows(record: Record, common: dict[str, Any]) -> list[dict[str, Any]]:
    """List the rows that are shown, each with its commit and processor."""
    where = [{k: e[k] for k in ("commit", "cpu")} for e in record.environments]
    return [row | where[row["environment"]] for row in record.find(**common)]


def measure_all(
    args: argparse.Namespace, record: Record, common: dict[str, Any]
) -> None:
    """Run the cases of all sets of files."""
    for n in args.n:
        folder = FILES / str(n)
        make_folder(folder / "train", n, seed=0)
        make_folder(folder / "test", count_test(n), seed=1)
        small = "mini_resnet18" if n > LARGEST_FOR_LITE else "efficientnet_lite0"
        cases = list_cases(args.cases, n, args.backbone or small)
        repeats = args.repeats or (3 if n <= LARGEST_FOR_REPEATS else 1)
        for repeat in range(repeats):
            run(record, [{**c, **common, "repeat": repeat} for c in cases], folder)
    if "f" in args.cases:
        folder = FILES / str(N_LINKED)
        make_folder(folder / "train", N_LINKED, seed=0)
        case = {"n": args.paths, "model": "paths", "input": "paths", "backbone": ""}
        run(record, [{**case, **common, "repeat": 0}], folder)


def main() -> None:
    """Run what the record lacks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--cases", nargs="+", default=list("abcde"), choices="abcdef")
    parser.add_argument("--backbone", choices=list(BACKBONES))
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--precision", default="float32", choices=("float32", "bfloat16")
    )
    parser.add_argument("--paths", type=int, default=1_000_000)
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.run:
        n_test = count_test(args.run["n"])
        print(json.dumps(run_case(args.run, args.folder, n_test)))
        return
    torch.set_num_threads(args.threads)
    record = Record("streaming", WORK if args.rehearse else RESULTS)
    common = {"precision": args.precision, "threads": args.threads}
    if not args.table:
        measure_all(args, record, common)
    print(show(list_rows(record, common)))


if __name__ == "__main__":
    main()
