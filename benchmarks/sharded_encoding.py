"""Images encoded in shards: by two workers of joblib or Dask, or two ranks of torchrun.

    SKTRANSFER_DATA=FOLDER python benchmarks/sharded_encoding.py
    python benchmarks/sharded_encoding.py --table

The question: how much faster two processes of one core each fill a folder of
activations than one process of one core, whether they compute the same rows, and what
is left if a worker is killed.

FOLDER holds ``trash`` and ``cifar10``, folders of JPEGs. The default backbone encodes
photographs of the first in one view (``FeatureExtractor``), ``mini_resnet18`` those of
the second in two views and once more for the probe (``TransferClassifier``), where
reading and writing take most of the time. Contestants:

- "one": one process that may use one core, and computes with one thread;
- "threads": one process with two threads;
- "loky", "dask": ``ActivationCache.warm`` in two worker processes of one thread each;
- "dask, untrimmed": without ``MALLOC_TRIM_THRESHOLD_``, which Dask's nannies set for
  their workers, so that freed memory goes back to the system at once;
- "ranks": a script that calls it, started by ``torchrun`` with two ranks.

Each run is a process of its own with an empty folder. Seconds are of the call alone:
workers were started, and have read the weights, for 64 images of another folder. All
contestants run in turn, several rounds; ratios are of the same round. "killed" kills
one of loky's two workers with SIGKILL when half of the rows are there, and calls again.
Two cores cannot show more than two workers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from joblib import parallel_config
from record import RESULTS, WORK, Record, Shown, tabulate

from sktransfer import ActivationCache, FeatureExtractor, TransferClassifier
from sktransfer._activations.storage.segments import read_rows, read_segment

UNTRIMMED = "dask, untrimmed"
CONTESTANTS = ("one", "threads", "loky", "dask", UNTRIMMED, "ranks")
N_FILES = {"trash": 384, "cifar10": 4000}
N_FIRST, N_ROUNDS = 64, 3
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
SHOWN = {
    "seconds": Shown("Seconds", 1, ".1f"),
    "speedup": Shown("Times as fast as one process of one core", 1, ".2f"),
}


def make_estimator(name: str) -> Any:
    """Return the estimator that encodes a set."""
    options = {"device": "cpu", "precision": "float32", "random_state": 0}
    if name == "trash":
        return FeatureExtractor(**options)
    return TransferClassifier("mini_resnet18", unfreeze_depth=2, **options)


def list_files(name: str, n: int) -> list[str]:
    """List n files of a set, drawn at random."""
    folder = Path(os.environ["SKTRANSFER_DATA"]) / name
    paths = sorted(map(str, folder.rglob("*.jpg"))) or sorted(
        str(path) for path in folder.rglob("*.*") if path.is_file()
    )
    return [paths[i] for i in np.random.default_rng(0).permutation(len(paths))[:n]]


def digest_rows(folder: Path) -> tuple[int, str]:
    """Count the rows in a folder, and hash them with their names; none may be twice."""
    rows = {}
    for file in folder.rglob("*.safetensors"):
        segment = read_segment(file)
        values, _ = read_rows(file, segment, range(len(segment.keys)))
        for key, row in zip(segment.keys, values, strict=True):
            place = file.parent.name.encode() + key
            if place in rows:
                sys.exit(f"a row of {file} was computed twice")
            rows[place] = hashlib.sha256(row.numpy().tobytes()).digest()
    whole = hashlib.sha256(b"".join(k + rows[k] for k in sorted(rows)))
    return len(rows), whole.hexdigest()[:16]


@contextmanager
def engine(contestant: str) -> Iterator[None]:
    """Start what a contestant's workers need."""
    with ExitStack() as stack:
        if contestant == "loky":
            stack.enter_context(parallel_config("loky", n_jobs=2))
        if contestant in ("dask", UNTRIMMED):
            import dask
            from distributed import LocalCluster

            if contestant == UNTRIMMED:
                trim = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
                stack.enter_context(dask.config.set({trim: None}))
            options = {"n_workers": 2, "threads_per_worker": 1}
            cluster = LocalCluster(**options, dashboard_address="127.0.0.1:0")
            stack.enter_context(stack.enter_context(cluster).get_client())
            stack.enter_context(parallel_config("dask"))
        yield


