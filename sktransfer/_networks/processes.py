"""What other processes mean for torch: forks that inherit its threads, shared GPUs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from threadpoolctl import threadpool_info

from sktransfer._feedback import warn
from sktransfer._processes.ranks import find_rank
from sktransfer._processes.turns import AT_ONCE, take_turn
from sktransfer._processes.workers import is_worker

# The process in which torch computed with several threads. A fork inherits it.
_threaded_in: int | None = None


def enter_process() -> None:
    """Note that torch computes in this process; look at where this process came from.

    Raises
    ------
    RuntimeError
        If this process was forked from one in which this package has computed with
        several threads. GNU's threads do not survive a fork: the next step would wait
        for them for ever.
    """
    global _threaded_in
    has_threads = torch.get_num_threads() > 1
    if has_threads and _threaded_in not in (None, os.getpid()) and _has_gnu_threads():
        raise RuntimeError(
            "this process was forked from one in which torch had computed with several "
            "threads, and would wait for them for ever; use joblib's 'loky' backend or "
            "the start method 'spawn', or call torch.set_num_threads(1) first."
        )
    if has_threads:
        _threaded_in = os.getpid()


def _has_gnu_threads() -> bool:
    """Return whether torch's threads are GNU's; LLVM's and Intel's are made again."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "openmp"]
    of_torch = [pool for pool in pools if "torch" in str(pool.get("filepath"))]
    return any("libgomp" in str(pool.get("prefix")) for pool in of_torch or pools)


@contextmanager
def take_turn_on(device: torch.device) -> Iterator[None]:
    """Compute in the block while no other process does so on the same GPU.

    On a CPU nobody waits, and neither do the ranks of a data-parallel job (see
    :func:`sktransfer._processes.turns.take_turn`).
    """
    name = name_gpu(device)
    if name is None or find_rank().n_ranks > 1:
        yield
        return
    with take_turn(name, partial(_tell_of_waiting, device)):
        try:
            yield
        finally:
            # torch keeps what it has freed, and the next process may need it.
            if device.type == "cuda" and is_worker():
                torch.cuda.empty_cache()


def name_gpu(device: torch.device) -> str | None:
    """Return what every process calls this GPU; None for a CPU.

    Processes may count GPUs differently.
    """
    if device.type != "cuda":
        return None
    index = torch.cuda.current_device() if device.index is None else device.index
    return str(getattr(torch.cuda.get_device_properties(index), "uuid", index))


def _tell_of_waiting(device: torch.device) -> None:
    warn(
        f"this process waits for another one that computes on {device}. If the memory "
        f"of the GPU is enough for several fits, set {AT_ONCE}=2 in the environment of "
        "all processes.",
        of_rank=True,
    )
