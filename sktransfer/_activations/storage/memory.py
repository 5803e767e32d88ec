"""Activations in memory, one row per key; the least recently used go first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import psutil
import torch

# A quarter leaves room for the images, the network and everything else on a machine.
SHARE_OF_FREE_MEMORY = 0.25
# Used if the system does not say how much memory is free.
FALLBACK_BYTES = 2**32


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
    """Return the bytes of memory that are available, or a guess."""
    try:
        return int(psutil.virtual_memory().available)
    # A fit must not fail because a container hides what psutil reads.
    except (OSError, RuntimeError, ValueError):
        return FALLBACK_BYTES


class _Space:
    """The rows of one namespace in one tensor, the arena; each key has a slot in it.

    One tensor rather than one per row: a batch is then a single indexing operation, and
    thousands of small tensors would cost more than they hold.
    """

    def __init__(self, like: torch.Tensor) -> None:
        self.arena = torch.empty(
            (0, *like.shape[1:]), dtype=like.dtype, device=like.device
        )
        self.row_bytes = max(1, like[0].numel() * like.element_size())
        self.slot_of: dict[bytes, int] = {}
        self.key_of: list[bytes] = []
        # The tick of the memory at which each slot was last asked for.
        self.used = np.zeros(0, np.int64)
        self.last_used = 0

    def n_bytes(self) -> int:
        return len(self.arena) * self.row_bytes

    def slots(self, keys: Sequence[bytes], tick: int) -> np.ndarray:
        """Return the slots of keys, -1 for absent ones, and mark them as used."""
        get = self.slot_of.get
        slots = np.fromiter((get(k, -1) for k in keys), np.int64, len(keys))
        self.used[slots[slots >= 0]] = self.last_used = tick
        return slots

    def resize(self, n_rows: int) -> None:
        """Change the number of slots; those in use keep their rows."""
        n = len(self.key_of)
        arena = torch.empty(
            (n_rows, *self.arena.shape[1:]),
            dtype=self.arena.dtype,
            device=self.arena.device,
        )
        arena[:n] = self.arena[:n]
        self.arena = arena
        self.used = np.concatenate([self.used[:n], np.zeros(n_rows - n, np.int64)])

    def free(self, n: int, oldest_active: int) -> list[int]:
        """Find at most `n` slots: unused ones first, then the least recently used.

        Slots that a running fit has asked for are not taken: it has noted where its
        rows lie, and would read those of another image.
        """
        begin = len(self.key_of)
        free = list(range(begin, min(len(self.arena), begin + n)))
        if len(free) < n and begin:
            order = np.argsort(self.used[:begin], kind="stable")[: n - len(free)]
            free += order[self.used[order] < oldest_active].tolist()
        return free

    def assign(self, keys: Sequence[bytes], oldest_active: int) -> np.ndarray:
        """Assign slots to new keys while there are any; return -1 for the others."""
        slots = np.full(len(keys), -1, np.int64)
        fresh = [i for i, key in enumerate(keys) if key not in self.slot_of]
        free = self.free(len(fresh), oldest_active)
        for i, slot in zip(fresh, free, strict=False):
            key = keys[i]
            if key in self.slot_of:  # the same image occurs twice in this batch
                continue
            if slot < len(self.key_of):
                del self.slot_of[self.key_of[slot]]
                self.key_of[slot] = key
            else:
                self.key_of.append(key)
            self.slot_of[key] = slot
            slots[i] = slot
        return slots


class Memory:
    """Rows of activations within a budget, by namespace and key. Not thread-safe.

    Time is counted in ticks, one per operation. A fit that is running holds the tick at
    which it began: what was used since then is not dropped.

    Parameters
    ----------
    max_bytes : int or "auto"
        The most memory that rows may take, as for `ActivationCache`.
    """

    def __init__(self, max_bytes: int | str) -> None:
        self.max_bytes = max_bytes
        self.budget: int | None = None
        self.tick = 0
        self.active: dict[int, int] = {}
        self.spaces: dict[str, _Space] = {}

    def open(self) -> int:
        """Begin a fit or a prediction; what it asks for stays until :meth:`close`."""
        self.tick += 1
        self.active[self.tick] = self.tick
        return self.tick

    def close(self, number: int) -> None:
        """End what :meth:`open` began."""
        self.active.pop(number, None)

    def clear(self) -> None:
        """Forget all rows; running fits stay registered."""
        self.spaces.clear()
        self.budget = None

    def n_bytes(self, namespace: str | None = None) -> int:
        """Count the bytes of a namespace, or of all."""
        spaces = self.spaces
        if namespace is not None:
            spaces = {n: s for n, s in spaces.items() if n == namespace}
        return sum(space.n_bytes() for space in spaces.values())

    def find(self, namespace: str, keys: Sequence[bytes]) -> np.ndarray:
        """Return the slots of keys, -1 for absent ones, and mark them as used."""
        space = self.spaces.get(namespace)
        if space is None:
            return np.full(len(keys), -1, np.int64)
        self.tick += 1
        return space.slots(keys, self.tick)

    def rows(self, namespace: str, slots: np.ndarray) -> torch.Tensor:
        """Return a copy of the activations in these slots."""
        arena = self.spaces[namespace].arena
        return arena.index_select(0, torch.from_numpy(slots).to(arena.device))

    def reserve(self, namespace: str, like: torch.Tensor, n_rows: int) -> None:
        """Make room for more rows of the shape of ``like[0]``, within the budget."""
        space = self.spaces.setdefault(namespace, _Space(like))
        space.last_used = self.tick
        wanted = len(space.key_of) + n_rows
        if wanted <= len(space.arena):
            return
        if self.budget is None:
            self.budget = resolve_budget(self.max_bytes, like.device)
        others = self._make_room(namespace, wanted * space.row_bytes, self.budget)
        most = max(0, self.budget - others) // space.row_bytes
        if min(wanted, most) > len(space.arena):
            space.resize(min(wanted, most))

    def _make_room(self, namespace: str, n_bytes: int, budget: int) -> int:
        """Drop namespaces that no running fit uses, the least recently used first.

        Stops as soon as `n_bytes` fit. Returns the bytes of the namespaces that stay.
        """
        others = [(s.last_used, n) for n, s in self.spaces.items() if n != namespace]
        total = sum(self.spaces[name].n_bytes() for _, name in others)
        for last_used, name in sorted(others):
            if total + n_bytes <= budget:
                break
            if last_used < self._oldest_active():
                total -= self.spaces.pop(name).n_bytes()
        return total

    def put(
        self, namespace: str, keys: Sequence[bytes], rows: torch.Tensor
    ) -> np.ndarray:
        """Keep rows while there is room; return their slots, -1 for the others."""
        space = self.spaces[namespace]
        slots = space.assign(keys, self._oldest_active())
        new = np.flatnonzero(slots >= 0)
        if len(new):
            at = torch.from_numpy(slots[new]).to(space.arena.device)
            kept = rows[torch.from_numpy(new).to(rows.device)]
            space.arena[at] = kept.to(space.arena.device)
        self.tick += 1
        return space.slots(keys, self.tick)

    def _oldest_active(self) -> int:
        return min(self.active.values(), default=self.tick + 1)
