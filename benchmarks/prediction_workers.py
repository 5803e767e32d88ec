"""Paths scored by workers that load one saved model: per second, and in what memory.

    SKTRANSFER_DATA=FOLDER python benchmarks/prediction_workers.py
    SKTRANSFER_DATA=FOLDER python benchmarks/prediction_workers.py --n 1000000
    python benchmarks/prediction_workers.py --table

The question: how many files a second one and two workers of joblib (loky) and of Dask
score from one saved model, and whether the memory of a worker, or of the process that
collects the results, grows with their number.

FOLDER holds ``cifar10``, a folder of JPEGs of 32 x 32 pixels, which are listed as often
as n needs. The model is ``mini_resnet18``, trained on 200 of them. The client sends
chunks of 1,000 paths, and writes each result to an array on disk as it comes, in order.
A worker is a process of one thread, which calls ``load(..., reuse=True)`` for every
chunk. "serial" does the same in the client itself, with one thread.

Seconds count from the first chunk to the last and leave out that workers start, import
and load: a chunk for each of them comes before. Memory is the highest that a process
ever had (VmHWM of Linux), in the end. "loads" counts how often a worker built a model.
Each run is a process of its own, and all probabilities of a file must be equal, bit for
bit, in all runs. Two cores cannot show more than two workers.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from joblib import Parallel, delayed, parallel_config
from record import RESULTS, WORK, Record, Shown, tabulate

import sktransfer
from sktransfer._estimators.persistence import loading

AT_A_TIME, N_TRAINED, N_ROUNDS = 1000, 200, 3
CASES = (("serial", 1), ("loky", 1), ("loky", 2), ("dask", 1), ("dask", 2))
NUMBERS = (10_000, 100_000)
SHOWN = {
    "paths_per_second": Shown("Paths per second", 1, ",.0f"),
    "worker_mb": Shown("Peak of a worker, MB", 1, ",.0f"),
    "client_mb": Shown("Peak of the client, MB", 1, ",.0f"),
}


def count_loads() -> int:
    """Count from the first call on how often this process builds a model."""
    # In the package's module: what is defined here is another copy for every task.
    module: Any = loading
    if not hasattr(module, "n_built"):
        module.n_built, build = 0, module._build

        def count(*args: Any) -> Any:
            module.n_built += 1
            return build(*args)

        module._build = count
    return int(module.n_built)


def read_peak() -> float:
    """Return the highest resident memory that this process ever had, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) / 1000
    return float("nan")


def score(model: str, paths: list[str]) -> tuple[np.ndarray, int, float, int]:
    """Score a chunk; also return which worker this is, its peak and its loads."""
    count_loads()
    clf = sktransfer.load(model, params={"activation_cache": None}, reuse=True)
    return clf.predict_proba(paths), os.getpid(), read_peak(), count_loads()


Answers = Iterator[tuple[np.ndarray, int, float, int]]


def make_chunks(paths: list[str], n: int) -> Iterator[list[str]]:
    """Yield n paths in chunks, from the first again when there are no more."""
    endless = itertools.cycle(paths)
    for at in range(0, n, AT_A_TIME):
        yield list(itertools.islice(endless, min(AT_A_TIME, n - at)))


@contextmanager
def engine(name: str, n_workers: int) -> Iterator[Callable[..., Answers]]:
    """Start workers; yield what scores chunks in them, in order."""
    if name == "serial":
        yield lambda model, chunks: (score(model, chunk) for chunk in chunks)
    elif name == "loky":
        with parallel_config("loky", n_jobs=n_workers, inner_max_num_threads=1):
            yield lambda model, chunks: Parallel(
                return_as="generator", batch_size=1, max_nbytes=None
            )(delayed(score)(model, chunk) for chunk in chunks)
    else:
        import dask
        from distributed import Client, LocalCluster

        options = {"n_workers": n_workers, "threads_per_worker": 1}
        trim = "distributed.nanny.pre-spawn-environ.MALLOC_TRIM_THRESHOLD_"
        with (
            dask.config.set({trim: None}),  # as the guide says
            LocalCluster(**options, dashboard_address="127.0.0.1:0") as cluster,
            Client(cluster) as client,
        ):
            yield lambda model, chunks: submit(client, model, chunks, 2 * n_workers)


