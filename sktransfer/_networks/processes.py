"""What other processes mean for torch: forks that inherit its threads, shared GPUs."""

from __future__ import annotations

import multiprocessing
import os

import torch
from threadpoolctl import threadpool_info

from sktransfer._feedback import warn

# The process in which torch computed with several threads, and whether this one was
# warned of its GPU. A fork inherits both.
_threaded_in: int | None = None
_warned_in: int | None = None


def enter_process(device: torch.device) -> None:
    """Note that torch computes in this process; look at where this process came from.

    Parameters
    ----------
    device : torch.device
        Where it computes.

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
    _warn_of_a_shared_gpu(device)


def _has_gnu_threads() -> bool:
    """Return whether torch's threads are GNU's; LLVM's and Intel's are made again."""
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "openmp"]
    of_torch = [pool for pool in pools if "torch" in str(pool.get("filepath"))]
    return any("libgomp" in str(pool.get("prefix")) for pool in of_torch or pools)


def _warn_of_a_shared_gpu(device: torch.device) -> None:
    """Warn, once per process, if this is one of several processes and has a GPU."""
    global _warned_in
    is_worker = multiprocessing.parent_process() is not None
    if device.type == "cuda" and is_worker and _warned_in != os.getpid():
        _warned_in = os.getpid()
        warn(
            f"{device} is used by one of several processes. Each of those that share a "
            "GPU takes memory of it, and they wait for one another: n_jobs=1 is "
            "usually faster."
        )