def run(contestant: str, name: str, n: int, folder: Path) -> None:
    """Fill a folder; print what was done."""
    if contestant == "one":
        os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[0]})
    estimator, paths = make_estimator(name), list_files(name, n)
    with engine(contestant):
        first = ActivationCache(path=folder / "first")
        first.warm(estimator, paths[:N_FIRST])
        started = time.perf_counter()
        info = ActivationCache(path=folder / "all").warm(estimator, paths)
        seconds = time.perf_counter() - started
    if os.environ.get("RANK", "0") == "0":
        print(json.dumps({"seconds": round(seconds, 2), "misses": info.misses}))


def start(contestant: str, name: str, n: int, folder: Path) -> subprocess.Popen[str]:
    """Start a run in a process of its own."""
    n_threads = 2 if contestant == "threads" else 1
    command = [sys.executable, *(TORCHRUN if contestant == "ranks" else []), __file__]
    return subprocess.Popen(
        [*command, "--contestant", contestant, name, str(n), str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": str(n_threads)},
    )


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Return what a run has printed."""
    out, err = process.communicate()
    if process.returncode:
        sys.exit(f"a run returned {process.returncode}: {err[-2000:]}")
    told: dict[str, Any] = json.loads(out.strip().splitlines()[-1])
    return told


def kill_and_restart(name: str, n: int, n_rows: int, folder: Path) -> dict[str, Any]:
    """Kill a worker when half of the rows are there; return what the next call does."""
    process = start("loky", name, n, folder)
    own = psutil.Process(process.pid)
    while count_rows(folder / "all") < n_rows / 2:
        time.sleep(0.05)
    workers = [p for p in own.children(recursive=True) if "LokyProcess" in told_by(p)]
    workers[0].kill()
    _, err = process.communicate()
    if "TerminatedWorkerError" not in err:
        sys.exit(f"the killed worker was not noticed: {err[-2000:]}")
    published = count_rows(folder / "all")
    return {"published": published, **finish(start("loky", name, n, folder))}


def told_by(process: psutil.Process) -> str:
    """Return the command line of a process."""
    return " ".join(process.cmdline())


def count_rows(folder: Path) -> int:
    """Count the rows in a folder."""
    files = list(folder.rglob("*-*.safetensors"))
    return sum(len(read_segment(file).keys) for file in files)


def measure(record: Record, name: str, n: int, n_rounds: int) -> None:
    """Run all contestants on a set, in turn, and kill a worker once."""
    for round_ in range(n_rounds):
        one: float | None = None
        for contestant in CONTESTANTS:
            key = {"set": name, "n": n, "contestant": contestant, "round": round_}
            found = record.find(**key)
            if not found:
                with tempfile.TemporaryDirectory() as folder:
                    told = finish(start(contestant, name, n, Path(folder)))
                    n_rows, digest = digest_rows(Path(folder) / "all")
                speedup = round((one or told["seconds"]) / told["seconds"], 3)
                record.add(**key, **told, rows=n_rows, digest=digest, speedup=speedup)
                found = record.find(**key)
            one = found[0]["seconds"] if contestant == "one" else one
    rows = record.find(set=name, n=n)
    if len({row["digest"] for row in rows}) > 1:
        print(f"NOT EQUAL: {name}")
    key = {"set": name, "n": n, "contestant": "killed", "round": 0}
    if not record.find(**key):
        with tempfile.TemporaryDirectory() as folder:
            told = kill_and_restart(name, n, rows[0]["rows"], Path(folder))
            n_rows, digest = digest_rows(Path(folder) / "all")
        record.add(**key, **told, rows=n_rows, digest=digest)


def main() -> None:
    """Run a contestant, or all in turn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--contestant", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--rehearse", action="store_true", help="few files, to work/")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--sets", nargs="+", default=list(N_FILES), choices=N_FILES)
    arguments = parser.parse_args()
    if arguments.contestant:
        contestant, name, n, folder = arguments.contestant
        run(contestant, name, int(n), Path(folder))
        return
    record = Record("sharded_encoding", WORK if arguments.rehearse else RESULTS)
    if not arguments.table:
        for name in arguments.sets:
            n = N_FILES[name] // (6 if arguments.rehearse else 1)
            measure(record, name, n, arguments.rounds)
    down = {name: {"set": name} for name in N_FILES}
    across = {name: {"contestant": name} for name in CONTESTANTS}
    print(tabulate(record.rows, down, across, SHOWN))


if __name__ == "__main__":
    main()
