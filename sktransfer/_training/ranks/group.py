"""The ranks of a job, and what they do together: add up, share, collect."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import distributed

from sktransfer._processes.ranks import Rank, find_rank

# One rank may have to wait for hours until another has encoded its images, or solved
# the head. torch would give up after half an hour. Of a rank that dies the others hear
# at once.
PATIENCE = timedelta(days=7)

# Bytes that one rank sends to the first at a time.
SENT_AT_ONCE = 2**26


class Group:
    """The ranks of this job. All of them call the same methods in the same order.

    Parameters
    ----------
    rank : Rank
        Of this process; torch's process group is there already.

    Attributes
    ----------
    number, n_ranks : int
        Of this process, from 0, and how many there are.

    is_first : bool
        Whether this rank prints and writes for all.
    """

    def __init__(self, rank: Rank) -> None:
        self.number, self.n_ranks = rank.number, rank.n_ranks
        self.is_first = rank.is_first
        # For what is not on a GPU; NCCL, if a caller chose it, knows nothing else.
        self._control: Any = distributed.new_group(backend="gloo", timeout=PATIENCE)

    def add_up(self, tensor: torch.Tensor) -> None:
        """Replace a tensor by its sum over all ranks, the same bits on each."""
        group = None if tensor.device.type == "cuda" else self._control
        with self._explain_loss():
            distributed.all_reduce(tensor, group=group)

    def share(self, value: Any) -> Any:
        """Return the value that the first rank passes."""
        values = [value]
        with self._explain_loss():
            distributed.broadcast_object_list(values, 0, self._control)
        return values[0]

    def collect(self, value: Any) -> list[Any]:
        """Return what each rank passes, in their order."""
        values = [None] * self.n_ranks
        with self._explain_loss():
            distributed.all_gather_object(values, value, self._control)
        return values

    def is_any(self, flag: bool) -> bool:
        """Return whether some rank passes True."""
        return any(self.collect(flag))

    def join_rows(self, rows: np.ndarray, counts: list[int]) -> list[np.ndarray] | None:
        """Bring the rows of all ranks to the first; None on the others.

        Parameters
        ----------
        rows : ndarray of shape (counts[number], ...), float32
            Of this rank.

        counts : list of int
            How many rows each rank has.

        Returns
        -------
        list of ndarray
            One per rank.
        """
        row = int(np.prod(rows.shape[1:]))
        step, most = max(1, SENT_AT_ONCE // max(1, 4 * row)), max(counts)
        shape = rows.shape[1:]
        joined = [np.empty((n, *shape), np.float32) for n in counts]
        for at in range(0, most, step):
            n = min(step, most - at)
            # All ranks send as many; one of them may have a row less.
            sent = torch.zeros(n, row)
            some = torch.from_numpy(rows[at : at + n]).reshape(-1, row)
            sent[: len(some)] = some
            parts = [torch.empty_like(sent) for _ in counts] if self.is_first else None
            with self._explain_loss():
                distributed.gather(sent, parts, 0, self._control)
            for part, whole in zip(parts or [], joined, strict=False):
                there = whole[at : at + n]
                there[...] = part[: len(there)].numpy().reshape(there.shape)
        return joined if self.is_first else None

    @contextmanager
    def _explain_loss(self) -> Iterator[None]:
        """Say what it means that ranks do not find each other any more."""
        try:
            yield
        except RuntimeError as error:
            raise RuntimeError(
                f"rank {self.number} of {self.n_ranks} has lost another one, which "
                "ended, failed, or does something else: all ranks have to run the same "
                "script. See its own error, if there is one. A job that is started "
                "again resumes from checkpoint=, if the estimator has one. torch said: "
                f"{error}"
            ) from error


# The group of this process, once it has joined one.
_joined: Group | None = None


def join_group(device: torch.device) -> Group | None:
    """Join the other ranks of this job; None if this process is alone.

    The first call waits until all ranks have made it.

    Parameters
    ----------
    device : torch.device
        Where this process computes.

    Raises
    ------
    RuntimeError
        If the others cannot be reached.
    """
    global _joined
    rank = find_rank()
    if rank.n_ranks == 1:
        return None
    if _joined is None or not distributed.is_initialized():
        if not distributed.is_initialized():
            _initialize(rank, device)
        _joined = Group(rank)
    return _joined


def share_value(value: Any, device: torch.device) -> Any:
    """Return the value of the first rank of this job, or this one if it is alone."""
    group = join_group(device)
    return value if group is None else group.share(value)


def _initialize(rank: Rank, device: torch.device) -> None:
    """Make torch's process group, as the environment says."""
    both = "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(both if device.type == "cuda" else "gloo")
    except (RuntimeError, ValueError) as error:
        raise RuntimeError(
            f"rank {rank.number} of {rank.n_ranks} cannot reach the others, as the "
            "environment (RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT) says it should; "
            "start the script with torchrun, or without these variables to train "
            f"alone. torch said: {error}"
        ) from error
    atexit.register(_leave)


def _leave() -> None:
    """Take leave of the other ranks, as torch wants it at the end."""
    if distributed.is_initialized():
        distributed.destroy_process_group()
