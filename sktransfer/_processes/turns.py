"""Turns on a GPU: the processes of a user compute on it one after another."""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sktransfer._processes.locks import TAKEN, lock_byte, open_lock_file, unlock_byte

# Set where workers start: how many processes may compute on one GPU at once belongs to
# the machine, and not to an estimator.
AT_ONCE = "SKTRANSFER_FITS_PER_GPU"

# Bytes of the lock file of a GPU. Who waits for a slot stands at the head of the queue,
# so that a process which has just given up its turn cannot take the next one as well.
QUEUE, FIRST_SLOT = 0, 1

LOOK_AGAIN_SECONDS = 0.02
# So long a wait is worth a word.
LONG_SECONDS = 60.0


class Turns:
    """The turns that this process takes on one GPU; its threads share one.

    Parameters
    ----------
    path : Path or None
        The lock file. None, or a file that cannot be locked: nobody waits.
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._descriptor: int | None = None
        self._entering, self._counting = threading.Lock(), threading.Lock()
        self._n_inside = 0
        self._slot: int | None = None

    def enter(self, n_at_once: int, tell: Callable[[], object]) -> None:
        """Wait until fewer than `n_at_once` processes are inside; call `tell` once."""
        with self._entering:
            while not self._join():
                with self._counting:
                    is_free = not self._n_inside
                if is_free:
                    slot = self._wait(n_at_once, tell)
                    with self._counting:
                        self._slot, self._n_inside = slot, 1
                    return
                time.sleep(LOOK_AGAIN_SECONDS)

    def _join(self) -> bool:
        """Join the present turn of this process, if there is one and nobody waits.

        Otherwise threads that overlap would keep other processes out for ever.
        """
        with self._counting:
            if not self._n_inside or self._is_awaited():
                return False
            self._n_inside += 1
            return True

    def _is_awaited(self) -> bool:
        """Return whether another process waits for its turn."""
        if self._descriptor is None:
            return False
        try:
            lock_byte(self._descriptor, QUEUE)
            unlock_byte(self._descriptor, QUEUE)
        except TAKEN:
            return True
        except OSError:
            return False
        return False

    def leave(self) -> None:
        """Give up the turn, unless another thread goes on with it."""
        with self._counting:
            self._n_inside -= 1
            if self._n_inside or self._slot is None or self._descriptor is None:
                return
            with suppress(OSError):
                unlock_byte(self._descriptor, self._slot)

    def _wait(self, n_at_once: int, tell: Callable[[], object]) -> int | None:
        """Return the byte that was locked; None where there are no locks."""
        if self.path is None:
            return None
        try:
            if self._descriptor is None:
                self._descriptor = open_lock_file(self.path)
            descriptor, telling = self._descriptor, _Telling(tell)
            _lock_one(descriptor, range(QUEUE, QUEUE + 1), telling)
            try:
                slots = range(FIRST_SLOT, FIRST_SLOT + n_at_once)
                return _lock_one(descriptor, slots, telling)
            finally:
                unlock_byte(descriptor, QUEUE)
        except OSError:
            return None


class _Telling:
    """Says once that a wait is long."""

    def __init__(self, tell: Callable[[], object]) -> None:
        self._tell, self._at = tell, time.monotonic() + LONG_SECONDS

    def pause(self) -> None:
        if time.monotonic() > self._at:
            self._at = float("inf")
            self._tell()
        time.sleep(LOOK_AGAIN_SECONDS)


def _lock_one(descriptor: int, positions: range, telling: _Telling) -> int:
    """Lock the first free byte of some; OSError where there are no locks."""
    while True:
        for position in positions:
            with suppress(*TAKEN):
                lock_byte(descriptor, position)
                return position
        telling.pause()


# By process too: a fork inherits the counts of its parent, but none of its locks.
_turns: dict[tuple[int, str], Turns] = {}
_nested = threading.local()


@contextmanager
def take_turn(gpu: str, tell: Callable[[], object]) -> Iterator[None]:
    """Compute in the block while no more processes do so on this GPU than may.

    One process at a time, or as many as the environment variable
    ``SKTRANSFER_FITS_PER_GPU`` allows. The system frees the turn of a process that
    dies. Turns are taken among processes of one user that share the folder for
    temporary files. If there is no such folder, or it has no locks, nobody waits.

    The ranks of one data-parallel job must not come here: each would hold one GPU and
    wait in an all-reduce for the others. Two jobs that got one GPU each would wait for
    each other for ever.

    Parameters
    ----------
    gpu : str
        What all processes call it.

    tell : callable
        Called once if the wait is long.

    Raises
    ------
    ValueError
        If ``SKTRANSFER_FITS_PER_GPU`` is no number from 1.
    """
    # No deadlock is possible, because whoever waits here holds nothing that others wait
    # for: a turn is taken before any lease of the activation cache and before the lock
    # on torch's seed, and what is called within a turn never waits for another one,
    # not even for one on another GPU.
    if getattr(_nested, "is_inside", False):
        yield
        return
    n_at_once = _read_limit()
    key = os.getpid(), gpu
    turns = _turns.get(key) or _turns.setdefault(key, Turns(_find_lock_file(gpu)))
    turns.enter(n_at_once, tell)
    _nested.is_inside = True
    try:
        yield
    finally:
        _nested.is_inside = False
        turns.leave()


def _read_limit() -> int:
    text = os.environ.get(AT_ONCE, "") or "1"
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 2**16):
        raise ValueError(
            f"the environment variable {AT_ONCE}={text!r} must be a whole number from "
            "1: how many processes may compute on one GPU at once."
        )
    return int(text)


def _find_lock_file(gpu: str) -> Path | None:
    """Return the lock file of a GPU; None if there is no folder to trust."""
    folder = Path(tempfile.gettempdir()) / f"sktransfer-{_name_user()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()
    except OSError:
        return None
    is_ours = stat.S_ISDIR(status.st_mode)
    if sys.platform != "win32":
        # Anybody could have made it, in a folder that all users share.
        is_ours &= status.st_uid == os.geteuid() and not status.st_mode & 0o077
    name = "".join(letter if letter.isalnum() else "-" for letter in gpu)
    return folder / f"turns-{name}" if is_ours else None


def _name_user() -> str:
    if sys.platform == "win32":
        return "turns"  # the folder for temporary files is the user's own there
    return str(os.geteuid())
