"""Activations in memory, and in a folder beside it: found, distributed, kept.

Memory belongs to one process and knows what it uses. The folder is shared by processes,
any of which may end at any moment. So a row is computed under a lease, published whole,
and looked for again before anybody computes it.

Neither diskcache nor joblib.Memory does this: they pickle whole results, where here a
batch of rows is one read of numbers, each row has a checksum, and no row is computed by
two processes.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from sktransfer._activations.storage.folder import Folder
from sktransfer._activations.storage.memory import Memory
from sktransfer._feedback import warn

# The most rows of one file, by number and by bytes. So much is computed between two
# looks at what other processes have, and so much is lost if there is no room for it.
BLOCK_ROWS = 512
BLOCK_BYTES = 64 * 2**20


class Tiers:
    """A memory and, if there is a path, a folder. Thread-safe.

    Parameters
    ----------
    max_bytes, path, max_disk_bytes
        As for `ActivationCache`.
    """

    def __init__(
        self,
        max_bytes: int | str,
        path: str | os.PathLike[str] | None,
        max_disk_bytes: int | str,
    ) -> None:
        self.path, self.max_disk_bytes = path, max_disk_bytes
        self.lock = threading.RLock()
        # Held while one thread computes, so that no other computes the same rows. The
        # lock above is not enough: it is free meanwhile, so that others can read.
        self._computing = threading.RLock()
        self.memory = Memory(max_bytes)
        self.folder: Folder | None = None
        # Slots found before the cache was cleared mean other rows now: whoever holds
        # some compares this count.
        self.n_cleared = 0
        self._has_warned = False

    def prepare(self) -> None:
        """Open the folder; ValueError if it cannot be the folder of a cache."""
        with self.lock:
            if self.path is not None and self.folder is None:
                path, said = Path(self.path).absolute(), partial(warn, of_rank=True)
                folder = Folder(path, self.max_disk_bytes, said)
                folder.prepare()
                self.folder = folder

    def open(self) -> int:
        """Begin a fit or a prediction; what it asks for stays until :meth:`close`."""
        with self.lock:
            self.prepare()
            return self.memory.open()

    def close(self, number: int) -> None:
        """End what :meth:`open` began."""
        with self.lock:
            self.memory.close(number)

    def clear(self) -> None:
        """Forget all activations; delete their files."""
        with self.lock:
            self.prepare()
            self.memory.clear()
            if self.folder is not None:
                self.folder.clear()
            self.n_cleared += 1

    def limit(self, max_bytes: int | str) -> None:
        """Empty the memory and set another limit."""
        with self.lock:
            self.memory.clear()
            self.memory.max_bytes = max_bytes
            self.n_cleared += 1

    def slots(self, namespace: str, keys: Sequence[bytes]) -> np.ndarray:
        """Return slots of keys in memory, -1 for absent ones, and mark them as used."""
        with self.lock:
            return self.memory.find(namespace, keys)

    def rows(
        self, namespace: str, slots: np.ndarray, n_cleared: int
    ) -> torch.Tensor | None:
        """Return the activations in these slots; None if the cache was cleared since.

        `n_cleared` is the count at the time the slots were found.
        """
        with self.lock:
            if n_cleared != self.n_cleared:
                return None
            return self.memory.rows(namespace, slots)

    def read(
        self, namespace: str, keys: Sequence[bytes]
    ) -> tuple[torch.Tensor | None, np.ndarray]:
        """Read activations from disk, None if there are none, and which were found."""
        with self.lock:
            if self.folder is None or not len(keys):
                return None, np.zeros(len(keys), bool)
            return self.folder.read(namespace, keys)

    def load(self, namespace: str, keys: Sequence[bytes], device: torch.device) -> None:
        """Load keys that are not in memory from disk, as far as there is room."""
        if self.folder is None:
            return
        there = self.slots(namespace, keys) >= 0
        keys = [keys[i] for i in np.flatnonzero(~there).tolist()]
        # A single row first: it shows how many make a block.
        done, block = 0, 1
        while done < len(keys):
            some = keys[done : done + block]
            rows, found = self.read(namespace, some)
            if rows is not None:
                at = np.flatnonzero(found)
                found_rows = rows[torch.from_numpy(at)].to(device)
                found_keys = [some[i] for i in at.tolist()]
                with self.lock:
                    self.memory.reserve(namespace, found_rows, len(keys) - done)
                    slots = self.memory.put(namespace, found_keys, found_rows)
                if (slots < 0).any():
                    return
                block = count_block_rows(found_rows)
            done += len(some)

    @contextmanager
    def turn(
        self, namespace: str, keys: Sequence[bytes], most: int, alone: bool = False
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Claim some keys that no process has or is computing.

        Parameters
        ----------
        namespace : str
            The namespace of the keys.

        keys : sequence of bytes
            All different.

        most : int
            Claim at most this many.

        alone : bool
            Whether to ignore the claims of other processes.

        Yields
        ------
        mine : list of int
            Positions of the keys to compute and :meth:`keep` within the block.

        done : list of int
            Positions of keys that are there already.
        """
        with self._computing:
            with self.lock:
                there = self.memory.find(namespace, keys) >= 0
                if self.folder is not None:
                    there |= self.folder.find(namespace, keys)
            done = np.flatnonzero(there).tolist()
            mine: list[int] = []
            leases = None if self.folder is None else self.folder.leases
            try:
                for i in np.flatnonzero(~there).tolist():
                    if len(mine) == most:
                        break
                    if leases is None or alone or leases.take(keys[i]):
                        mine.append(i)
                if self.folder is not None and mine:
                    # Another process may have published some, and given up its lease,
                    # between the look above and the lease here.
                    with self.lock:
                        late = self.folder.find(namespace, [keys[i] for i in mine])
                    done += [mine[i] for i in np.flatnonzero(late).tolist()]
                    yield [mine[i] for i in np.flatnonzero(~late).tolist()], done
                else:
                    yield mine, done
            finally:
                if leases is not None:
                    leases.give_back([keys[i] for i in mine])

    def keep(
        self,
        namespace: str,
        keys: Sequence[bytes],
        rows: torch.Tensor,
        n_expected: int,
    ) -> int:
        """Keep rows in memory and on disk, as far as there is room.

        `n_expected` rows will come in total. Returns how many of `rows` are kept.
        """
        with self.lock:
            self.memory.reserve(namespace, rows, n_expected)
            slots = self.memory.put(namespace, keys, rows)
            self._warn_if_too_small(rows)
            if self.folder is not None and self.folder.write(namespace, keys, rows):
                return len(rows)
            return int((slots >= 0).sum())

    def _warn_if_too_small(self, rows: torch.Tensor) -> None:
        """Warn once if not even one activation fits; a limit of 0 is intended."""
        row_bytes = rows[0].numel() * rows.element_size()
        if 0 < (self.memory.budget or 0) < row_bytes and not self._has_warned:
            self._has_warned = True
            warn(
                f"max_bytes={self.memory.budget} is less than one activation "
                f"({row_bytes} bytes), so none is kept in memory.",
                of_rank=True,
            )

    def n_bytes(self, namespace: str | None = None) -> tuple[int, int]:
        """Count the bytes of a namespace, or of all, in memory and on disk."""
        with self.lock:
            on_disk = self.folder.n_bytes(namespace) if self.folder else 0
            return self.memory.n_bytes(namespace), on_disk


def count_block_rows(rows: torch.Tensor) -> int:
    """Count how many rows like these make a block."""
    row_bytes = max(1, rows[0].numel() * rows.element_size())
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // row_bytes))
