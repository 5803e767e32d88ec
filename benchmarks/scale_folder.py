"""Workers that share a folder of activations, one event after the other.

For `simulate_scale.py`. The workers do what `ActivationRows`, `Tiers`, `Folder` and
`Leases` do: keys in windows, a first small block, leases on the next keys that nobody
has, a listing before and after them, a file per block, and a look further ahead, or a
short sleep, where others hold all. What each step costs was measured; encoding takes as
long as it is told to.
"""

from __future__ import annotations

import heapq
from collections import Counter, deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scale_costs import Costs

from sktransfer._activations.rows import KEYS_AT_A_TIME, POLL_SECONDS
from sktransfer._activations.storage.tiers import BLOCK_ROWS

# How workers share a set: all of them take from one list; each has its own images, in
# one folder; or each has its own images and folder.
LAYOUTS = ("one list", "shards", "shards and folders")

# What a worker waits for: seconds of a core, seconds of nothing, a lock, its end.
Event = tuple[str, float]


class System(NamedTuple):
    """Where the workers run.

    Attributes
    ----------
    round_trip : float
        Seconds of a question to the file system beyond what was measured on a local
        one: per lock, per file opened or renamed, and per 1,000 names listed.

    n_cores : int or None
        Of the machine that all workers share; None if each has one of its own.

    first_block : int
        Images of a first block.
    """

    round_trip: float = 0.0
    n_cores: int | None = None
    first_block: int = 32


@dataclass
class Folder:
    """The files and locks that some workers share: who holds and who wrote each key."""

    file_of: np.ndarray
    holder: np.ndarray
    writer: np.ndarray
    files: list[tuple[int, int]]
    n_held: int = 0
    is_locked: bool = False


