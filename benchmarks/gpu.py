"""Everything that is measured on a GPU, in slices of at most three minutes.

    python benchmarks/gpu_pack.py --data FOLDER --airbench FILE
    SKTRANSFER_DATA=FOLDER python benchmarks/gpu.py --airbench FILE --minutes 9
    SKTRANSFER_DATA=FOLDER python benchmarks/gpu.py --airbench FILE --rehearse
    python benchmarks/gpu.py --table

A GPU may be at hand for minutes only. So the most valuable slices come first, the row
of each is written to ``gpu.json`` the moment it ends, slices whose row exists are not
run again, and nothing runs beyond ``--minutes``. All slices run in one other process,
with the images in memory. If a slice fails, its error is its row, and the rest goes on
in a new process; the next command tries it again. ``--rehearse`` runs every slice on a
few images, on a CPU too, in minutes, and begins a new ``work/gpu.json``.
``--list`` shows what is done and what is not, ``--table`` prints Markdown; with
``--rehearse``, of the rehearsal. ``gpu_pack.py`` collects what a machine
without a network needs, and prints the command.

FOLDER holds ``cifar10`` and, for pretraining, ``tinyimagenet32`` with 200 classes of
ImageNet at 32 pixels, as ``train/<class>/*`` and ``val/<class>/*``; without the latter,
those slices are left out. FILE is ``legacy/airbench94.py`` of a clone
(``airbench.py``); without it, that peer is left out. fastai is compared if it is
installed. The groups, in this order:

- headline: EfficientNet-Lite0 with ImageNet weights, fine-tuned on CIFAR-10 for 5
  epochs;
- scratch: `ScratchCNNClassifier` and airbench94, alternately, ten seeds; a profile if
  ours takes more than 1.5 times as long;
- time alone: ResNet-50 with random weights, fine-tuned like the headline;
- peers: fine-tuning against a bare torch loop, skorch and fastai;
- rates: images per second, as a share of what matrix products reach;
- scratch alone: the same compiled, and at 18 epochs;
- small pretrained: a wider and longer trained bundled backbone beside the present one,
  with its weights beside ``gpu.json``;
- large pretrained: a ResNet-50, pretrained and transferred;
- ablation: batch norm, image size, schedule and dropout, one at a time, scored on
  training images that are set aside.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import shutil
import signal
import sys
import time
import traceback
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import gpu_ablation
import gpu_headline
import gpu_peers
import gpu_pretraining
import gpu_scratch
import torch
from gpu_slices import FULL, HAS_GPU, REHEARSAL, Data, Slice, find_tiny
from record import RESULTS, WORK, Record, Shown, tabulate

CARD = torch.cuda.get_device_name() if HAS_GPU else "none"
LONGEST = 180
GROUPS = (
    *("headline", "scratch", "time alone", "peers", "rates", "scratch alone"),
    *("small pretrained", "large pretrained", "ablation"),
)
# Nothing worth starting ends in so few seconds.
SHORTEST = 15
SHOWN = {
    "accuracy": Shown("Accuracy, %", 100, ".2f"),
    "seconds": Shown("Fit and predict, s", 1, ".1f"),
    "fit_seconds": Shown("Fit, s", 1, ".1f"),
    "ours_accuracy": Shown("Accuracy of ours, %", 100, ".2f"),
    "airbench94_accuracy": Shown("Accuracy of airbench94, %", 100, ".2f"),
    "ours_seconds": Shown("Fit and predict, ours, s", 1, ".2f"),
    "airbench94_seconds": Shown("Fit and predict, airbench94, s", 1, ".2f"),
    "ours_over_airbench94": Shown("Seconds, ours over airbench94", 1, ".2f"),
    **{
        f"ours_over_{who}_{what}": Shown(f"{what}, ours over {who}", 1, ".2f")
        for what in ("fit", "epoch")
        for who in ("bare", "skorch", "fastai")
    },
    **{
        f"{what}_images_per_second": Shown(f"{what}, images per second", 1, ",.0f")
        for what in ("encode", "fit", "predict")
    },
    **{
        f"{what}_share_of_ceiling": Shown(
            f"{what}, share of the ceiling, %", 100, ".1f"
        )
        for what in ("encode", "fit", "predict")
    },
    "val_top1": Shown("Top-1 of the 200 classes, %", 100, ".1f"),
    "transfer_seconds": Shown("Fit on CIFAR-10, s", 1, ".1f"),
    "new_probe_accuracy": Shown("Linear probe, new, %", 100, ".1f"),
    "present_probe_accuracy": Shown("Linear probe, bundled, %", 100, ".1f"),
    "peak_memory_bytes": Shown("Peak memory, GB", 1e-9, ".1f"),
}


def list_slices(args: argparse.Namespace) -> list[Slice]:
    """List all slices, the most valuable first."""
    plan = REHEARSAL if args.rehearse else FULL
    headline = gpu_headline.list_slices(plan)
    scratch = gpu_scratch.list_slices(plan, args.airbench)
    slices = [
        *(s for s in headline if s.group == "headline"),
        *(s for s in scratch if s.group == "scratch"),
        *(s for s in headline if s.group == "time alone"),
        *gpu_peers.list_slices(plan),
        *(s for s in headline if s.group == "rates"),
        *(s for s in scratch if s.group == "scratch alone"),
        *(gpu_pretraining.list_slices(plan) if find_tiny().is_dir() else []),
        *gpu_ablation.list_slices(plan),
    ]
    return [s for s in slices if not args.only or s.group in args.only]


def work(connection: Any, args: argparse.Namespace, kept: Path) -> None:
    """Run in another process the slices whose numbers arrive; send their results."""
    data = Data(REHEARSAL if args.rehearse else FULL, args.out, kept)
    slices = list_slices(args)
    _ = data.train, data.test  # before any clock starts
    connection.send(True)
    while True:
        slice_ = slices[connection.recv()]
        if HAS_GPU:
            # Memory that earlier slices hold would lower the limits of the caches.
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        started = time.perf_counter()
        try:
            result = slice_.run(data, **slice_.key)
        except Exception as error:
            result = {"error": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        result["slice_seconds"] = round(time.perf_counter() - started, 1)
        if HAS_GPU:
            result["peak_memory_bytes"] = torch.cuda.max_memory_allocated()
        connection.send(result)


class Worker:
    """The other process. After an error it is not to be trusted, and a new one starts.

    Parameters
    ----------
    args : Namespace
        The command line.

    kept : Path
        Folder for what one such process leaves to the next.
    """

    def __init__(self, args: argparse.Namespace, kept: Path) -> None:
        self._context = multiprocessing.get_context("spawn")
        self._given = args, kept
        self._process: Any = None

    def run(self, number: int, left: float) -> dict[str, Any] | None:
        """Run a slice; None if it would take more seconds than are left."""
        ends = time.monotonic() + left
        if self._process is None:
            self._start()
            is_ready = self._hear(left)
            if is_ready is not True:
                return is_ready
        self._connection.send(number)
        left = ends - time.monotonic()
        result = self._hear(min(left, LONGEST))
        if result is None and left > LONGEST:
            result = {"error": f"took more than {LONGEST} s"}
        if result is None or "error" in result:
            self.close()
        return result

    def close(self) -> None:
        """End the process, whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None

    def _start(self) -> None:
        self._connection, other = self._context.Pipe()
        given = (other, *self._given)
        self._process = self._context.Process(target=work, args=given)
        self._process.start()
        other.close()  # so that its end is noticed

    def _hear(self, seconds: float) -> Any:
        """Return what the process sends, or how it ended; None if it takes longer."""
        try:
            if self._connection.poll(max(0.0, seconds)):
                return self._connection.recv()
        except (EOFError, ConnectionError):
            self._process.join()
            code, self._process = self._process.exitcode, None
            return {"error": f"the process ended with {code}"}
        self.close()
        return None