def submit(client: Any, model: str, chunks: Iterator[list[str]], n: int) -> Answers:
    """Score chunks in Dask's workers; n of them are sent before one is asked for."""
    waiting: deque[Any] = deque()
    for chunk in chunks:
        waiting.append(client.submit(score, model, chunk, pure=False))
        if len(waiting) > n:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def run(name: str, n_workers: int, n: int, model: str) -> None:
    """Score n paths; print how that went."""
    paths = list_files()
    n_classes = len(sktransfer.load(model).classes_)
    peaks: dict[int, float] = {}
    loads: dict[int, int] = {}
    digest = hashlib.sha256()
    with tempfile.TemporaryDirectory() as folder, engine(name, n_workers) as start:
        for _ in start(model, (paths[:AT_A_TIME] for _ in range(2 * n_workers))):
            pass
        out = np.lib.format.open_memmap(
            Path(folder) / "proba.npy", "w+", np.float32, (n, n_classes)
        )
        started, at = time.perf_counter(), 0
        for proba, worker, peak, n_loads in start(model, make_chunks(paths, n)):
            out[at : at + len(proba)] = proba
            at += len(proba)
            peaks[worker], loads[worker] = peak, n_loads
        seconds = time.perf_counter() - started
        digest.update(out[: min(NUMBERS)].tobytes())
    told = {
        "seconds": round(seconds, 2),
        "paths_per_second": round(n / seconds, 1),
        "worker_mb": round(max(peaks.values()), 1),
        "client_mb": round(read_peak(), 1),
        "n_workers_seen": len(peaks),
        "loads": max(loads.values()),
        "digest": digest.hexdigest()[:16],
    }
    print(json.dumps(told))


def list_files() -> list[str]:
    """List the files of the set, in an order of their own."""
    folder = Path(os.environ["SKTRANSFER_DATA"]) / "cifar10" / "train"
    paths = sorted(str(path) for path in folder.rglob("*.*") if path.is_file())
    return [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]


def train(path: Path) -> None:
    """Save a model that was trained on a few of the files."""
    paths = list_files()[:N_TRAINED]
    clf = sktransfer.TransferClassifier(
        "mini_resnet18",
        image_size=32,
        max_epochs=2,
        device="cpu",
        precision="float32",
        random_state=0,
    )
    clf.fit(paths, [Path(p).parent.name for p in paths]).save(path)


def run_apart(name: str, n_workers: int, n: int, model: Path) -> dict[str, Any]:
    """Run a case in a process of its own."""
    command = [sys.executable, __file__, "--run", name, str(n_workers), str(n)]
    done = subprocess.run(
        [*command, str(model)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    if done.returncode:
        sys.exit(f"{name} returned {done.returncode}: {done.stderr[-2000:]}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def main() -> None:
    """Run a case, or all in turn."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--run", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, nargs="*", default=NUMBERS)
    parser.add_argument("--cases", nargs="*", help="such as loky-2")
    parser.add_argument("--rounds", type=int, default=N_ROUNDS)
    parser.add_argument("--rehearse", action="store_true", help="write to work/")
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    if arguments.run:
        name, n_workers, n, path = arguments.run
        run(name, int(n_workers), int(n), path)
        return
    record = Record("prediction_workers", WORK if arguments.rehearse else RESULTS)
    chosen = [c for c in CASES if f"{c[0]}-{c[1]}" in (arguments.cases or [])] or CASES
    if not arguments.table:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "model.sktransfer"
            train(model)
            for n, round_ in itertools.product(arguments.n, range(arguments.rounds)):
                for name, n_workers in chosen:
                    key = {"engine": name, "workers": n_workers, "n": n}
                    if not record.find(**key, round=round_):
                        told = run_apart(name, n_workers, n, model)
                        record.add(**key, round=round_, **told)
    if len({row["digest"] for row in record.rows}) > 1:
        print("NOT EQUAL")
    numbers = sorted({row["n"] for row in record.rows})
    down = {f"{n:,}": {"n": n} for n in numbers}
    across = {f"{e}, {w}": {"engine": e, "workers": w} for e, w in CASES}
    print(tabulate(record.rows, down, across, SHOWN))


if __name__ == "__main__":
    main()
