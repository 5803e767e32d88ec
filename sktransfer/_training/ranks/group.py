"""The ranks of a job, and what they do together: add up, share, collect."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn

import numpy as np
import torch
from torch import distributed

from sktransfer._feedback import warn
from sktransfer._processes.ranks import Rank, find_rank

# One rank may have to wait for hours until another has encoded its images, or solved
# the head. torch would give up after half an hour. If a rank dies, its connections
# break, and torchrun ends the others.
PATIENCE = timedelta(days=7)

# So long a wait for all ranks to begin is worth a word.
LONG_SECONDS = 30

# Bytes that one rank sends to the first at a time.
SENT_AT_ONCE = 2**26

# Marks errors that every rank raises.
TOGETHER = "is_of_all_ranks"


class Failure(NamedTuple):
    """What a rank passes that has nothing else to pass, since it failed."""

    text: str


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

    is_training : bool
        Whether the ranks are within the steps of a fit.
    """

    def __init__(self, rank: Rank) -> None:
        self.number, self.n_ranks = rank.number, rank.n_ranks
        self.is_first = rank.is_first
        self.world: Any = distributed.group.WORLD
        # Whether a fit is past the last point where ranks meet before its steps.
        self.is_training = False
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

    def meet(self, value: Any) -> list[Any]:
        """Return what each rank passes; a RuntimeError if one of them has failed."""
        with _tell_of_waiting(self.number):
            every = self.collect(value)
        for number, other in enumerate(every):
            if isinstance(other, Failure):
                raise_together(
                    RuntimeError(f"rank {number} of this job failed: {other.text}")
                )
        return every

    def is_any(self, flag: bool) -> bool:
        """Return whether some rank passes True."""
        return any(self.collect(flag))

    def join_rows(
        self, rows: np.ndarray, places: list[np.ndarray], whole: np.ndarray | None
    ) -> None:
        """Bring the rows of all ranks to the first.

        Parameters
        ----------
        rows : ndarray of shape (n_own, n_columns), float32
            Of this rank.

        places : list of ndarray of int
            Where the rows of each rank belong.

        whole : ndarray of shape (n, n_columns), float32, or None
            Filled on the first rank; None on the others.
        """
        n_columns, most = rows.shape[1], max(map(len, places))
        step = max(1, SENT_AT_ONCE // max(1, 4 * n_columns))
        for first in range(0, most, step):
            some = slice(first, first + step)
            # All ranks send as many; one of them may have a row less.
            sent = torch.zeros(min(step, most - first), n_columns)
            own = torch.from_numpy(rows[some])
            sent[: len(own)] = own
            parts = None if whole is None else [torch.empty_like(sent) for _ in places]
            with self._explain_loss():
                distributed.gather(sent, parts, 0, self._control)
            if whole is not None and parts is not None:
                for at, part in zip(places, parts, strict=True):
                    whole[at[some]] = part[: len(at[some])].numpy()

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


# The group of this process, once it has joined one, and why there is none any more.
_joined: Group | None = None
_broken: str | None = None


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
        If the others cannot be reached, or not any more.
    """
    global _joined
    rank = find_rank()
    if rank.n_ranks == 1:
        return None
    if _broken is not None:
        raise RuntimeError(
            f"rank {rank.number} of {rank.n_ranks} has left the others ({_broken}) and "
            "trains nothing more with them; start the job again."
        )
    if not distributed.is_initialized():
        _initialize(rank, device)
    if _joined is None or _joined.world is not distributed.group.WORLD:
        _joined = Group(rank)
    return _joined


def tell_ranks(error: BaseException) -> None:
    """Let other ranks know that this one has failed, if they wait for it.

    Before the first step they are told, and may go on to another fit, as this one may.
    Later they are in the middle of a step that will never end: this rank leaves the
    group, which is an error wherever they wait, and none of them trains any more.
    """
    rank = find_rank()
    if rank.n_ranks == 1 or _broken is not None:
        return
    if getattr(error, TOGETHER, False):
        if _joined is not None:
            _joined.is_training = False
        return
    is_between = _joined is None or not _joined.is_training
    if is_between and isinstance(error, Exception):
        group = join_group(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        assert group is not None
        group.collect(Failure(f"{type(error).__name__}: {error}"))
    else:
        _break(f"{type(error).__name__}: {error}")


def raise_together(error: Exception) -> NoReturn:
    """Raise an error that every rank raises."""
    setattr(error, TOGETHER, True)
    raise error


@contextmanager
def _tell_of_waiting(number: int) -> Iterator[None]:
    """Warn if the others do not come; that they are slow is one reason."""
    timer = threading.Timer(LONG_SECONDS, _warn_of_waiting, [number])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _warn_of_waiting(number: int) -> None:
    warn(
        f"rank {number} has waited {LONG_SECONDS} s for the other ranks of this job, "
        "which are slower, or do not call what this one calls: all of them have to "
        "call fit.",
        of_rank=True,
    )


def _break(why: str) -> None:
    """Leave the group, so that nobody waits for this rank."""
    global _joined, _broken
    _joined, _broken = None, why
    if distributed.is_initialized():
        distributed.destroy_process_group()


def _initialize(rank: Rank, device: torch.device) -> None:
    """Make torch's process group, as the environment says."""
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        with _tell_of_waiting(rank.number):
            distributed.init_process_group(backend, timeout=PATIENCE)
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