def run(record: Record, slices: list[Slice], args: argparse.Namespace) -> bool:
    """Run what the record lacks while there is time; return whether nothing is left."""
    ends = time.monotonic() + 60 * args.minutes
    with TemporaryDirectory() as kept, closing(Worker(args, Path(kept))) as worker:
        for number, slice_ in enumerate(slices):
            key, left = make_key(slice_), ends - time.monotonic()
            if find_state(record, key) == "done":
                continue
            if left < SHORTEST:
                print("no time left", flush=True)
                break
            print(f"begins: {key}", flush=True)
            result = worker.run(number, left)
            if result is None:
                print("out of time", flush=True)
                break
            record.add(**key, **result)
    states = [find_state(record, make_key(slice_)) for slice_ in slices]
    print(f"{states.count('done')} of {len(slices)} slices are done")
    return states.count("done") == len(slices)


def make_key(slice_: Slice) -> dict[str, Any]:
    """Return what marks the row of a slice on this card."""
    return {"group": slice_.group, **slice_.key, "card": CARD}


def find_state(record: Record, key: dict[str, Any]) -> str:
    """Return whether a slice is done, failed, or neither."""
    rows = record.find(**key)
    if any("error" not in row for row in rows):
        return "done"
    return "failed" if rows else "to do"


