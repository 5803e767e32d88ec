"""What it costs that many processes share a folder of activations, or train together.

    python benchmarks/coordination.py

The unit costs that `simulate_scale.py` needs and no other program measures:

- folder: listing 1,000 to 100,000 files of activations, at first and again, and the
  bytes of memory that a process takes for each row that it knows of;
- leases: locking and unlocking the 512 keys of a block, and trying in vain, while
  another process holds up to 32,768 locks on the same file;
- keys: hashing an image in memory, and looking its key up;
- rows: writing blocks of rows and reading those of other processes, in order;
- paths: the bytes and seconds of each path in a list, and of sending it to a process;
- networks: bytes of a row of activations, parameters and batch norms behind each cut;
- reductions: summing an array over two processes with gloo on this machine;
- workers: 1 to 16 processes that encode one set with the real folder, its files and
  its locks, where the network is replaced by sleeping 1 ms per image;
- ranks: two processes that sleep for their share of every random batch and then sum
  gradients.

Unit costs are seconds of the processor, which other programs on the machine change
little, and no disk is waited for: files are in the page cache. Sums, ranks and workers
are timed by the clock. Sleeping takes no core, so that more workers fit on a machine
than it has cores. The processor time of what is not sleep is recorded beside it, and so
is the load of the machine before: where they exceed the cores, workers wait for cores
that real ones would have.
"""

from __future__ import annotations

import gc
import multiprocessing
import pickle
import shutil
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import coordination_processes as processes
import numpy as np
import psutil
import torch
from record import Record

from sktransfer._activations.keys import hash_images
from sktransfer._activations.storage.folder import Folder
from sktransfer._activations.storage.leases import Leases
from sktransfer._activations.storage.memory import Memory
from sktransfer._activations.storage.segments import read_segment
from sktransfer._activations.storage.tiers import BLOCK_ROWS
from sktransfer._images.containers import list_pictures

N_ROUNDS = 5
SPACE = "0" * 32
# Files, and rows of each: many files of few rows show what a file costs, the last case
# what a row costs.
FOLDERS = ((1_000, 16), (10_000, 16), (100_000, 16), (2_000, BLOCK_ROWS))
LOCKS = (0, 512, 4_096, 16_384, 32_768)
WORKERS = (1, 2, 4, 8, 16)
BATCHES = (128, 512)
# Height and width that each network sees.
SEEN = {"efficientnet_lite0": 288, "resnet50": 224}


def rounds(call: Callable[[], object], n_rounds: int = N_ROUNDS) -> list[float]:
    """Return the seconds of the processor in several calls."""
    seconds = []
    for _ in range(n_rounds):
        started = time.process_time()
        call()
        seconds.append(round(time.process_time() - started, 9))
    return seconds


