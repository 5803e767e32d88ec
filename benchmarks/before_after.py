"""Whether a change of the package costs time: an earlier revision against this one.

    python benchmarks/before_after.py 5b165c4

In turn, each in its own process: the seconds that ``import sktransfer`` adds to
``import sklearn``, and the fit of a head on activations that the cache has, over a bare
loop of torch (the first case of ``overhead.py``). The earlier revision is checked out
into a temporary folder. Medians, with minimum and maximum in brackets.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from record import HERE, Record, spread

N_IMPORTS, N_FITS = 15, 3
IMPORT = """
import time, sklearn
started = time.perf_counter()
import sktransfer
print(time.perf_counter() - started)
"""
FIT = """
import sys
sys.path.insert(0, "benchmarks")
import overhead
overhead.N_ROUNDS = 5
class Printed:
    def add(self, **row):
        print(row["fit_ratio"].split()[0])
overhead.measure_training(Printed(), 0, "mini_resnet18", 10_000, "auto")
"""


def run(program: str, folder: Path) -> float:
    """Run a program with the package of a checkout; return the number it prints."""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout.split()[-1])


def main(revision: str) -> None:
    """Measure both, and add one row for each."""
    record = Record("before_after")
    here = HERE.parent
    git = ["git", "-C", str(here)]
    with tempfile.TemporaryDirectory() as name:
        there = Path(name) / "earlier"
        add = [*git, "worktree", "add", "--detach", str(there), revision]
        subprocess.run(add, check=True)
        try:
            folders = (there, here)
            imports = [[run(IMPORT, f) for f in folders] for _ in range(N_IMPORTS)]
            fits = [[run(FIT, f) for f in folders] for _ in range(N_FITS)]
        finally:
            remove = [*git, "worktree", "remove", "--force", str(there)]
            subprocess.run(remove, check=True)
    for i, which in enumerate((revision, record.here["commit"])):
        record.add(
            revision=which,
            import_seconds=spread([pair[i] for pair in imports], ".3f"),
            head_fit_ratio=spread([pair[i] for pair in fits], ".2f"),
        )


if __name__ == "__main__":
    main(sys.argv[1])
