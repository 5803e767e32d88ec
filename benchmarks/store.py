"""Activations on disk: rows written and gathered per second, and their size.

    python benchmarks/store.py

Rows of 4, 100 and 800 KB (half-precision activations of photographs, after late and
early stages) are written as the cache writes them, by one process and by two at once,
and gathered in random batches of 64 with their checksums verified. The files are in the
system's temporary folder and stay in the page cache, so the results measure our code
rather than a disk.
"""

from __future__ import annotations

import multiprocessing
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from record import Record, spread

from sktransfer._activations.storage.folder import Folder
from sktransfer._activations.storage.tiers import count_block_rows

N_ROUNDS, GATHERED = 5, 64
N_ROWS = {4: 20_000, 100: 2_000, 800: 250}
SPACE = "0" * 32


def keys_of(numbers: np.ndarray) -> list[bytes]:
    """Return one key per number."""
    return [int(number).to_bytes(16, "little") for number in numbers]


def opened(folder: Path) -> Folder:
    """Open a folder of activations whose limit is out of reach."""
    store = Folder(folder, 2**40, print)
    store.prepare()
    return store


def write(folder: Path, kilobytes: int, first: int, n: int) -> float:
    """Return the seconds to write n rows."""
    store = opened(folder)
    rows = torch.rand(n, kilobytes * 256)
    step = count_block_rows(rows)
    started = time.perf_counter()
    for start in range(0, n, step):
        some = rows[start : start + step]
        store.write(SPACE, keys_of(np.arange(start, start + len(some)) + first), some)
    return time.perf_counter() - started


def gather(folder: Path, n: int) -> float:
    """Return the seconds to read n rows once, in random order."""
    store = opened(folder)
    order = np.random.default_rng(0).permutation(n)
    started = time.perf_counter()
    for start in range(0, n, GATHERED):
        keys = keys_of(order[start : start + GATHERED])
        store.find(SPACE, keys)
        _, found = store.read(SPACE, keys)
        if not found.all():
            raise SystemExit("a row is missing")
    return time.perf_counter() - started


def write_half(arguments: tuple[Path, int, int, int]) -> float:
    """Call `write` in a worker, with one thread."""
    torch.set_num_threads(1)
    return write(*arguments)


def main() -> None:
    """Measure what the record lacks."""
    record = Record("store")
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        for kilobytes, n in N_ROWS.items():
            if record.find(row_kilobytes=kilobytes):
                continue
            written, gathered, together, share = [], [], [], []
            for _ in range(N_ROUNDS):
                folder = Path(tempfile.mkdtemp())
                written.append(n / write(folder, kilobytes, 0, n))
                gathered.append(n / gather(folder, n))
                on_disk = sum(p.stat().st_size for p in folder.rglob("*.safetensors"))
                share.append(on_disk / (n * kilobytes * 1024))
                shutil.rmtree(folder)
                halves = [(folder, kilobytes, i * n, n) for i in range(2)]
                seconds = pool.map(write_half, halves)
                together.append(sum(n / s for s in seconds))
                shutil.rmtree(folder)
            record.add(
                row_kilobytes=kilobytes,
                n_rows=n,
                written_per_second=spread(written, ".0f"),
                written_per_second_by_two=spread(together, ".0f"),
                gathered_per_second=spread(gathered, ".0f"),
                disk_bytes_per_payload_byte=spread(share, ".3f"),
            )


if __name__ == "__main__":
    main()