def describe(row: dict[str, Any]) -> str:
    """Return the title of a row: what its slice was given."""
    names = (
        *("backbone", "size", "depth", "head_init"),
        *("width", "augment", "model", "change"),
    )
    return ", ".join(f"{name} {row[name]}" for name in names if name in row) or "pairs"


def table(rows: list[dict[str, Any]]) -> str:
    """Return Markdown tables for each group and card."""
    texts = []
    rows = [row for row in rows if "error" not in row]
    for group in dict.fromkeys(row["group"] for row in rows):
        found = [
            {**row, "title": describe(row)} for row in rows if row["group"] == group
        ]
        down = {row["title"]: {"title": row["title"]} for row in found}
        across = {row["card"]: {"card": row["card"]} for row in found}
        texts.append(f"## {group}\n\n{tabulate(found, down, across, SHOWN)}")
    return "\n\n".join(texts)


def parse() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--airbench", type=Path, help="airbench94.py of a clone")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="nothing runs for longer"
    )
    parser.add_argument(
        "--only", nargs="+", choices=GROUPS, help="in quotes, if of two words"
    )
    parser.add_argument(
        "--out",
        type=Path,
        default=RESULTS,
        help="folder of gpu.json; what results/ has is copied there",
    )
    parser.add_argument("--rehearse", action="store_true", help="few images, to work/")
    parser.add_argument("--list", action="store_true", help="run nothing")
    parser.add_argument("--table", action="store_true", help="run nothing")
    args = parser.parse_args()
    if not (HAS_GPU or args.rehearse or args.table or args.list):
        parser.error("torch finds no GPU here; pass --rehearse for a trial on the CPU.")
    data = Path(os.environ.get("SKTRANSFER_DATA", ""))
    if not args.table and not (data / "cifar10" / "train").is_dir():
        parser.error("set SKTRANSFER_DATA to a folder that holds cifar10/train.")
    if args.airbench and not args.airbench.is_file():
        parser.error(f"{args.airbench} is not a file.")
    args.out = WORK if args.rehearse else args.out.resolve()
    if args.airbench:
        args.airbench = args.airbench.resolve()  # it changes the working directory
    return args


def find_gaps(args: argparse.Namespace) -> list[str]:
    """List what is left out, and why."""
    tiny = find_tiny()
    return [
        *(["scratch: no --airbench"] if not args.airbench else []),
        *(["fastai: not installed"] if not find_spec("fastai") else []),
        *([f"pretraining: no {tiny}"] if not tiny.is_dir() else []),
    ]


def main() -> None:
    """Run what the record lacks."""
    args = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the other process
    if args.rehearse and not (args.table or args.list):
        # What is there is not run again, and would not be rehearsed.
        (WORK / "gpu.json").unlink(missing_ok=True)
    earlier = RESULTS / "gpu.json"
    if not args.rehearse and earlier.exists() and not (args.out / "gpu.json").exists():
        # What an earlier command finished is not run again.
        args.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(earlier, args.out)
    record = Record("gpu", args.out)
    if args.table:
        print(table([r for r in record.rows if r["group"] in (args.only or GROUPS)]))
        return
    slices = list_slices(args)
    for gap in find_gaps(args):
        print(f"left out: {gap}")
    if args.list:
        for slice_ in slices:
            key = make_key(slice_)
            print(f"{find_state(record, key):6} {key}")
        return
    if not slices:
        sys.exit("nothing to run")
    sys.exit(0 if run(record, slices, args) else 1)


if __name__ == "__main__":
    main()
