"""Faults that are injected, and what this library and its peers make of them.

    python benchmarks/faults.py --fastai FOLDER
    python benchmarks/faults.py --only "flipped bit" "hostile file"
    python benchmarks/faults.py --table

The question: what is left, and what is told, after a kill, a full disk, a damaged or
hostile file, a loss that is not a number, Ctrl-C, short memory, and so on. Columns:

- sktransfer: ``save`` and ``load``, ``checkpoint=``, ``activation_cache=``;
- skorch: ``save_params`` and ``load_params``, ``Checkpoint`` with ``LoadInitState``;
- joblib and pickle: a fitted skorch net as they dump it, and ``joblib.Memory``;
- fastai: ``Learner.export`` and ``load_learner``, ``SaveModelCallback``; left out
  unless it is installed, or ``--fastai`` names a folder that holds it
  (``pip install --target FOLDER --no-deps fastai ...``).

Run it with ``OMP_NUM_THREADS=1``, since processes are forked: each fault has one of its
own, with limits of time and memory. There are 60 pictures of 16 x 16 pixels, and models
that are saved while something happens are ResNet-18s, of 45 MB. A full disk is a limit
on the size of files (``RLIMIT_FSIZE``). Kills are SIGKILL: they show what a process
leaves, not what a power cut leaves. ``outcome`` says in words what was seen; the other
values of a row hold the counts and texts behind it. Linux only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from record import RESULTS, WORK, Record

MODULES = ("faults_files", "faults_training", "faults_running")
LIBRARIES = ("sktransfer", "skorch", "joblib", "pickle", "fastai")
Cell = tuple[str, str]
SECONDS, MEMORY = 1200, 16 * 2**30


def list_faults() -> dict[str, Any]:
    """List the injections by name."""
    faults: dict[str, Any] = {}
    for module in MODULES:
        faults |= importlib.import_module(module).FAULTS
    return faults


def inject_here(fault: str, library: str, folder: Path) -> dict[str, Any]:
    """Inject one fault into one library, in this process."""
    from faults_libraries import LIBRARIES as KNOWN

    os.setsid()  # to be killed with its children
    # In the background, a shell has Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    inject = list_faults()[fault]
    if library in getattr(inject, "without", ()):
        return {"outcome": "not offered"}
    (folder / "own").mkdir()
    row = inject(KNOWN[library], folder / "own")
    # A folder of this machine tells nobody anything.
    text = json.dumps(row).replace(str(folder / "own"), "FOLDER")
    return json.loads(text)  # type: ignore[no-any-return]


def start(cell: Cell, folder: Path) -> int:
    """Inject in a child, which has its imports from this process; return its number."""
    pid = os.fork()
    if pid:
        return pid
    try:
        row = inject_here(*cell, folder)
        (folder / "row.json").write_text(json.dumps(row))
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(0)


def run_all(cells: list[Cell], n_jobs: int) -> Iterator[tuple[Cell, dict[str, Any]]]:
    """Inject some faults at a time, each in its own process; yield what was seen."""
    import torch

    torch.set_num_threads(1)  # children are forked
    list_faults()
    waiting = list(cells)
    running: dict[int, tuple[Cell, Path, float]] = {}
    while waiting or running:
        while waiting and len(running) < n_jobs:
            folder = Path(tempfile.mkdtemp(dir=WORK))
            cell = waiting.pop(0)
            running[start(cell, folder)] = cell, folder, time.monotonic()
        time.sleep(0.1)
        for pid, (cell, folder, started) in list(running.items()):
            is_late = time.monotonic() - started > SECONDS
            if is_late:
                os.killpg(pid, signal.SIGKILL)
            if is_late or os.waitpid(pid, os.WNOHANG)[0]:
                del running[pid]
                yield cell, read_row(folder, is_late)


def read_row(folder: Path, is_late: bool) -> dict[str, Any]:
    """Read what a child has written, and delete its folder."""
    path = folder / "row.json"
    row = json.loads(path.read_text()) if path.exists() else {}
    shutil.rmtree(folder, ignore_errors=True)
    return {"outcome": f"hangs, {SECONDS} s"} if is_late else row


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of outcomes."""
    names = [n for n in LIBRARIES if any(row["library"] == n for row in rows)]
    lines = [f"| fault | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for fault in list_faults():
        cells = {r["library"]: r["outcome"] for r in rows if r["fault"] == fault}
        lines.append(f"| {fault} | {' | '.join(cells.get(n, '') for n in names)} |")
    return "\n".join(lines)


def main() -> None:
    """Inject what has no row yet, or show the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", nargs="+", help="faults, by name")
    parser.add_argument("--library", nargs="+", default=LIBRARIES)
    parser.add_argument("--fastai", help="a folder that holds fastai")
    parser.add_argument("--jobs", type=int, default=1, help="injections at a time")
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--rehearse", action="store_true", help="write into work/")
    options = parser.parse_args()
    if options.fastai:
        before = os.environ.get("PYTHONPATH", "")  # for processes that children start
        os.environ["PYTHONPATH"] = f"{before}:{options.fastai}".lstrip(":")
        sys.path.append(options.fastai)
        sys.argv[sys.argv.index(options.fastai)] = "FOLDER"  # what the record says
    WORK.mkdir(exist_ok=True)
    record = Record("faults", WORK if options.rehearse else RESULTS)
    if options.table:
        print(tabulate(record.rows))
        return
    libraries = list(options.library)
    if find_spec("fastai") is None and "fastai" in libraries:
        print("left out: fastai, which is not installed; --fastai names a folder")
        libraries.remove("fastai")
    faults = options.only or list_faults()
    cells = [(fault, library) for library in libraries for fault in faults]
    missing = [c for c in cells if not record.find(fault=c[0], library=c[1])]
    for (fault, library), row in run_all(missing, options.jobs):
        if row:
            record.add(fault=fault, library=library, **row)
        else:
            print(f"the injection failed: {fault}, {library}", file=sys.stderr)


if __name__ == "__main__":
    main()
