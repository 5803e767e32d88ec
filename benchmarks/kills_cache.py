"""Fifty kills while activations are written: what is left, and what a fit reuses.

    python benchmarks/kills_cache.py

Two processes at a time keep the activations of the same images in one folder, and are
killed (SIGKILL) at random moments. Then every row in the folder is read back, a fit on
all images is compared with one without a cache, and temporary files are swept away.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import torch
from record import HERE, Record

sys.path.insert(0, str(HERE.parent))

from tests.activations.killing import (
    N_WRITERS,
    count_left,
    fit_after,
    kill_writers,
    sweep,
)

N_KILLS = 50


def main() -> None:
    """Measure what the record lacks."""
    torch.set_num_threads(1)
    record = Record("kills_cache")
    for seed in range(3):
        if record.find(seed=seed, n_kills=N_KILLS):
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "cache"
            kill_writers(path, N_KILLS, seed)
            left = count_left(path)
            after = fit_after(path, N_KILLS // N_WRITERS)
            record.add(
                seed=seed,
                n_kills=N_KILLS,
                **left,
                **after,
                n_temporary_files_after_sweep=sweep(path),
            )


if __name__ == "__main__":
    main()
