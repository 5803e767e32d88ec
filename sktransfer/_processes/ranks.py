"""Which rank of a job this process is: one of several that train one network."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from typing import Any, NamedTuple


class Rank(NamedTuple):
    """The place of this process among those that train together.

    Attributes
    ----------
    number : int
        From 0.

    n_ranks : int
        1 if this process is alone.

    local : int
        Number on this machine, from 0: which of its GPUs is ours.
    """

    number: int = 0
    n_ranks: int = 1
    local: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process prints and writes for all."""
        return self.number == 0


ALONE = Rank()

# A fork inherits torch's connections to other ranks, and must not use them.
_imported_in = os.getpid()


def find_rank() -> Rank:
    """Find the rank of this process.

    ``torchrun`` and its like say it in the environment. The workers that such a process
    starts inherit the environment, but are no ranks. Nor are its threads: in each rank
    they would come to what all ranks do together in another order.
    """
    is_fork = os.getpid() != _imported_in
    if is_fork or threading.current_thread() is not threading.main_thread():
        return ALONE
    # Importing it takes seconds.
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed and distributed.is_available() and distributed.is_initialized():
        number = distributed.get_rank()
        return Rank(number, distributed.get_world_size(), _read_local(number))
    if multiprocessing.parent_process() is not None:
        return ALONE
    return _read_environment()


def _read_environment() -> Rank:
    """Read what ``torchrun`` says; alone unless it says where the others are."""
    names = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    values = [os.environ.get(name, "") for name in names]
    if not all(values) or not all(value.isdigit() for value in values[:2]):
        return ALONE
    number, n_ranks = int(values[0]), int(values[1])
    return Rank(number, n_ranks, _read_local(number))


def _read_local(number: int) -> int:
    """Read the number on this machine; on a single one it is that among all."""
    local = os.environ.get("LOCAL_RANK", "")
    return int(local) if local.isdigit() else number
