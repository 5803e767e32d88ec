"""What damaged weight files cost: seconds and memory of the worst, and how all end.

    python benchmarks/fuzz_weights.py

A row of ``mutants`` reads 5,000 files of a few kilobytes in a process of its own: small
state dicts as .safetensors and in both formats of ``torch.save``, with one to three
damages each, as ``tests/networks/weights/mutants.py`` makes them. The other rows are
single files that were made to cost as much as the limits allow. Recorded: how many were
refused, the slowest one, and by how much the peak of the resident set rose (Linux). An
error that is not one of ours ends the program.
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from giants import peak_mib
from record import Record, Shown, tabulate

sys.path.insert(0, str(Path(__file__).parents[1]))

from sktransfer._files.headers import MOST_HEADER_BYTES
from sktransfer._networks.weights.checkpoints import read_state
from sktransfer._networks.weights.formats.pickles import MOST_STEPS
from tests.networks.weights.mutants import make_mutants, make_seeds, repack

N_SEEDS, N_MUTANTS = 10, 5_000

# Pickles of as many dicts, marks and tuples as are allowed.
PROGRAMS = {
    "dicts": b"\x80\x02](" + b"}" * (MOST_STEPS - 9) + b"e.",
    "marks": b"\x80\x02" + b"(" * (MOST_STEPS - 9) + b".",
    "tuples": b"\x80\x02)" + b"\x85" * (MOST_STEPS - 9) + b".",
}
SHOWN = {
    "refused": Shown("Refused", 1, ",.0f"),
    "slowest": Shown("Slowest, ms", 1000, ",.0f"),
    "more_mib": Shown("More memory, MiB", 1, ",.0f"),
}


def make_files(kind: str, seed: int) -> Iterable[tuple[str, bytes]]:
    """Make the files of a row, as endings and contents."""
    if kind == "mutants":
        return make_mutants(N_MUTANTS, seed)
    if kind == "lists":
        header = b'{"a":[' + b"[]," * (MOST_HEADER_BYTES // 3 - 9) + b"[]]}"
        return [(".safetensors", len(header).to_bytes(8, "little") + header)]
    whole = next(content for _, content in make_seeds() if content.startswith(b"PK"))
    return [(".pth", repack(whole, lambda _: PROGRAMS[kind]))]


def read_files(kind: str, seed: int) -> dict[str, Any]:
    """Read the files of a row; return how they end, and what the worst costs."""
    slowest, n_refused = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        read_or_refuse(Path(folder), *make_seeds()[0])
        before = peak_mib()
        for ending, content in make_files(kind, seed):
            started = time.perf_counter()
            n_refused += read_or_refuse(Path(folder), ending, content)
            slowest = max(slowest, time.perf_counter() - started)
    return {
        "refused": n_refused,
        "slowest": slowest,
        "more_mib": round(peak_mib() - before, 1),
    }


def read_or_refuse(folder: Path, ending: str, content: bytes) -> bool:
    """Read a file; return whether it was refused, with an error of ours."""
    path = folder / f"weights{ending}"
    path.write_bytes(content)
    try:
        read_state(path)
    except (OSError, ValueError) as error:
        if not str(error).startswith(f"weights={str(path)!r}"):
            raise
        return True
    return False


def main() -> None:
    """Measure every row that the record does not have, and show all."""
    record = Record("fuzz_weights")
    spawn = multiprocessing.get_context("spawn")
    kinds = {"mutants": N_SEEDS, "lists": 1} | dict.fromkeys(PROGRAMS, 1)
    for kind, n_seeds in kinds.items():
        for seed in range(n_seeds):
            if not record.find(kind=kind, seed=seed):
                with spawn.Pool(1) as pool:
                    row = pool.apply(read_files, (kind, seed))
                record.add(kind=kind, seed=seed, **row)
    down = {kind: {"kind": kind} for kind in kinds}
    print(tabulate(record.rows, down, {"": {}}, SHOWN))


if __name__ == "__main__":
    main()
