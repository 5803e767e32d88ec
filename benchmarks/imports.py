"""Seconds that ``import sktransfer`` adds to ``import sklearn``.

    python benchmarks/imports.py

Each round runs in its own process, with the files in the page cache.
"""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from record import Record, spread

N_ROUNDS = 15
PROGRAM = """
import time
started = time.perf_counter()
import sklearn
middle = time.perf_counter()
import sktransfer
print(middle - started, time.perf_counter() - middle)
"""


def main() -> None:
    """Measure, unless the record has it."""
    record = Record("imports")
    if record.rows:
        return
    made = []
    for _ in range(N_ROUNDS):
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        made.append([float(x) for x in done.stdout.split()])
    sklearn_seconds, more_seconds = np.transpose(made).tolist()
    record.add(
        sklearn_seconds=spread(sklearn_seconds, ".3f"),
        more_seconds=spread(more_seconds, ".3f"),
    )


if __name__ == "__main__":
    main()