def in_child(run: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Return what a function returns in a process of its own, whose memory is fresh."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def send() -> None:
        theirs.send(run(*arguments))

    child = context.Process(target=send)
    child.start()
    found: dict[str, Any] = ours.recv()
    child.join()
    return found


def resident() -> int:
    """Return the bytes that this process has in memory."""
    gc.collect()
    size: int = psutil.Process().memory_info().rss
    return size


def opened(path: Path) -> Folder:
    """Open a folder of activations whose limit is out of reach."""
    folder = Folder(path, 2**50, print)
    folder.prepare()
    return folder


def fill(path: Path, n_files: int, n_rows: int) -> dict[str, Any]:
    """Write files of activations of two bytes each."""
    folder, rows = opened(path), torch.zeros((n_rows, 1), dtype=torch.bfloat16)
    keys = np.random.default_rng(0).bytes(16 * n_files * n_rows)
    for i in range(n_files):
        some = keys[16 * n_rows * i : 16 * n_rows * (i + 1)]
        folder.write(SPACE, [some[j : j + 16] for j in range(0, len(some), 16)], rows)
    return {}


def look(path: Path, n_files: int, n_rows: int) -> dict[str, Any]:
    """Measure a process that comes to know all files, and then looks for new ones."""
    folder, before = opened(path), resident()
    absent = [b"absent".ljust(16)]
    first = rounds(lambda: folder.find(SPACE, absent), 1)
    more = resident() - before
    paths = sorted((path / SPACE).iterdir())[:1000]
    known = list(folder._rows[SPACE])[:BLOCK_ROWS]
    return {
        "first_seconds": first,
        "again_seconds": rounds(lambda: folder.find(SPACE, absent)),
        "size_seconds": rounds(folder.n_bytes),
        "read_header_seconds": [
            s / len(paths) for s in rounds(lambda: [read_segment(p) for p in paths])
        ],
        "find_seconds_per_key": [
            s / len(known) for s in rounds(lambda: folder.find(SPACE, known))
        ],
        "memory_bytes": more,
        "n_known": len(folder._rows[SPACE]),
    }


def measure_folders(record: Record) -> None:
    """Measure folders with more and more files."""
    for n_files, n_rows in FOLDERS:
        key = {"what": "folder", "n_files": n_files, "rows_per_file": n_rows}
        if record.find(**key):
            continue
        path = Path(tempfile.mkdtemp())
        # Elsewhere, or the child would inherit memory that is free again.
        in_child(fill, path, n_files, n_rows)
        record.add(**key, **in_child(look, path, n_files, n_rows))
        shutil.rmtree(path)


def draw_keys(seed: int, n: int) -> list[bytes]:
    """Draw keys of 16 bytes."""
    content = np.random.default_rng(seed).bytes(16 * n)
    return [content[i : i + 16] for i in range(0, len(content), 16)]


def hold(path: Path, n: int, pipe: Connection) -> None:
    """Lock keys and hold them until told to end."""
    leases = Leases(path)
    for key in draw_keys(1, n):
        leases.take(key)
    pipe.send(None)
    pipe.recv()


def time_leases(path: Path, n_held: int) -> dict[str, list[float]]:
    """Return the seconds per key of taking, giving back, and asking in vain."""
    leases = Leases(path)
    seconds: dict[str, list[float]] = {"take": [], "give": [], "fail": []}
    held = draw_keys(1, n_held)
    for seed in range(N_ROUNDS):
        keys = draw_keys(seed + 2, BLOCK_ROWS)
        seconds["take"] += rounds(lambda keys=keys: [leases.take(k) for k in keys], 1)
        seconds["give"] += rounds(lambda keys=keys: leases.give_back(keys), 1)
        order = np.random.default_rng(seed).permutation(n_held)[:BLOCK_ROWS]
        taken = [held[i] for i in order.tolist()]
        if taken:
            seconds["fail"] += rounds(lambda t=taken: [leases.take(k) for k in t], 1)
    return {
        f"{what}_seconds_per_key": [s / BLOCK_ROWS for s in some]
        for what, some in seconds.items()
    }


def measure_leases(record: Record) -> None:
    """Measure locks beside more and more locks of another process."""
    context = multiprocessing.get_context("fork")
    for n in LOCKS:
        if record.find(what="leases", n_held=n):
            continue
        path = Path(tempfile.mkdtemp()) / "leases"
        ours, theirs = context.Pipe()
        child = context.Process(target=hold, args=(path, n, theirs))
        child.start()
        ours.recv()
        seconds = time_leases(path, n)
        ours.send(None)
        child.join()
        shutil.rmtree(path.parent)
        record.add(what="leases", n_held=n, **seconds)


def measure_keys(record: Record) -> None:
    """Measure the hashes of small images in memory, and keeping and finding rows."""
    if record.find(what="keys"):
        return
    n = 2**14
    images = processes.draw_images(n)
    memory, rows = (
        Memory(2**40),
        torch.zeros((n, processes.WIDTH), dtype=torch.bfloat16),
    )
    keys = draw_keys(0, n)
    memory.reserve(SPACE, rows, n)
    put = rounds(lambda: memory.put(SPACE, keys, rows), 1)
    found = {
        "hash_seconds_per_image": rounds(lambda: hash_images(images, np.arange(n))),
        "put_seconds_per_row": put,
        "find_in_memory_seconds_per_key": rounds(lambda: memory.find(SPACE, keys)),
    }
    each = {name: [s / n for s in seconds] for name, seconds in found.items()}
    record.add(what="keys", n=n, **each)


def measure_rows(record: Record, n: int = 2**14) -> None:
    """Measure writing and reading rows in blocks, as workers do."""
    if record.find(what="rows"):
        return
    path = Path(tempfile.mkdtemp())
    ours, theirs = opened(path), opened(path)
    keys = draw_keys(0, n)
    blocks = [keys[i : i + BLOCK_ROWS] for i in range(0, n, BLOCK_ROWS)]
    rows = torch.rand((BLOCK_ROWS, processes.WIDTH)).bfloat16()
    wrote = rounds(lambda: [ours.write(SPACE, block, rows) for block in blocks], 1)
    theirs.find(SPACE, keys)
    loaded = rounds(lambda: [theirs.read(SPACE, block) for block in blocks])
    shutil.rmtree(path)
    record.add(
        what="rows",
        n=n,
        row_bytes=2 * processes.WIDTH,
        write_seconds_per_row=[s / n for s in wrote],
        load_seconds_per_row=[s / n for s in loaded],
    )


def weigh_paths(n: int) -> dict[str, Any]:
    """Measure a list of paths."""
    before = resident()
    paths = [f"/data/train/{i // 1000:06d}/{i:09d}.jpg" for i in range(n)]
    more = resident() - before
    content = pickle.dumps(paths)
    checked = rounds(lambda: list_pictures(paths), 3)
    sent = rounds(lambda: pickle.loads(pickle.dumps(paths)), 3)
    return {
        "memory_bytes_per_path": more / n,
        "pickled_bytes_per_path": len(content) / n,
        "check_seconds_per_path": [s / n for s in checked],
        "send_seconds_per_path": [s / n for s in sent],
    }


def measure_paths(record: Record, n: int = 2_000_000) -> None:
    """Measure a list of paths in a process of its own."""
    if not record.find(what="paths"):
        record.add(what="paths", n=n, **in_child(weigh_paths, n))


def measure_networks(record: Record) -> None:
    """Count what a row takes, and what is learned behind it, at every cut."""
    for backbone, side in SEEN.items():
        if record.find(what="network", backbone=backbone):
            continue
        image = np.full((1, side, side, 3), 128, np.uint8)
        stages = processes.build(backbone, side)
        for depth in range(len(stages.names)):
            n_frozen = stages.n_frozen(depth)
            with torch.inference_mode():
                row = (
                    stages.encode(torch.from_numpy(image), n_frozen)
                    if n_frozen
                    else image
                )
            opened_stages = [stages.get_submodule(n) for n in stages.names[n_frozen:]]
            modules = [m for stage in opened_stages for m in stage.modules()]
            record.add(
                what="network",
                backbone=backbone,
                side=side,
                unfreeze_depth=depth,
                row_bytes=2 * row.numel() if n_frozen else image.nbytes,
                n_parameters=sum(
                    p.numel() for stage in opened_stages for p in stage.parameters()
                ),
                batch_norm_channels=[
                    m.num_features for m in modules if hasattr(m, "running_var")
                ],
            )


def main() -> None:
    """Measure what the record lacks."""
    torch.set_num_threads(1)  # children are forks, which threads do not survive
    record = Record("coordination")
    measure_networks(record)
    measure_keys(record)
    measure_rows(record)
    measure_paths(record)
    measure_leases(record)
    measure_folders(record)
    for n_bytes in processes.REDUCED_BYTES:
        if not record.find(what="reduction", n_bytes=n_bytes):
            record.add(what="reduction", **processes.time_reductions(n_bytes, N_ROUNDS))
    for batch_size in BATCHES:
        if not record.find(what="ranks", batch_size=batch_size):
            record.add(what="ranks", **processes.time_ranks(batch_size))
    for n_workers in WORKERS:
        if not record.find(what="workers", n_workers=n_workers):
            record.add(what="workers", **processes.time_workers(n_workers))


if __name__ == "__main__":
    main()