class Workers:
    """A simulation of workers that encode one set.

    Parameters
    ----------
    n_images, n_workers : int
        How many there are.

    seconds_each : float or ndarray of shape (n_workers,)
        To encode an image.

    costs : Costs
        Of everything else.

    layout : str
        One of `LAYOUTS`.

    system : System
        Where they run.
    """

    def __init__(
        self,
        n_images: int,
        n_workers: int,
        seconds_each: float | np.ndarray,
        costs: Costs,
        layout: str = LAYOUTS[0],
        system: System | None = None,
    ) -> None:
        self.n_images, self.n_workers, self.costs = n_images, n_workers, costs
        self.layout, self.system = layout, system or System()
        self.seconds_each = np.broadcast_to(seconds_each, n_workers)
        n_folders = n_workers if layout == LAYOUTS[2] else 1
        # Folders of their own hold other keys, so that the arrays can be the same.
        file_of, holder, writer = np.full((3, n_images), -1, np.int64)
        self.folders = [Folder(file_of, holder, writer, []) for _ in range(n_folders)]
        self.n_known = np.zeros(n_workers, np.int64)
        self.n_computed = np.zeros(n_workers, np.int64)
        self.spent = Counter[str]()
        self.ended = np.zeros(n_workers)
        self.now = 0.0

    def run(self) -> float:
        """Return the seconds until the last worker has every row of its images."""
        waiting = [(0.0, i, self._work(i)) for i in range(self.n_workers)]
        heapq.heapify(waiting)
        cores = [0.0] * (self.system.n_cores or 0)
        queues = [deque[tuple[int, Generator[Event]]]() for _ in self.folders]
        while waiting:
            self.now, i, worker = heapq.heappop(waiting)
            kind, seconds = next(worker, ("end", 0.0))
            at, folder = self.now, self._folder(i)
            queue = queues[i if len(queues) > 1 else 0]
            if kind == "end":
                self.ended[i] = self.now
                continue
            if kind == "lock" and folder.is_locked:
                queue.append((i, worker))
                continue
            if kind == "lock":
                folder.is_locked = True
            if kind == "unlock":
                # The one that has waited longest has the lock now.
                folder.is_locked = bool(queue)
                if queue:
                    heapq.heappush(waiting, (at, *queue.popleft()))
            if kind == "core" and cores:
                at = max(at, heapq.heappop(cores))
                heapq.heappush(cores, at + seconds)
            heapq.heappush(waiting, (at + seconds, i, worker))
        return float(self.ended.max())

    def _folder(self, worker: int) -> Folder:
        return self.folders[worker if len(self.folders) > 1 else 0]

    def _spend(self, what: str, seconds: float) -> Event:
        self.spent[what] += seconds
        return "core", seconds

    def _work(self, i: int) -> Generator[Event]:
        """Encode window after window, and load what others have encoded."""
        begin, end = 0, self.n_images
        if self.layout != LAYOUTS[0]:
            begin = self.n_images * i // self.n_workers
            end = self.n_images * (i + 1) // self.n_workers
        costs, folder = self.costs, self._folder(i)
        for at in range(begin, end, KEYS_AT_A_TIME):
            window = np.arange(at, min(end, at + KEYS_AT_A_TIME))
            each = costs.hash_key + costs.find_in_memory
            yield self._spend("keys", len(window) * each)
            yield from self._compute(i, window)
            n_others = int((folder.writer[window] != i).sum())
            yield self._spend("load", n_others * (costs.load_row + costs.put_row))
        self.n_computed[i] = int((folder.writer == i).sum())

    def _compute(self, i: int, pending: np.ndarray) -> Generator[Event]:
        """Compute what no worker has, and wait for the rest."""
        folder, looked_at = self._folder(i), self.system.first_block
        most, is_done = looked_at, np.zeros(self.n_images, bool)
        while len(pending):
            some = pending[:looked_at]
            there = yield from self._find(i, some)
            mine = yield from self._take(i, some[~there], most)
            late = yield from self._find(i, mine)
            todo = mine[~late]
            if len(todo):
                yield "sleep", len(todo) * float(self.seconds_each[i])
                self.spent["encode"] += len(todo) * float(self.seconds_each[i])
                yield from self._publish(i, todo)
                most = BLOCK_ROWS
            yield from self._give_back(folder, mine)
            done = np.concatenate([some[there], mine])
            if len(done):
                is_done[done] = True
                pending = pending[~is_done[pending]]
                looked_at = most
            elif looked_at < len(pending):
                looked_at *= 4
            else:
                self.spent["wait"] += POLL_SECONDS
                yield "sleep", POLL_SECONDS

    def _find(self, i: int, keys: np.ndarray) -> Generator[Event, None, np.ndarray]:
        """Look keys up; list the folder if one is absent."""
        if not len(keys):
            return np.zeros(0, bool)
        costs, folder = self.costs, self._folder(i)
        each = costs.find_key + costs.find_in_memory
        yield self._spend("keys", len(keys) * each)
        if not self._knows(i, keys).all():
            trip, n_files = self.system.round_trip, len(folder.files)
            seconds = float(costs.list_folder(n_files)) + trip * (1 + n_files / 1000)
            yield self._spend("list", seconds)
            # Its own are known from writing them.
            new = [n for writer, n in folder.files[self.n_known[i] :] if writer != i]
            seconds = len(new) * (costs.read_file + 3 * trip)
            yield self._spend("index", seconds + sum(new) * costs.read_key)
            self.n_known[i] = n_files
        return self._knows(i, keys)

    def _knows(self, i: int, keys: np.ndarray) -> np.ndarray:
        folder = self._folder(i)
        files, writers = folder.file_of[keys], folder.writer[keys]
        knows: np.ndarray = (files >= 0) & ((files < self.n_known[i]) | (writers == i))
        return knows

    def _take(
        self, i: int, keys: np.ndarray, most: int
    ) -> Generator[Event, None, np.ndarray]:
        """Lock keys that no other worker holds."""
        folder = self._folder(i)
        if not len(keys):
            return keys
        yield "lock", 0.0
        is_free = folder.holder[keys] < 0
        mine = keys[is_free][:most]
        n_tried = len(keys)
        if len(mine) == most:
            n_tried = int(np.searchsorted(np.cumsum(is_free), most)) + 1
        costs, n_failed = self.costs, n_tried - len(mine)
        seconds = len(mine) * np.interp(folder.n_held, costs.n_held, costs.take)
        seconds += n_failed * np.interp(folder.n_held, costs.n_held, costs.fail)
        folder.holder[mine] = i
        folder.n_held += len(mine)
        yield self._spend("locks", float(seconds))
        yield "unlock", 0.0
        yield self._ask(n_tried)
        return mine

    def _give_back(self, folder: Folder, keys: np.ndarray) -> Generator[Event]:
        """Unlock keys."""
        if len(keys):
            yield "lock", 0.0
            each = np.interp(folder.n_held, self.costs.n_held, self.costs.give)
            folder.holder[keys] = -1
            folder.n_held -= len(keys)
            yield self._spend("locks", len(keys) * float(each))
            yield "unlock", 0.0
            yield self._ask(len(keys))

    def _ask(self, n_locks: int) -> Event:
        """Wait for the answers of a file system elsewhere, as others do at once."""
        seconds = n_locks * self.system.round_trip
        self.spent["answers"] += seconds
        return "sleep", seconds

    def _publish(self, i: int, keys: np.ndarray) -> Generator[Event]:
        """Write rows as a file, and note it."""
        costs, folder = self.costs, self._folder(i)
        each = costs.put_row + costs.write_row
        yield self._spend("write", len(keys) * each + 3 * self.system.round_trip)
        folder.file_of[keys] = len(folder.files)
        folder.writer[keys] = i
        folder.files.append((i, len(keys)))
