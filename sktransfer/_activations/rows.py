"""The activations of one set of images: found in the cache, or computed and kept."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import torch

from sktransfer._activations.cache import ActivationCache, CacheInfo
from sktransfer._activations.keys import KEY_BYTES, get_hashes, hash_images, hash_views
from sktransfer._activations.prefix import OtherBatchesError, Prefix
from sktransfer._activations.storage.tiers import count_block_rows
from sktransfer._feedback import Bar
from sktransfer._images.streams.ahead import Images
from sktransfer._images.views import View
from sktransfer._networks.fixed_batches import halve
from sktransfer._networks.memory import name_shortage

# Seconds between two looks at what another process has finished, and seconds after
# which a process that has published nothing is no longer waited for.
POLL_SECONDS = 0.02
PATIENCE_SECONDS = 300

# Keys that are looked for at a time: those of a million images would take 100 MB.
KEYS_AT_A_TIME = 2**14

# Training batches may be smaller than batches of the frozen stages. As many of them are
# gathered as fill about this many batches of the frozen stages.
BATCHES_GATHERED = 4


class ActivationRows:
    """The activations of one set of images behind one prefix, by row and view.

    Training asks for the same rows in every epoch. So each row remembers where its
    activation lies in memory (its slot), and is hashed and looked up only once.

    Parameters
    ----------
    prefix : Prefix
        Computes what is missing.

    images : Images of shape (n_images, height, width, n_channels)
        Read when they have to be computed.

    views : sequence of View
        How an image may be shown.

    cache : ActivationCache or None
        Where activations are kept; without it all are computed each time.

    verbose : int, default=0
        From 1 on, a bar shows the progress of computing what is missing.
    """

    def __init__(
        self,
        prefix: Prefix,
        images: Images,
        views: Sequence[View],
        cache: ActivationCache | None,
        verbose: int = 0,
    ) -> None:
        self.prefix, self.images, self.cache = prefix, images, cache
        self.verbose = verbose
        self.views = tuple(views)
        self.batch_size = prefix.batch_size(images.shape[1:])
        self.hits = self.misses = 0
        self.saved = 0.0
        self.is_full = False
        self.slots = np.full((len(self.views), len(images)), -1, np.int64)
        self.hashes = get_hashes(images)
        self.view_hashes = hash_views(self.views)
        if cache is not None:
            self.namespace = prefix.namespace(images.shape[1:])
            self.tiers = cache._tiers
            self.number = self.tiers.open()
            self.n_cleared = self.tiers.n_cleared

    def close(self) -> None:
        """Allow the cache to drop what these rows used."""
        if self.cache is not None:
            self.tiers.close(self.number)

    def ensure_all(
        self, views: Iterable[int] | None = None, rows: np.ndarray | None = None
    ) -> None:
        """Bring every image into the cache, as far as there is room.

        Parameters
        ----------
        views : iterable of int, default=None
            In which views, as positions in `views`; ``None`` means all.

        rows : ndarray of shape (n,), int, default=None
            Which images; ``None`` means all.
        """
        every_view = list(range(len(self.views)) if views is None else views)
        if rows is None:
            rows = np.arange(len(self.images))
        # An image in one view after the other: then it is read once for all of them.
        self.ensure(np.repeat(rows, len(every_view)), np.tile(every_view, len(rows)))

    def ensure(self, rows: np.ndarray, chosen: np.ndarray) -> None:
        """Bring the activations of these rows into the cache, as far as there is room.

        Parameters
        ----------
        rows : ndarray of shape (n,), int
            Which images.

        chosen : ndarray of shape (n,), int
            The view of each, as a position in `views`.
        """
        if self.cache is None:
            return
        while True:
            try:
                with name_shortage():
                    self._ensure(rows, chosen)
                return
            except (torch.OutOfMemoryError, OtherBatchesError) as error:
                self._take_smaller_batches(error)

    def _ensure(self, rows: np.ndarray, chosen: np.ndarray) -> None:
        """Bring activations into the cache."""
        self._forget_if_cleared()
        n_fresh = 0
        unknown = np.flatnonzero(self.slots[chosen, rows] < 0)
        with ExitStack() as stack:
            bar: Bar | None = None
            for at in range(0, len(unknown), KEYS_AT_A_TIME):
                some = unknown[at : at + KEYS_AT_A_TIME]
                keys = self._make_keys(rows[some], chosen[some])
                missing = _list_missing(keys, self.tiers.slots(self.namespace, keys))
                if missing:
                    # Of later ones, as many are expected to be missing as of these.
                    n_later = len(unknown) - at - len(some)
                    n_later = n_later * len(missing) // len(some)
                    total = len(missing) + n_later
                    bar = bar or stack.enter_context(Bar("encode", total, self.verbose))
                    which, new = some[missing], [keys[i] for i in missing]
                    n_fresh += self._compute(
                        rows[which], chosen[which], new, n_later, bar
                    )
                    # Other processes may have computed some: these are on disk alone.
                    self.tiers.load(self.namespace, new, self.prefix.device)
                slots = self.tiers.slots(self.namespace, keys)
                self.slots[chosen[some], rows[some]] = slots
        n_there = int((self.slots[chosen, rows] >= 0).sum())
        self._count_hits(max(0, n_there - n_fresh))

    def gather_views(self, rows: np.ndarray, views: Sequence[int]) -> torch.Tensor:
        """Return activations in several views, (n, n_views, *activation), float32.

        An image is read once for all of them.
        """
        every_row, chosen = np.repeat(rows, len(views)), np.tile(views, len(rows))
        gathered = self.gather(every_row, chosen)
        return gathered.reshape(len(rows), len(views), *gathered.shape[1:])

    def gather(self, rows: np.ndarray, chosen: np.ndarray) -> torch.Tensor:
        """Return the activations of these rows and views, (n, *activation), float32."""
        while True:
            try:
                with name_shortage():
                    return self._gather(rows, chosen)
            except (torch.OutOfMemoryError, OtherBatchesError) as error:
                self._take_smaller_batches(error)
            self.ensure(rows, chosen)

    def _gather(self, rows: np.ndarray, chosen: np.ndarray) -> torch.Tensor:
        """Fetch activations, or compute them."""
        if self.cache is None:
            return self.prefix.encode(self.images, rows, self.views, chosen).float()
        self._forget_if_cleared()
        slots = self.slots[chosen, rows]
        absent = np.flatnonzero(slots < 0)
        if len(absent) == len(slots):
            return self._read_or_compute(rows, chosen).float()
        found = self.tiers.rows(self.namespace, np.maximum(slots, 0), self.n_cleared)
        if found is None:  # another thread has cleared the cache since the last look
            return self._gather(rows, chosen)
        found = found.float()
        if len(absent):
            missed = self._read_or_compute(rows[absent], chosen[absent]).float()
            found[torch.from_numpy(absent).to(found.device)] = missed
        return found

    def batches(
        self, rows: np.ndarray, chosen: np.ndarray, sizes: Sequence[int]
    ) -> Iterator[torch.Tensor]:
        """Yield activations in batches of about one size, in order.

        Several small batches are gathered at once. What is not kept passes the frozen
        stages in batches of their own size, which a few images would leave mostly
        padded.
        """
        together = max(1, BATCHES_GATHERED * self.batch_size // max(1, *sizes))
        first = 0
        for i in range(0, len(sizes), together):
            some = list(sizes[i : i + together])
            at = slice(first, first := first + sum(some))
            if at.start == first:  # a share of batches may be empty
                yield from [self._gather_none(rows)] * len(some)
            else:
                yield from torch.split(self.gather(rows[at], chosen[at]), some)

    def _gather_none(self, rows: np.ndarray) -> torch.Tensor:
        """Return no activations, (0, *activation); only others show their shape."""
        some = rows[:1] if len(rows) else np.zeros(1, np.int64)
        return self.gather(some, np.zeros(1, np.int64))[:0]

    def info(self) -> CacheInfo:
        """Return what the cache did for these rows."""
        if self.cache is None:
            return CacheInfo(0, 0, 0, 0.0)
        in_memory, on_disk = self.tiers.n_bytes(self.namespace)
        return CacheInfo(self.hits, self.misses, in_memory, self.saved, on_disk)

    def _read_or_compute(self, rows: np.ndarray, chosen: np.ndarray) -> torch.Tensor:
        """Read activations that did not fit into memory from disk, or compute them."""
        keys = self._make_keys(rows, chosen)
        found_rows, found = self.tiers.read(self.namespace, keys)
        self._count_hits(int(found.sum()))
        left = np.flatnonzero(~found)
        if found_rows is not None:
            found_rows = found_rows.to(self.prefix.device)
            if not len(left):
                return found_rows
        computed = self._encode(rows[left], chosen[left])
        if found_rows is None:
            return computed
        found_rows[torch.from_numpy(left).to(computed.device)] = computed
        return found_rows

    def _forget_if_cleared(self) -> None:
        """Forget all slots after the cache was cleared: they hold other rows now."""
        if self.cache is not None and self.n_cleared != self.tiers.n_cleared:
            self.slots[:] = -1
            self.is_full = False
            self.n_cleared = self.tiers.n_cleared

    def _take_smaller_batches(self, error: Exception) -> None:
        """Go on with smaller batches, after one found too little memory.

        Activations of larger ones may differ in their last bits: they have another name
        in the cache, and are not used any more.
        """
        shape = self.images.shape[1:]
        if isinstance(error, torch.OutOfMemoryError):
            self.prefix.most_at_once = halve(self.batch_size, error, shape)
        self.batch_size = self.prefix.batch_size(shape)
        self.slots[:] = -1
        self.is_full = False
        if self.cache is not None:
            self.namespace = self.prefix.namespace(shape)

    def _make_keys(self, rows: np.ndarray, chosen: np.ndarray) -> list[bytes]:
        """Make the keys of images in these views; an image is hashed once."""
        hashes = hash_images(self.images, rows, self.hashes)
        keys = (hashes ^ self.view_hashes[chosen]).tobytes()
        return [keys[i : i + KEY_BYTES] for i in range(0, len(keys), KEY_BYTES)]

    def _compute(
        self,
        rows: np.ndarray,
        chosen: np.ndarray,
        keys: list[bytes],
        n_later: int,
        bar: Bar,
    ) -> int:
        """Compute what no process has, while there is room; return how many are kept.

        About `n_later` more will be computed after these.

        What another process is computing is left to it, and waited for.
        """
        n_kept = 0
        # At first a single batch: the size of a block is known once rows are there.
        most = looked_at = self.batch_size
        pending, waited_since = np.arange(len(rows)), time.monotonic()
        while len(pending) and not self.is_full:
            # A process may hang while it holds its leases; then the work is done twice.
            alone = time.monotonic() - waited_since > PATIENCE_SECONDS
            next_keys = [keys[i] for i in pending[:looked_at]]
            with self.tiers.turn(self.namespace, next_keys, most, alone) as turn:
                mine, done = turn
                if mine:
                    at = pending[mine]
                    activations = self._encode(rows[at], chosen[at], bar)
                    fresh = [keys[i] for i in at]
                    kept = self.tiers.keep(
                        self.namespace, fresh, activations, len(pending) + n_later
                    )
                    self.is_full = kept < len(at)
                    n_kept += kept
                    most = self._choose_block(activations)
            bar.advance(len(done))
            if mine or done:
                waited_since = time.monotonic()
                pending = np.delete(pending, mine + done)
                looked_at = most
            elif looked_at < len(pending):
                # Others are computing all of these: look further ahead.
                looked_at *= 4
            else:
                time.sleep(POLL_SECONDS)
        return n_kept

    def _choose_block(self, activations: torch.Tensor) -> int:
        """Choose how many images to compute between two looks: whole batches."""
        size = self.batch_size
        return max(size, count_block_rows(activations) // size * size)

    def _encode(
        self, rows: np.ndarray, chosen: np.ndarray, bar: Bar | None = None
    ) -> torch.Tensor:
        """Compute activations; count and time them."""
        assert self.cache is not None
        started = time.perf_counter()
        activations = self.prefix.encode(self.images, rows, self.views, chosen, bar)
        # Padding takes as long as images do.
        n_padded = -(-len(rows) // self.batch_size) * self.batch_size
        seconds_each = (time.perf_counter() - started) / n_padded
        self.misses += len(rows)
        self.cache._count(0, len(rows), seconds_each)
        return activations

    def _count_hits(self, hits: int) -> None:
        assert self.cache is not None
        self.hits += hits
        self.saved += self.cache._count(hits)


def _list_missing(keys: Sequence[bytes], slots: np.ndarray) -> list[int]:
    """List the positions of keys without a slot, in order and each key once."""
    first: dict[bytes, int] = {}
    for i in np.flatnonzero(slots < 0).tolist():
        first.setdefault(keys[i], i)
    return list(first.values())
