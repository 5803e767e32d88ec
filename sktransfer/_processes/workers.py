"""Whether this process works for another one, and how that one hears of warnings."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import sys
from typing import Any

# What was forwarded already, by process: a fork must tell its own client.
_forwarded: set[tuple[int, str, type]] = set()


def is_worker() -> bool:
    """Whether this process, or this task of Dask, works for another process."""
    return (
        multiprocessing.parent_process() is not None  # joblib's, and most of Dask's
        or find_dask_worker() is not None
        or _is_ray_worker()
    )


def forward_warning(message: str | Warning, category: type[Warning]) -> None:
    """Let the client of a Dask worker warn too, once for each worker and text.

    joblib's workers and Ray's write to the terminal of their client.
    """
    worker = find_dask_worker()
    key = os.getpid(), str(message), category
    if worker is None or key in _forwarded:
        return
    _forwarded.add(key)
    # As `distributed.worker.warn` does, which would also warn here again. The client
    # listens to this topic by default.
    parts = {"message": message, "category": category}
    worker.log_event("warn", {name: pickle.dumps(part) for name, part in parts.items()})


def find_dask_worker() -> Any:
    """Return the worker of Dask that runs this task, or None."""
    # What was not imported runs nothing here; importing it takes seconds.
    distributed: Any = sys.modules.get("distributed.worker")
    if distributed is None:
        return None
    try:
        return distributed.get_worker()
    except (ValueError, AttributeError):  # AttributeError: it is being imported
        return None


def _is_ray_worker() -> bool:
    ray: Any = sys.modules.get("ray")
    if ray is None:
        return False
    try:
        # Asking for the context would start Ray where it does not run. Whoever asks it
        # for a task, outside of one, has that written to the log.
        if not ray.is_initialized():
            return False
        return bool(ray.get_runtime_context().worker.mode == ray.WORKER_MODE)
    except Exception:  # it is being imported, or another release of Ray
        return False
