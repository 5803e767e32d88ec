"""How many of a machine's cores this process may keep busy beside others of its job."""

from __future__ import annotations

import os

from sktransfer._processes.ranks import find_rank
from sktransfer._processes.workers import find_dask_worker, is_worker


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
    of_dask = find_dask_worker()
    if of_dask is not None:
        return int(of_dask.state.nthreads)
    told = os.environ.get("OMP_NUM_THREADS", "")
    is_told = told.isdigit() and int(told) > 0
    is_ours = is_worker() or "SPARK_REUSE_WORKER" in os.environ
    return int(told) if is_ours and is_told else None


def _count_cores() -> int:
    """Count the cores that the system lets this process use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
