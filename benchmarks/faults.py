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

Each fault runs in a process of its own, with limits of time and memory, on 60 pictures
of 16 x 16 pixels; models that are saved while something happens are ResNet-18s, of
45 MB. A full disk is a limit on the size of files (``RLIMIT_FSIZE``). Kills are
SIGKILL: they show what a process leaves, not what a power cut leaves. ``outcome`` says
in words what was seen; the other values of a row hold the counts and texts behind it.
Linux only.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from record import RESULTS, WORK, Record

MODULES = ("faults_files", "faults_training", "faults_running")
LIBRARIES = ("sktransfer", "skorch", "joblib", "pickle", "fastai")
SECONDS, MEMORY = 1200, 16 * 2**30


def list_faults() -> dict[str, Any]:
    """List the injections by name."""
    faults: dict[str, Any] = {}
    for module in MODULES:
        faults |= importlib.import_module(module).FAULTS
    return faults


def run_here(fault: str, library: str) -> dict[str, Any]:
    """Inject one fault into one library, in this process."""
    import torch
    from faults_libraries import LIBRARIES as KNOWN

    torch.set_num_threads(1)  # children are forked
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    inject = list_faults()[fault]
    if library in getattr(inject, "without", ()):
        return {"outcome": "not offered"}
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        row = inject(KNOWN[library], Path(folder))
    # A folder of this machine tells nobody anything.
    text = json.dumps(row).replace(str(folder), "FOLDER")
    return json.loads(text)  # type: ignore[no-any-return]


def run_apart(fault: str, library: str) -> dict[str, Any] | None:
    """Inject one fault in a process of its own; None if that itself fails."""
    call = [sys.executable, __file__, "--only", fault, "--library", library, "--here"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    try:
        done = subprocess.run(
            call,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {"outcome": f"hangs, {SECONDS} s"}
    if done.returncode:
        print(done.stderr[-3000:], file=sys.stderr)
        return None
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def tabulate(rows: list[dict[str, Any]]) -> str:
    """Return a Markdown table of outcomes."""
    names = [n for n in LIBRARIES if any(row["library"] == n for row in rows)]
    lines = [f"| fault | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for fault in dict.fromkeys(row["fault"] for row in rows):
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
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fastai:
        before = os.environ.get("PYTHONPATH", "")
        os.environ["PYTHONPATH"] = f"{before}:{options.fastai}".lstrip(":")
        sys.path.append(options.fastai)
        sys.argv[sys.argv.index(options.fastai)] = "FOLDER"  # what the record says
    WORK.mkdir(exist_ok=True)
    if options.here:
        print(json.dumps(run_here(options.only[0], options.library[0])))
        return
    record = Record("faults", WORK if options.rehearse else RESULTS)
    if options.table:
        print(tabulate(record.rows))
        return
    libraries = list(options.library)
    if find_spec("fastai") is None and "fastai" in libraries:
        print("left out: fastai, which is not installed; --fastai names a folder")
        libraries.remove("fastai")
    faults = options.only or list_faults()
    cells = [(fault, library) for fault in faults for library in libraries]
    missing = [c for c in cells if not record.find(fault=c[0], library=c[1])]
    with ThreadPoolExecutor(options.jobs) as pool:
        jobs = {pool.submit(run_apart, *cell): cell for cell in missing}
        for job in as_completed(jobs):
            (fault, library), row = jobs[job], job.result()
            if row is None:
                print(f"the injection failed: {fault}, {library}", file=sys.stderr)
            else:
                record.add(fault=fault, library=library, **row)


if __name__ == "__main__":
    main()
