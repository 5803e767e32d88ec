"""Results of a benchmark as JSON: one row per run, with where and how it was run.

Also how they are shown: medians with their spread, and tables of them in Markdown.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import sklearn
import torch
import torchvision

from sktransfer._networks.backbones.resnet import BUNDLED_FOLDER

HERE = Path(__file__).parent
RESULTS = HERE / "results"
# Not kept in git: weights for the next experiment, and rehearsals.
WORK = HERE / "work"

# Packages whose version matters where they are installed.
OTHERS = ("skorch", "timm", "fastai")


def commit() -> str:
    """Return the current commit, marked if the code has uncommitted changes."""

    def git(*arguments: str) -> str:
        try:
            done = subprocess.run(
                ["git", "-C", str(HERE.parent), *arguments],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError:
            return "unknown"
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--", "sktransfer", "benchmarks/*.py")
    return git("rev-parse", "HEAD") + (" and changes" if changed else "")


def cpu() -> str:
    """Return the model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def gpu() -> dict[str, Any]:
    """Return the name and CUDA version of the GPU, if there is one."""
    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}


def environment() -> dict[str, Any]:
    """Return command, commit, versions and hardware of this run."""
    return {
        "command": " ".join(["python", *sys.argv]),
        "commit": commit(),
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": torch.backends.cpu.get_cpu_capability(),
        **gpu(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "sklearn": sklearn.__version__,
        **{name: version(name) for name in OTHERS if find_spec(name)},
    }


def bundled_weights() -> str:
    """Return the start of the SHA-256 of the bundled weights, to mark their rows."""
    file = BUNDLED_FOLDER / "mini_resnet18.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


class Record:
    """The rows of one benchmark, written one at a time so that a run can resume."""

    def __init__(self, name: str, folder: Path = RESULTS) -> None:
        self.path = folder / f"{name}.json"
        content: dict[str, Any] = {"environments": [], "rows": []}
        if self.path.exists():
            content = json.loads(self.path.read_text())
        self.environments, self.rows = content["environments"], content["rows"]
        self.here = environment()  # now, before the code on disk can change

    def find(self, **key: Any) -> list[dict[str, Any]]:
        """Return the rows that have these values."""
        return [row for row in self.rows if key.items() <= row.items()]

    def cpu_of(self, row: dict[str, Any]) -> str:
        """Return the processor that a row was run on."""
        return str(self.environments[row["environment"]]["cpu"])

    def add(self, **row: Any) -> None:
        """Add a row and write the file, which is complete at any moment."""
        if self.here not in self.environments:
            self.environments.append(self.here)
        self.rows.append({**row, "environment": self.environments.index(self.here)})
        print(row, flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"environments": self.environments, "rows": self.rows}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(new, self.path)


def time_in_turn(
    calls: dict[str, Callable[[], object]],
    n_rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:
    """Return the seconds of every call in every round; all calls are made in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for round_ in range(n_rounds + 1):
        for name, call in calls.items():
            started = clock()
            call()
            if round_:  # the first round compiles kernels
                seconds[name].append(clock() - started)
    return seconds


def spread(values: list[float], form: str) -> str:
    """Format the median, with minimum and maximum in brackets."""
    if len(values) == 1:
        return format(values[0], form)
    low, middle, high = (
        format(v, form) for v in (min(values), np.median(values), max(values))
    )
    return f"{middle} ({low} to {high})"


class Shown(NamedTuple):
    """How a value of the rows is shown: its unit, a factor, and its form."""

    unit: str
    factor: float
    form: str


# What is measured of a classifier on images that it has not seen.
SCORES = {
    "accuracy": Shown("Accuracy, %", 100, ".1f"),
    "log_loss": Shown("Log loss", 1, ".3f"),
    "calibration_error": Shown("Calibration error, points", 100, ".1f"),
}


def tabulate(
    rows: list[dict[str, Any]],
    down: dict[str, dict[str, Any]],
    across: dict[str, dict[str, Any]],
    shown: dict[str, Shown],
) -> str:
    """Return a Markdown table for each value: median, minimum and maximum of rows.

    `down` and `across` hold what the rows of a line or a column have in common, by its
    title; empty ones are left out. `shown` holds the values by their key; not every row
    has all of them, and a value that none has gets no table.
    """

    def find(*keys: dict[str, Any]) -> list[dict[str, Any]]:
        return [row for row in rows if all(key.items() <= row.items() for key in keys)]

    used = [key for key in down.values() if find(key)]
    across = {t: key for t, key in across.items() if any(find(key, k) for k in used)}
    if not across:
        return ""
    lines = []
    for name, (unit, factor, form) in shown.items():
        if not any(name in row for key in used for row in find(key)):
            continue
        lines += [f"| {' | '.join([unit, *across])} |"]
        lines += [f"|---|{'---:|' * len(across)}"]
        for title, key in down.items():
            cells = [find(key, other) for other in across.values()]
            values = [
                [factor * row[name] for row in cell if name in row] for cell in cells
            ]
            if any(values):
                texts = [spread(some, form) if some else "" for some in values]
                lines.append(f"| {' | '.join([title, *texts])} |")
        lines.append("")
    return "\n".join(lines).rstrip()
