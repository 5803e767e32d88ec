"""Two ranks of torchrun against one process: seconds, equality, and bytes exchanged.

    SKTRANSFER_DATA=FOLDER python benchmarks/ranks.py

Each case is fitted by one process with one thread, by one with two threads, and by two
ranks with one thread each, in turn, several rounds. A row holds the seconds of the fit
and of its epochs without imports, steps per second in the last epoch, what each rank
passes to the others, and how far probabilities and losses are from those of one process
with one thread. Two cores cannot show more than two ranks.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from record import Record, spread
from sets import load
from torch import distributed

from sktransfer import ActivationCache, ScratchCNNClassifier, TransferClassifier

# Name, number of ranks, threads of each.
WAYS = (("one thread", 1, 1), ("two threads", 1, 2), ("two ranks", 2, 1))

# Name of the images, and how many are trained on.
CASES = {
    "probe": ("trash", 400),
    "two stages": ("trash", 400),
    "scratch": ("cifar10", 4000),
}
N_TEST = 50


def make(case: str, precision: str) -> Any:
    """Make the estimator of a case."""
    same = {"random_state": 0, "precision": precision, "early_stopping": False}
    if case == "scratch":
        return ScratchCNNClassifier(max_epochs=3, batch_size=128, **same)
    deep = {"head_init": "random", "unfreeze_schedule": "immediate", "max_epochs": 2}
    depth = {"unfreeze_depth": 0} if case == "probe" else {"unfreeze_depth": 2, **deep}
    cache = ActivationCache()
    return TransferClassifier(batch_size=32, activation_cache=cache, **depth, **same)


class Passed:
    """Counts what this rank passes to the others."""

    def __init__(self) -> None:
        self.n_bytes = self.n_messages = 0
        for name in ("all_reduce", "gather", "broadcast", "all_gather"):
            setattr(distributed, name, self.count(getattr(distributed, name)))

    def count(self, function: Any) -> Any:
        """Wrap a function that passes its first argument."""

        def wrapped(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            passed = args[0] if isinstance(tensor, list) else tensor
            self.n_bytes += passed.numel() * passed.element_size()
            self.n_messages += 1
            return function(tensor, *args, **kwargs)

        return wrapped


def fit(case: str, precision: str, out: Path) -> None:
    """Fit as one process or one rank, and write what it took and gave."""
    passed = Passed()
    split = load(*CASES[case], 0, N_TEST)
    clf = make(case, precision)
    started = time.perf_counter()
    clf.fit(split.X, split.y)
    seconds, n_bytes, n_messages = (
        time.perf_counter() - started,
        passed.n_bytes,
        passed.n_messages,
    )
    if os.environ.get("RANK", "0") != "0":
        return
    n_steps = -(-len(split.y) // clf.net_.batch_size)
    last = clf.history_[-1]["dur"]
    found = {
        "seconds": seconds,
        "epochs": [row["dur"] for row in clf.history_],
        "steps_per_second": n_steps / last if len(clf.history_) > 1 else None,
        "n_bytes": n_bytes,
        "n_messages": n_messages,
        "n_steps": n_steps * (clf.n_iter_ if len(clf.history_) > 1 else 0),
        "losses": [row["train_loss"] for row in clf.history_],
        "proba": clf.predict_proba(split.X_test).astype(float).tolist(),
    }
    out.write_text(json.dumps(found))


def run(case: str, precision: str, n_ranks: int, n_threads: int) -> dict[str, Any]:
    """Run this script as users run theirs; return what it wrote."""
    start = [sys.executable]
    if n_ranks > 1:
        start += ["-m", "torch.distributed.run", "--standalone"]
        start += ["--nproc-per-node", str(n_ranks)]
    surroundings = {**os.environ, "OMP_NUM_THREADS": str(n_threads)}
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "found.json"
        ours = [__file__, "--fit", case, "--precision", precision, "--out", str(out)]
        subprocess.run([*start, *ours], env=surroundings, check=True)
        return dict(json.loads(out.read_text()))


def compare(found: dict[str, Any], alone: dict[str, Any]) -> dict[str, float]:
    """Return how far two fits are from each other."""
    return {
        f"{name}_differ": float(np.abs(np.subtract(found[name], alone[name])).max())
        for name in ("proba", "losses")
    }


def add_round(record: Record, key: dict[str, Any]) -> None:
    """Fit one case in every way, and record it once all are done."""
    every = {way: run(key["case"], key["precision"], *how) for way, *how in WAYS}
    alone = every[WAYS[0][0]]
    for way, found in every.items():
        told = {name: value for name, value in found.items() if name != "proba"}
        record.add(**key, way=way, **told, **compare(found, alone))


def report(record: Record) -> None:
    """Print a table of medians."""
    for case in CASES:
        for precision in ("float32", "bfloat16"):
            rows = record.find(case=case, precision=precision)
            for way, _, _ in WAYS:
                some = [row for row in rows if row["way"] == way]
                if not some:
                    continue
                base = {r["round"]: r for r in rows if r["way"] == "one thread"}
                times = [base[r["round"]]["seconds"] / r["seconds"] for r in some]
                epochs = [
                    base[r["round"]]["epochs"][-1] / r["epochs"][-1] for r in some
                ]
                print(
                    f"{case:<11} {precision:<9} {way:<12}",
                    f"fit {spread([r['seconds'] for r in some], '.1f')} s,",
                    f"{spread(times, '.2f')} times as fast,",
                    f"last epoch {spread(epochs, '.2f')} times;",
                    f"proba within {max(r['proba_differ'] for r in some):.1e},",
                    f"losses {max(r['losses_differ'] for r in some):.1e};",
                    f"{some[-1]['n_bytes']:,} bytes in {some[-1]['n_messages']:,}",
                    f"messages, {some[-1]['n_steps']} steps",
                )


def main() -> None:
    """Measure what the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["float32", "bfloat16"])
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--fit", help=argparse.SUPPRESS)
    parser.add_argument("--precision", help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.fit:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        fit(args.fit, args.precision, args.out)
        return
    record = Record("ranks")
    for round_ in range(args.rounds):
        for precision in args.precisions:
            for case in args.cases:
                key = {"case": case, "precision": precision, "round": round_}
                if not record.find(**key):
                    add_round(record, key)
    report(record)


if __name__ == "__main__":
    main()
