"""Activations on disk: rows a second written and gathered, and what they take.

    python benchmarks/store.py

Rows of 4 KB, 100 KB and 800 KB (half-precision photographs behind late and early
stages), written in files as the cache writes them, then gathered in random batches of
64 with their checksums verified; by one process, and by two at once. The files lie in
the system's temporary folder and stay in the page cache, so these are the figures of
our code rather than of a disk.
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
    """A key for each number."""
    return [int(number).to_bytes(16, "little") for number in numbers]


def opened(folder: Path) -> Folder:
    """A store without a limit that would matter."""
    store = Folder(folder, 2**40, print)
    store.prepare()
    return store


def write(folder: Path, kilobytes: int, first: int, n: int) -> float:
    """Seconds to write n rows."""
    store = opened(folder)
    rows = torch.rand(n, kilobytes * 256)
    step = count_block_rows(rows)
    started = time.perf_counter()
    for start in range(0, n, step):
        some = rows[start : start + step]
        store.write(SPACE, keys_of(np.arange(start, start + len(some)) + first), some)
    return time.perf_counter() - started


def gather(folder: Path, n: int) -> float:
    """Seconds to read n rows once in random order."""
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
    """`write` in a worker, with one thread."""
    torch.set_num_threads(1)
    return write(*arguments)


def main() -> None:
    """Measure what is missing."""
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
