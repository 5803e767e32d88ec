"""Activations in memory, and in a folder beside it: found, shared out, kept."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from sktransfer._activations.storage.folder import Store
from sktransfer._activations.storage.memory import Memory
from sktransfer._feedback import warn

# Rows that one file holds at most, by number and by bytes: what is computed between
# two looks at what others have, and what is lost where there is no room for it.
BLOCK_ROWS = 512
BLOCK_BYTES = 64 * 2**20


class Tiers:
    """A memory and, where there is a path, a store of files. Thread-safe.

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
        # Held while one thread computes, so that another does not compute the same.
        self._computing = threading.RLock()
        self.memory = Memory(max_bytes)
        self.store: Store | None = None
        self.n_cleared = 0
        self._has_warned = False

    def prepare(self) -> None:
        """Open the folder; a ValueError if it cannot be one of a cache."""
        with self.lock:
            if self.path is not None and self.store is None:
                store = Store(Path(self.path).absolute(), self.max_disk_bytes, warn)
                store.prepare()
                self.store = store

    def open(self) -> int:
        """Begin a fit or a prediction: what it asks for from now on stays for it."""
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
            if self.store is not None:
                self.store.clear()
            self.n_cleared += 1

    def limit(self, max_bytes: int | str) -> None:
        """Begin anew in memory, with another limit."""
        with self.lock:
            self.memory.clear()
            self.memory.max_bytes = max_bytes
            self.n_cleared += 1

    def slots(self, namespace: str, keys: Sequence[bytes]) -> np.ndarray:
        """Slots of keys in memory, -1 where there is none, and mark them as used."""
        with self.lock:
            return self.memory.find(namespace, keys)

    def rows(
        self, namespace: str, slots: np.ndarray, n_cleared: int
    ) -> torch.Tensor | None:
        """Activations in these slots; None if the cache was cleared since then.

        `n_cleared` is what it was when the slots were found.
        """
        with self.lock:
            if n_cleared != self.n_cleared:
                return None
            return self.memory.rows(namespace, slots)

    def read(
        self, namespace: str, keys: Sequence[bytes]
    ) -> tuple[torch.Tensor | None, np.ndarray]:
        """Activations from the disk, and which keys were found; None where none was."""
        with self.lock:
            if self.store is None or not len(keys):
                return None, np.zeros(len(keys), bool)
            return self.store.read(namespace, keys)

    def load(self, namespace: str, keys: Sequence[bytes], device: torch.device) -> None:
        """Bring keys that are not in memory from disk, as far as there is room."""
        if self.store is None:
            return
        there = self.slots(namespace, keys) >= 0
        keys = [keys[i] for i in np.flatnonzero(~there).tolist()]
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
                block = block_rows(found_rows)
            done += len(some)

    @contextmanager
    def turn(
        self, namespace: str, keys: Sequence[bytes], most: int, alone: bool = False
    ) -> Iterator[tuple[list[int], list[int]]]:
        """Take on computing some keys that nobody has or computes.

        Parameters
        ----------
        namespace : str
            Theirs.

        keys : sequence of bytes
            All different.

        most : int
            Take on at most as many.

        alone : bool
            Whether to disregard what other processes have taken on.

        Yields
        ------
        mine : list of int
            Positions of the keys to compute and :meth:`keep` within the block.

        done : list of int
            Positions of keys that are there by now.
        """
        with self._computing:
            with self.lock:
                there = self.memory.find(namespace, keys) >= 0
                if self.store is not None:
                    there |= self.store.find(namespace, keys)
            done = np.flatnonzero(there).tolist()
            mine: list[int] = []
            leases = None if self.store is None else self.store.leases
            try:
                for i in np.flatnonzero(~there).tolist():
                    if len(mine) == most:
                        break
                    if leases is None or alone or leases.take(keys[i]):
                        mine.append(i)
                if self.store is not None and mine:
                    # Published between the look above and the lease.
                    with self.lock:
                        late = self.store.find(namespace, [keys[i] for i in mine])
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

        `n_expected` rows will come in all. Returns how many of these have a place.
        """
        with self.lock:
            self.memory.reserve(namespace, rows, n_expected)
            slots = self.memory.put(namespace, keys, rows)
            self._warn_if_too_small(rows)
            if self.store is not None and self.store.write(namespace, keys, rows):
                return len(rows)
            return int((slots >= 0).sum())

    def _warn_if_too_small(self, rows: torch.Tensor) -> None:
        """Warn once where not one activation fits; 0 bytes are meant so."""
        row_bytes = rows[0].numel() * rows.element_size()
        if 0 < (self.memory.budget or 0) < row_bytes and not self._has_warned:
            self._has_warned = True
            warn(
                f"max_bytes={self.memory.budget} is less than one activation "
                f"({row_bytes} bytes), so none is kept in memory."
            )

    def n_bytes(self, namespace: str | None = None) -> tuple[int, int]:
        """Bytes that a namespace, or all, takes in memory and on disk."""
        with self.lock:
            on_disk = self.store.n_bytes(namespace) if self.store else 0
            return self.memory.n_bytes(namespace), on_disk


def block_rows(rows: torch.Tensor) -> int:
    """How many rows like these make a block."""
    row_bytes = max(1, rows[0].numel() * rows.element_size())
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // row_bytes))
