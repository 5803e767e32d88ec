"""Damaged files of activations: cases per second, the slowest case and peak memory.

    python benchmarks/fuzz_segments.py [--n 50000]

Whole files of several number formats and shapes are damaged at random, in their bytes
or in what their headers say, and read as the cache reads them. A wrong row, or any
error but that of a damaged file, ends the run. The same damages with another seed, and
fewer, are among the tests. Peak memory is traced in every tenth case, since tracing is
slow. Times are those of the processor, which other programs may share.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from random import Random

from record import HERE, Record

sys.path.insert(0, str(HERE.parent))

from tests.activations.mutants import Known, make_originals, mutate, read_all

TRACED = 10


def trace(path: Path, known: Known) -> int:
    """Return the most memory that reading a file takes, in bytes."""
    tracemalloc.start()
    try:
        read_all(path, known)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def run(
    seed: int, n: int, originals: Sequence[bytes], known: Known
) -> dict[str, float]:
    """Read `n` damaged files; return what it took."""
    rng, n_whole, seconds, peak = Random(seed), 0, [], 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        for case in range(n):
            path.write_bytes(mutate(rng, originals))
            started = time.process_time()
            n_whole += read_all(path, known) > 0
            seconds.append(time.process_time() - started)
            if case % TRACED == 0:
                peak = max(peak, trace(path, known))
    return {
        "n_cases": n,
        "n_with_right_rows": n_whole,
        "n_wrong_rows": 0,
        "cases_per_second": round(n / sum(seconds)),
        "slowest_ms": round(1000 * max(seconds), 1),
        "peak_bytes": peak,
    }


def main() -> None:
    """Measure what the record lacks."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--n", type=int, default=50_000)
    n = parser.parse_args().n
    record = Record("fuzz_segments")
    originals, known = make_originals()
    for seed in (1, 2):
        if not record.find(seed=seed, n_cases=n):
            record.add(seed=seed, **run(seed, n, originals, known))


if __name__ == "__main__":
    main()
