"""Activations kept in memory, one row per image and view, shared by all fits."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from sktransfer._prefix import Prefix, image_keys

# A quarter leaves room for the images, the network and everything else on a machine.
SHARE_OF_FREE_MEMORY = 0.25
FALLBACK_BYTES = 2**32

# Images encoded before their activations are kept: bounds memory, and what is lost
# where there is no room for them.
BLOCK = 512


class CacheInfo(NamedTuple):
    """What an activation cache did; counts are of images, per view.

    Attributes
    ----------
    hits : int
        Activations found.

    misses : int
        Activations computed.

    n_bytes : int
        Bytes held now.

    seconds_saved : float
        Hits times the mean seconds that computing one took.
    """

    hits: int
    misses: int
    n_bytes: int
    seconds_saved: float


class _Space:
    """The rows of one namespace in one tensor; a key knows its slot."""

    def __init__(self, like: torch.Tensor) -> None:
        self.arena = torch.empty(
            (0, *like.shape[1:]), dtype=like.dtype, device=like.device
        )
        self.row_bytes = max(1, like[0].numel() * like.element_size())
        self.slot_of: dict[bytes, int] = {}
        self.key_of: list[bytes] = []
        # When each slot was asked for last, in ticks of the cache.
        self.used = np.zeros(0, np.int64)
        self.last_used = 0

    def n_bytes(self) -> int:
        return len(self.arena) * self.row_bytes

    def resize(self, n_rows: int) -> None:
        """Give the arena another number of slots; those in use stay."""
        n = len(self.key_of)
        arena = torch.empty(
            (n_rows, *self.arena.shape[1:]),
            dtype=self.arena.dtype,
            device=self.arena.device,
        )
        arena[:n] = self.arena[:n]
        self.arena = arena
        self.used = np.concatenate([self.used[:n], np.zeros(n_rows - n, np.int64)])


class ActivationCache:
    """Keeps what frozen stages computed, so that no image passes them twice.

    ``activation_cache="auto"`` uses one cache that every fit of the process shares;
    an object of this class is a separate one, shared by the estimators that it is
    passed to, their clones included.

    Parameters
    ----------
    max_bytes : int or "auto", default="auto"
        Most memory that activations take. ``"auto"``: a quarter of what is free when
        the first activation is kept.

    Notes
    -----
    An activation is found again only for the same pixels, dtype, view, image size,
    stages with the same weights and statistics, number format, kind of device and
    version of torch. What was used least recently goes first when memory is full.
    """

    def __init__(self, max_bytes: int | str = "auto") -> None:
        if max_bytes != "auto" and (isinstance(max_bytes, str) or max_bytes < 0):
            raise ValueError(
                f"max_bytes={max_bytes!r} must be 'auto' or a number of bytes (0 or "
                "more)."
            )
        self.max_bytes = max_bytes
        self.n_cleared = 0
        self._reset()

    def _reset(self) -> None:
        self._lock = threading.RLock()
        self._spaces: dict[str, _Space] = {}
        self._tick = 0
        self._active: dict[int, int] = {}
        self._budget: int | None = None
        self._hits = self._misses = 0
        self._seconds = self._saved = 0.0

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_bytes={self.max_bytes!r})"

    def __deepcopy__(self, memo: object) -> ActivationCache:
        # clone() copies parameters; a copy would share nothing.
        return self

    def __sklearn_clone__(self) -> ActivationCache:
        return self

    def __getstate__(self) -> dict[str, object]:
        return {"max_bytes": self.max_bytes, "n_cleared": 0}

    def __setstate__(self, state: dict[str, object]) -> None:
        vars(self).update(state)
        self._reset()

    def info(self) -> CacheInfo:
        """Hits, misses, bytes and seconds saved since the cache was made or cleared."""
        with self._lock:
            n_bytes = sum(space.n_bytes() for space in self._spaces.values())
            return CacheInfo(self._hits, self._misses, n_bytes, self._saved)

    def clear(self) -> None:
        """Forget all activations and counts."""
        with self._lock:
            active, lock = self._active, self._lock
            self._reset()
            self._active, self._lock = active, lock
            self.n_cleared += 1

    def open(self) -> int:
        """Begin a fit or a prediction: what it asks for from now on stays for it."""
        with self._lock:
            self._tick += 1
            number = self._tick
            self._active[number] = number
            return number

    def close(self, number: int) -> None:
        """End what :meth:`open` began."""
        with self._lock:
            self._active.pop(number, None)

    def find(self, namespace: str, keys: Sequence[bytes]) -> np.ndarray:
        """Slots of keys, -1 where there is none, and mark them as used."""
        with self._lock:
            space = self._spaces.get(namespace)
            if space is None:
                return np.full(len(keys), -1, np.int64)
            get = space.slot_of.get
            slots = np.fromiter((get(k, -1) for k in keys), np.int64, len(keys))
            self._tick += 1
            space.used[slots[slots >= 0]] = space.last_used = self._tick
            return slots

    def rows(self, namespace: str, slots: np.ndarray) -> torch.Tensor:
        """Activations in these slots."""
        arena = self._spaces[namespace].arena
        return arena[torch.from_numpy(slots).to(arena.device)]

    def reserve(self, namespace: str, like: torch.Tensor, n_rows: int) -> None:
        """Make room for more rows of the shape of ``like[0]``, within the budget."""
        with self._lock:
            space = self._spaces.get(namespace)
            if space is None:
                space = _Space(like)
                self._spaces[namespace] = space
            space.last_used = self._tick
            wanted = len(space.key_of) + n_rows
            if wanted <= len(space.arena):
                return
            if self._budget is None:
                self._budget = resolve_budget(self.max_bytes, like.device)
            others = self._make_room(namespace, wanted * space.row_bytes)
            most = max(0, self._budget - others) // space.row_bytes
            if min(wanted, most) > len(space.arena):
                space.resize(min(wanted, most))

    def _make_room(self, namespace: str, n_bytes: int) -> int:
        """Drop namespaces that no fit uses now, least recently used first.

        Stops when `n_bytes` fit; returns the bytes of the others that are left.
        """
        oldest_active = min(self._active.values(), default=self._tick + 1)
        others = {name: s for name, s in self._spaces.items() if name != namespace}
        total = sum(space.n_bytes() for space in others.values())
        for name, space in sorted(others.items(), key=lambda item: item[1].last_used):
            if total + n_bytes <= (self._budget or 0):
                break
            if space.last_used < oldest_active:
                total -= space.n_bytes()
                del self._spaces[name]
        return total

    def put(
        self, namespace: str, keys: Sequence[bytes], rows: torch.Tensor
    ) -> np.ndarray:
        """Keep rows as far as there is room; return their slots, -1 for the others."""
        with self._lock:
            space = self._spaces[namespace]
            slots = np.full(len(keys), -1, np.int64)
            fresh = [i for i, key in enumerate(keys) if key not in space.slot_of]
            free = self._free_slots(space, len(fresh))
            self._tick += 1
            for i, slot in zip(fresh, free, strict=False):
                key = keys[i]
                if key in space.slot_of:  # the same image stands twice in this batch
                    continue
                if slot < len(space.key_of):
                    del space.slot_of[space.key_of[slot]]
                    space.key_of[slot] = key
                else:
                    space.key_of.append(key)
                space.slot_of[key] = slot
                slots[i] = slot
            new = np.flatnonzero(slots >= 0)
            if len(new):
                at = torch.from_numpy(slots[new]).to(space.arena.device)
                space.arena[at] = rows[torch.from_numpy(new).to(rows.device)]
            get = space.slot_of.get
            slots = np.fromiter((get(k, -1) for k in keys), np.int64, len(keys))
            space.used[slots[slots >= 0]] = space.last_used = self._tick
            return slots

    def _free_slots(self, space: _Space, n: int) -> list[int]:
        """At most `n` slots: unused ones in order, then the least recently used."""
        begin = len(space.key_of)
        free = list(range(begin, min(len(space.arena), begin + n)))
        if len(free) < n and begin:
            oldest_active = min(self._active.values(), default=self._tick + 1)
            order = np.argsort(space.used[:begin], kind="stable")[: n - len(free)]
            free += order[space.used[order] < oldest_active].tolist()
        return free

    def count(self, hits: int, misses: int, seconds: float) -> float:
        """Add to the counts; return the seconds that the hits saved.

        `seconds` is what computing the misses took.
        """
        with self._lock:
            self._hits += hits
            self._misses += misses
            self._seconds += seconds
            saved = hits * self._seconds / self._misses if self._misses else 0.0
            self._saved += saved
            return saved

    def n_bytes(self, namespace: str) -> int:
        """Bytes that a namespace takes."""
        with self._lock:
            space = self._spaces.get(namespace)
            return 0 if space is None else space.n_bytes()


# What activation_cache="auto" means: one cache for all fits of this process.
shared = ActivationCache()


def resolve_cache(
    activation_cache: ActivationCache | str | None,
) -> ActivationCache | None:
    """Turn the ``activation_cache`` parameter into a cache, or None."""
    return shared if isinstance(activation_cache, str) else activation_cache


def resolve_budget(max_bytes: int | str, device: torch.device) -> int:
    """Turn ``max_bytes`` into bytes."""
    if not isinstance(max_bytes, str):
        return int(max_bytes)
    if device.type == "cuda":
        free = torch.cuda.mem_get_info(device)[0]
    else:
        free = _free_memory()
    return int(SHARE_OF_FREE_MEMORY * free)


def _free_memory() -> int:
    """Bytes of memory that could be had; a guess where the system does not say."""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable"))
        return 1024 * int(available.split()[1])
    except (OSError, StopIteration, ValueError, IndexError):
        return FALLBACK_BYTES


class ActivationRows:
    """The activations of one set of images behind one prefix, by row and view.

    Parameters
    ----------
    prefix : Prefix
        Computes what is missing.

    images : ndarray of shape (n_images, height, width, n_channels)
        Not copied.

    cache : ActivationCache or None
        Where activations are kept; without it all are computed each time.
    """

    def __init__(
        self, prefix: Prefix, images: np.ndarray, cache: ActivationCache | None
    ) -> None:
        self.prefix, self.images, self.cache = prefix, images, cache
        self.hits = self.misses = 0
        self.saved = 0.0
        self.is_full = False
        self.slots = np.full((2, len(images)), -1, np.int64)
        self.keys: list[bytes | None] = [None] * len(images)
        if cache is not None:
            self.namespace = prefix.namespace()
            self.number = cache.open()
            self.n_cleared = cache.n_cleared

    def close(self) -> None:
        """Let the cache give away what these rows used."""
        if self.cache is not None:
            self.cache.close(self.number)

    def ensure(self, rows: np.ndarray, mirrored: np.ndarray) -> None:
        """Have the activations of these rows and views in the cache, if they fit.

        Parameters
        ----------
        rows : ndarray of shape (n,), int
            Which images.

        mirrored : ndarray of shape (n,), bool
            Which of them are turned left to right.
        """
        if self.cache is None:
            return
        self._forget_if_cleared()
        view = mirrored.astype(np.int64)
        unknown = np.flatnonzero(self.slots[view, rows] < 0)
        n_computed, n_kept, seconds = 0, 0, 0.0
        if len(unknown):
            rows_unknown, view_unknown = rows[unknown], view[unknown]
            keys = self._keys(rows_unknown, view_unknown)
            slots = self.cache.find(self.namespace, keys)
            if not self.is_full:
                missing = np.flatnonzero(slots < 0)
                # An image that stands twice is computed once.
                first = np.unique([keys[i] for i in missing], return_index=True)[1]
                missing = missing[first]
                n_computed, n_kept, seconds = self._compute(
                    rows_unknown[missing],
                    view_unknown[missing],
                    [keys[i] for i in missing],
                )
                slots = self.cache.find(self.namespace, keys)
            self.slots[view_unknown, rows_unknown] = slots
        n_absent = int((self.slots[view, rows] < 0).sum())
        self._count(len(rows) - n_absent - n_kept, n_computed, seconds)

    def gather(self, rows: np.ndarray, mirrored: np.ndarray) -> torch.Tensor:
        """Activations of these rows and views, (n, *activation), float32."""
        self._forget_if_cleared()
        slots = self.slots[mirrored.astype(np.int64), rows]
        absent = np.flatnonzero(slots < 0)
        if len(absent) == 0 and self.cache is not None:
            return self.cache.rows(self.namespace, slots).float()
        started = time.perf_counter()
        activations = self.prefix.encode(self.images[rows[absent]], mirrored[absent])
        if self.cache is None:
            return activations.float()
        self._count(0, len(absent), time.perf_counter() - started)
        if len(absent) < len(slots):
            found = self.cache.rows(self.namespace, np.maximum(slots, 0))
            found[torch.from_numpy(absent).to(found.device)] = activations
            activations = found
        return activations.float()

    def _forget_if_cleared(self) -> None:
        """Take slots for unknown once the cache was emptied."""
        if self.cache is not None and self.n_cleared != self.cache.n_cleared:
            self.slots[:] = -1
            self.is_full = False
            self.n_cleared = self.cache.n_cleared

    def info(self) -> CacheInfo:
        """What the cache did for these rows."""
        if self.cache is None:
            return CacheInfo(0, 0, 0, 0.0)
        return CacheInfo(
            self.hits, self.misses, self.cache.n_bytes(self.namespace), self.saved
        )

    def _keys(self, rows: np.ndarray, view: np.ndarray) -> list[bytes]:
        """Keys of images in these views; an image is hashed once."""
        fresh = np.unique(rows[[self.keys[row] is None for row in rows.tolist()]])
        for row, key in zip(
            fresh.tolist(), image_keys(self.images, fresh), strict=True
        ):
            self.keys[row] = key
        return [
            b"%b%d" % (self.keys[row], v)
            for row, v in zip(rows.tolist(), view.tolist(), strict=True)
        ]

    def _compute(
        self, rows: np.ndarray, view: np.ndarray, keys: list[bytes]
    ) -> tuple[int, int, float]:
        """Compute what there is room for; how many, how many kept, and the seconds."""
        assert self.cache is not None
        started, done, n_kept = time.perf_counter(), 0, 0
        while done < len(rows):
            block = slice(done, done + BLOCK)
            activations = self.prefix.encode(self.images[rows[block]], view[block] == 1)
            if done == 0:
                self.cache.reserve(self.namespace, activations, len(rows))
            slots = self.cache.put(self.namespace, keys[block], activations)
            done += len(activations)
            n_kept += int((slots >= 0).sum())
            if (slots < 0).any():
                self.is_full = True
                break
        return done, n_kept, time.perf_counter() - started

    def _count(self, hits: int, misses: int, seconds: float) -> None:
        assert self.cache is not None
        self.hits += hits
        self.misses += misses
        self.saved += self.cache.count(hits, misses, seconds)
