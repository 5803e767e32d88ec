"""Results of a benchmark as JSON: one row a run, with where and how it was run."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import sklearn
import torch
import torchvision

import sktransfer._networks.weights as _weights

HERE = Path(__file__).parent
RESULTS = HERE / "results"
# What is not kept: weights for the next experiment, rehearsals.
WORK = HERE / "work"


def commit() -> str:
    """The commit of this copy, marked where the package has uncommitted changes."""

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
    """Model of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":")[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.machine()


def gpu() -> dict[str, Any]:
    """Name and software of the GPU, where there is one."""
    if not torch.cuda.is_available():
        return {}
    return {"gpu": torch.cuda.get_device_name(), "cuda": torch.version.cuda}


def environment() -> dict[str, Any]:
    """Command, commit, versions and hardware of this run."""
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
        **{name: version(name) for name in ("skorch", "fastai") if find_spec(name)},
    }


def bundled_weights() -> str:
    """First digits of the SHA-256 of the bundled weights: other weights, other rows."""
    file = _weights.BUNDLED_FOLDER / "mini_resnet18.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()[:12]


class Record:
    """The rows of one benchmark, written one by one; finished ones are found again."""

    def __init__(self, name: str, folder: Path = RESULTS) -> None:
        self.path = folder / f"{name}.json"
        content: dict[str, Any] = {"environments": [], "rows": []}
        if self.path.exists():
            content = json.loads(self.path.read_text())
        self.environments, self.rows = content["environments"], content["rows"]
        self.here = environment()  # now: the code that runs is that of this moment

    def find(self, **key: Any) -> list[dict[str, Any]]:
        """Return the rows that have these values."""
        return [row for row in self.rows if key.items() <= row.items()]

    def cpu_of(self, row: dict[str, Any]) -> str:
        """The processor that a row was run on."""
        return str(self.environments[row["environment"]]["cpu"])

    def add(self, **row: Any) -> None:
        """Write a row; the file is whole at any moment."""
        if self.here not in self.environments:
            self.environments.append(self.here)
        self.rows.append({**row, "environment": self.environments.index(self.here)})
        print(row, flush=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"environments": self.environments, "rows": self.rows}
        new = self.path.with_suffix(".new")
        new.write_text(json.dumps(content, indent=1) + "\n")
        os.replace(new, self.path)


def spread(values: list[float], form: str) -> str:
    """Median, and least and greatest in brackets."""
    if len(values) == 1:
        return format(values[0], form)
    low, middle, high = (
        format(v, form) for v in (min(values), np.median(values), max(values))
    )
    return f"{middle} ({low} to {high})"
