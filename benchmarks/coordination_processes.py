"""Processes that share a folder or train together, for `coordination.py`.

What they compute is replaced by sleep; all else is real.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from sktransfer import ActivationCache
from sktransfer._activations.rows import ActivationRows
from sktransfer._feedback import Bar
from sktransfer._images.streams.ahead import Images
from sktransfer._images.views import AS_IT_IS, View
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.stages import Stages

# Images of the set that workers encode, and seconds that each image is slept for.
N_IMAGES, SECONDS_EACH = 2**15, 0.001
# Numbers of a row, as after all stages of EfficientNet-Lite0, in bfloat16.
WIDTH = 1280
# Images of a batch of the frozen stages: the first block of a worker.
FIRST_BLOCK = 32
# Gradients of a head for ten classes, and of a whole ResNet50.
REDUCED_BYTES = (4, 4 * 10 * (WIDTH + 1), 2**20, 2**24, 2**27)
N_RANKS, N_STEPS, N_TRAINED = 2, 100, 10_000


def draw_images(n: int) -> np.ndarray:
    """Draw images of 12 bytes, all different."""
    return np.random.default_rng(0).integers(0, 256, (n, 2, 2, 3), np.uint8)


def build(backbone: str, side: int) -> Stages:
    """Build a network with a head for ten classes."""
    stages = make_stages(backbone, 10, 0.0, (side, side))
    return stages.eval()


class SleepingPrefix:
    """Stands for frozen stages: takes their time, and returns zeros."""

    device = torch.device("cpu")
    most_at_once = None

    def batch_size(self, image_shape: tuple[int, ...]) -> int:
        """Return how many images pass at a time."""
        return FIRST_BLOCK

    def namespace(self, image_shape: tuple[int, ...]) -> str:
        """Return the name of the activations."""
        return "0" * 32

    def encode(
        self,
        images: Images,
        rows: np.ndarray,
        views: Sequence[View],
        chosen: np.ndarray,
        bar: Bar | None = None,
    ) -> torch.Tensor:
        """Sleep, and return rows."""
        time.sleep(len(rows) * SECONDS_EACH)
        return torch.zeros((len(rows), WIDTH), dtype=torch.bfloat16)


def work(folder: Path, start: Any, found: Queue[Any]) -> None:
    """Encode one set with others; report seconds, processor time and images."""
    cache = ActivationCache(path=folder)
    images = draw_images(N_IMAGES)
    prefix: Any = SleepingPrefix()
    rows = ActivationRows(prefix, images, (AS_IT_IS,), cache)
    start.wait()
    began, busy = time.perf_counter(), time.process_time()
    rows.ensure_all()
    ended = time.perf_counter(), time.process_time()
    found.put((ended[0] - began, ended[1] - busy, rows.misses))


def time_workers(n_workers: int) -> dict[str, Any]:
    """Time workers that encode one set together."""
    load = os.getloadavg()[0]
    context = multiprocessing.get_context("fork")
    folder, found = Path(tempfile.mkdtemp()), context.Queue()
    start = context.Barrier(n_workers)
    children = [
        context.Process(target=work, args=(folder, start, found))
        for _ in range(n_workers)
    ]
    for child in children:
        child.start()
    seconds, busy, computed = zip(*(found.get() for _ in children), strict=True)
    for child in children:
        child.join()
    n_files = len(list(folder.glob("*/*.safetensors")))
    shutil.rmtree(folder)
    return {
        "n_workers": n_workers,
        "load_before": round(load, 2),
        "n_cores": os.cpu_count(),
        "n_images": N_IMAGES,
        "seconds_each": SECONDS_EACH,
        "row_bytes": 2 * WIDTH,
        "seconds": max(seconds),
        "processor_seconds": sum(busy),
        "n_computed": sorted(computed),
        "n_files": n_files,
    }


def run_ranks(run: Callable[[int], Any]) -> Any:
    """Call a function in every rank; return what the first returns."""
    context = multiprocessing.get_context("fork")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    found = context.Queue()

    def join(rank: int) -> None:
        address = f"tcp://127.0.0.1:{port}"
        dist.init_process_group(
            "gloo", init_method=address, rank=rank, world_size=N_RANKS
        )
        result = run(rank)
        dist.barrier()
        dist.destroy_process_group()
        if rank == 0:
            found.put(result)

    children = [context.Process(target=join, args=(i,)) for i in range(N_RANKS)]
    for child in children:
        child.start()
    result = found.get()
    for child in children:
        child.join()
    return result


def reduce_often(n_bytes: int, n_rounds: int, rank: int) -> list[float]:
    """Return the seconds of one sum, in each of several rounds."""
    values, seconds = torch.zeros(n_bytes // 4), []
    n = 200 if n_bytes < 2**22 else 5
    for _ in range(n_rounds + 1):
        dist.barrier()
        started = time.perf_counter()
        for _ in range(n):
            dist.all_reduce(values)
        seconds.append((time.perf_counter() - started) / n)
    return seconds[1:]  # the first round opens connections


def time_reductions(n_bytes: int, n_rounds: int) -> dict[str, Any]:
    """Time sums over the ranks."""
    seconds = run_ranks(partial(reduce_often, n_bytes, n_rounds))
    return {"n_ranks": N_RANKS, "n_bytes": n_bytes, "seconds": seconds}


def train(batch_size: int, rank: int) -> float:
    """Return the mean seconds of a step of which each rank does its own images."""
    chance = np.random.default_rng(0)  # all ranks draw the same batches
    gradients = torch.zeros(REDUCED_BYTES[1] // 4)
    dist.barrier()
    started = time.perf_counter()
    for _ in range(N_STEPS):
        batch = chance.permutation(N_TRAINED)[:batch_size]
        time.sleep(int((batch % N_RANKS == rank).sum()) * SECONDS_EACH)
        dist.all_reduce(gradients)
    return (time.perf_counter() - started) / N_STEPS


def time_ranks(batch_size: int) -> dict[str, Any]:
    """Time steps of ranks that share every random batch by position."""
    return {
        "n_ranks": N_RANKS,
        "batch_size": batch_size,
        "n_images": N_TRAINED,
        "seconds_each": SECONDS_EACH,
        "n_bytes": REDUCED_BYTES[1],
        "n_steps": N_STEPS,
        "seconds_per_step": run_ranks(partial(train, batch_size)),
    }
