"""The activation cache: in memory, and on disk where a folder is given."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sktransfer._memory import Memory
from sktransfer._store import Store
from sktransfer._warn import warn

# Rows that one file holds at most, by number and by bytes: what is computed between
# two looks at what others have, and what is lost where there is no room for it.
BLOCK_ROWS = 512
BLOCK_BYTES = 64 * 2**20


class CacheInfo(NamedTuple):
    """What an activation cache did; counts are of images, per view.

    Attributes
    ----------
    hits : int
        Activations found.

    misses : int
        Activations computed.

    n_bytes : int
        Bytes held in memory now.

    seconds_saved : float
        Hits times the least seconds that computing one took so far, so that a busy
        moment does not count as saved; 0 where none was computed.

    n_bytes_on_disk : int
        Bytes held on disk now.
    """

    hits: int
    misses: int
    n_bytes: int
    seconds_saved: float
    n_bytes_on_disk: int = 0


class ActivationCache:
    """Keeps what frozen stages computed, so that no image passes them twice.

    ``activation_cache="auto"`` uses one cache in memory that every fit of the process
    shares, a path one that lies on disk too; an object of this class is a separate
    one, shared by the estimators that it is passed to, their clones included.

    Parameters
    ----------
    max_bytes : int or "auto", default="auto"
        Most memory that activations take. ``"auto"``: a quarter of what is free when
        the first activation is kept.

    path : str or path-like, default=None
        Folder where activations are kept too, for other processes and later runs. It
        is made where there is none, and may be deleted while nothing uses it.

    max_disk_bytes : int or "auto", default="auto"
        Most bytes that files in the folder take. ``"auto"``: half of the disk's free
        bytes and of those that the files take already.

    Notes
    -----
    An activation is found again only for the same pixels, dtype, view, image size,
    stages with the same weights and statistics, number format, kind of processor and
    version of torch. What was used least recently goes first when memory or disk is
    full. The files are safetensors, which hold nothing but numbers, with a checksum
    for each row: what is damaged is computed again. Processes that want the same
    images share the work; one may be ended at any time.

    Examples
    --------
    >>> from sktransfer import ActivationCache, ResNetTransferClassifier
    >>> cache = ActivationCache(max_bytes=2 * 2**30)
    >>> clf = ResNetTransferClassifier("mini_resnet18", activation_cache=cache)
    """

    def __init__(
        self,
        max_bytes: int | str = "auto",
        *,
        path: str | os.PathLike[str] | None = None,
        max_disk_bytes: int | str = "auto",
    ) -> None:
        for name, value in {
            "max_bytes": max_bytes,
            "max_disk_bytes": max_disk_bytes,
        }.items():
            if value != "auto" and (isinstance(value, str) or value < 0):
                raise ValueError(
                    f"{name}={value!r} must be 'auto' or a number of bytes (0 or more)."
                )
        self.max_bytes = max_bytes
        self.path = path
        self.max_disk_bytes = max_disk_bytes
        self.n_cleared = 0
        self._start()

    def _start(self) -> None:
        self._lock = threading.RLock()
        # Held while one thread computes, so that another does not compute the same.
        self._computing = threading.RLock()
        self._memory = Memory(self.max_bytes)
        self._store: Store | None = None
        self._has_warned = False
        self._reset_counts()

    def _reset_counts(self) -> None:
        self._hits = self._misses = 0
        self._saved = 0.0
        self._seconds_each = math.inf

    def __repr__(self) -> str:
        path = "" if self.path is None else f", path={str(self.path)!r}"
        return f"{type(self).__name__}(max_bytes={self.max_bytes!r}{path})"

    def __deepcopy__(self, memo: object) -> ActivationCache:
        # clone() copies parameters; a copy would share nothing.
        return self

    def __sklearn_clone__(self) -> ActivationCache:
        return self

    def __getstate__(self) -> dict[str, object]:
        names = ("max_bytes", "path", "max_disk_bytes")
        return {**{name: getattr(self, name) for name in names}, "n_cleared": 0}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._start()

    def info(self) -> CacheInfo:
        """What the cache holds, and what it did since it was made or cleared.

        Returns
        -------
        CacheInfo
            Counts, bytes and seconds of all fits and predictions of this process.
        """
        with self._lock:
            self.prepare()
            on_disk = self._store.n_bytes() if self._store else 0
            return CacheInfo(
                self._hits, self._misses, self._memory.n_bytes(), self._saved, on_disk
            )

    def clear(self) -> None:
        """Forget all activations and counts; delete this cache's files on disk.

        Other files in the folder stay.
        """
        with self._lock:
            self.prepare()
            self._memory.clear()
            if self._store is not None:
                self._store.clear()
            self._reset_counts()
            self.n_cleared += 1

    def warm(self, estimator: Any, X: Any) -> CacheInfo:
        """Compute the activations that a fit or a prediction will ask for.

        Every view of every image passes the estimator's frozen stages here, for
        instance before a search in several processes that share a folder.

        Parameters
        ----------
        estimator : ResNetTransferClassifier or ResNetFeatureExtractor
            Need not be fitted. Its `activation_cache` is not used.

        X : array-like
            Images, as for the estimator's ``fit``.

        Returns
        -------
        CacheInfo
            What was found and what was computed.

        Raises
        ------
        ValueError
            If a parameter of `estimator` or `X` is not as its ``fit`` takes it.
        """
        info: CacheInfo = estimator._warm(X, self)
        return info

    def prepare(self) -> None:
        """Open the folder; a ValueError if it cannot be one of a cache."""
        with self._lock:
            if self.path is not None and self._store is None:
                store = Store(Path(self.path).absolute(), self.max_disk_bytes, warn)
                store.prepare()
                self._store = store

    def open(self) -> int:
        """Begin a fit or a prediction: what it asks for from now on stays for it."""
        with self._lock:
            self.prepare()
            return self._memory.open()

    def close(self, number: int) -> None:
        """End what :meth:`open` began."""
        with self._lock:
            self._memory.close(number)

    def slots(self, namespace: str, keys: Sequence[bytes]) -> np.ndarray:
        """Slots of keys in memory, -1 where there is none, and mark them as used."""
        with self._lock:
            return self._memory.find(namespace, keys)

    def rows(self, namespace: str, slots: np.ndarray) -> torch.Tensor:
        """Activations in these slots of the memory."""
        return self._memory.rows(namespace, slots)

    def read(
        self, namespace: str, keys: Sequence[bytes]
    ) -> tuple[torch.Tensor | None, np.ndarray]:
        """Activations from the disk, and which keys were found; None where none was."""
        with self._lock:
            if self._store is None or not len(keys):
                return None, np.zeros(len(keys), bool)
            return self._store.read(namespace, keys)

    def load(self, namespace: str, keys: Sequence[bytes], device: torch.device) -> None:
        """Bring keys that are not in memory from disk, as far as there is room."""
        if self._store is None:
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
                with self._lock:
                    self._memory.reserve(namespace, found_rows, len(keys) - done)
                    slots = self._memory.put(namespace, found_keys, found_rows)
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
            with self._lock:
                there = self._memory.find(namespace, keys) >= 0
                if self._store is not None:
                    there |= self._store.find(namespace, keys)
            done = np.flatnonzero(there).tolist()
            mine: list[int] = []
            leases = None if self._store is None else self._store.leases
            try:
                for i in np.flatnonzero(~there).tolist():
                    if len(mine) == most:
                        break
                    if leases is None or alone or leases.take(keys[i]):
                        mine.append(i)
                if self._store is not None and mine:
                    # Published between the look above and the lease.
                    with self._lock:
                        late = self._store.find(namespace, [keys[i] for i in mine])
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
        with self._lock:
            self._memory.reserve(namespace, rows, n_expected)
            slots = self._memory.put(namespace, keys, rows)
            self._warn_if_too_small(rows)
            if self._store is not None and self._store.write(namespace, keys, rows):
                return len(rows)
            return int((slots >= 0).sum())

    def _warn_if_too_small(self, rows: torch.Tensor) -> None:
        """Warn once where not one activation fits; 0 bytes are meant so."""
        row_bytes = rows[0].numel() * rows.element_size()
        if 0 < (self._memory.budget or 0) < row_bytes and not self._has_warned:
            self._has_warned = True
            warn(
                f"max_bytes={self._memory.budget} is less than one activation "
                f"({row_bytes} bytes), so none is kept in memory."
            )

    def count(
        self, hits: int, misses: int = 0, seconds_each: float = math.inf
    ) -> float:
        """Add to the counts; return the seconds that the hits saved.

        `seconds_each` is what computing one of the misses took.
        """
        with self._lock:
            self._hits += hits
            self._misses += misses
            self._seconds_each = min(self._seconds_each, seconds_each)
            is_known = math.isfinite(self._seconds_each)
            saved = hits * self._seconds_each if is_known else 0.0
            self._saved += saved
            return saved

    def n_bytes(self, namespace: str) -> tuple[int, int]:
        """Bytes that a namespace takes in memory and on disk."""
        with self._lock:
            on_disk = self._store.n_bytes(namespace) if self._store else 0
            return self._memory.n_bytes(namespace), on_disk


def block_rows(rows: torch.Tensor) -> int:
    """How many rows like these make a block."""
    row_bytes = max(1, rows[0].numel() * rows.element_size())
    return max(1, min(BLOCK_ROWS, BLOCK_BYTES // row_bytes))


# What activation_cache="auto" means: one cache for all fits of this process.
shared = ActivationCache()
# And a path: one for all fits of this process that name it.
_by_path: dict[Path, ActivationCache] = {}


def resolve_cache(
    activation_cache: ActivationCache | str | os.PathLike[str] | None,
) -> ActivationCache | None:
    """Turn the ``activation_cache`` parameter into a cache, or None.

    Raises
    ------
    ValueError
        If a path is a file, or a folder that holds something else.
    """
    if activation_cache is None or isinstance(activation_cache, ActivationCache):
        cache = activation_cache
    elif activation_cache == "auto":
        cache = shared
    else:
        path = Path(activation_cache).absolute()
        cache = _by_path.setdefault(path, ActivationCache(path=path))
    if cache is not None:
        cache.prepare()
    return cache
