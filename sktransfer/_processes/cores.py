"""How many of a machine's cores this process may keep busy beside others of its job."""

from __future__ import annotations

import multiprocessing
import os
import sys
from contextlib import suppress
from typing import Any

from sktransfer._processes.ranks import find_rank


def count_threads() -> int | None:
    """Count the threads that may read images here; None if that is for Python to say.

    Python's own number is for a process that has the machine to itself. What starts
    several processes tells each of them its share:

    - ``torchrun`` says how many ranks a machine has. (The one thread that it allows
      OpenMP is no share: beside a GPU, reading needs the other cores.)
    - A worker of Dask has a number of threads.
    - joblib, Ray and Spark tell OpenMP.
    """
    if find_rank().n_ranks > 1:
        n_here = os.environ.get("LOCAL_WORLD_SIZE", "")
        return max(1, _count_cores() // int(n_here)) if n_here.isdigit() else None
    of_dask = _count_threads_of_dask()
    if of_dask is not None:
        return of_dask
    told = os.environ.get("OMP_NUM_THREADS", "")
    is_told = told.isdigit() and int(told) > 0
    return int(told) if _is_worker() and is_told else None


def _count_cores() -> int:
    """Count the cores that the system lets this process use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _count_threads_of_dask() -> int | None:
    """Return the number of threads of this worker of Dask; None in other processes."""
    # Importing it takes a second; in its workers it is imported.
    module: Any = sys.modules.get("distributed.worker")
    with suppress(Exception):  # a ValueError, as a rule: this is no worker
        return int(module.get_worker().state.nthreads)
    return None


def _is_worker() -> bool:
    """Return whether an engine of joblib, Ray or Spark started this process."""
    if "SPARK_REUSE_WORKER" in os.environ:
        return True
    ray: Any = sys.modules.get("ray")
    with suppress(Exception):
        if ray.is_initialized() and ray._private.worker.global_worker.mode == 1:
            return True
    return multiprocessing.parent_process() is not None
