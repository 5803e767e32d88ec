"""The activation cache: in memory, and on disk where a folder is given."""

from __future__ import annotations

import math
import os
import threading
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from sktransfer._activations.storage.folder import refuse_file
from sktransfer._activations.storage.identity import (
    compare_identity,
    expect_identity,
    read_identity,
)
from sktransfer._activations.storage.tiers import Tiers
from sktransfer._feedback import warn
from sktransfer._processes.workers import is_worker


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
        Estimated time saved: hits times the shortest time measured for one activation;
        0 if none was computed in this process.

    n_bytes_on_disk : int
        Bytes held on disk now.
    """

    hits: int
    misses: int
    n_bytes: int
    seconds_saved: float
    n_bytes_on_disk: int = 0

    def __str__(self) -> str:
        disk = (
            f", {self.n_bytes_on_disk / 2**20:.1f} on disk"
            if self.n_bytes_on_disk
            else ""
        )
        # Nobody knows how long other processes took for what they computed.
        saved = (
            f", about {self.seconds_saved:.1f} s saved" if self.seconds_saved else ""
        )
        return (
            f"{self.misses} activations computed, {self.hits} found "
            f"({self.n_bytes / 2**20:.1f} MiB in memory{disk}){saved}"
        )


CacheInfo.__module__ = "sktransfer"


class ActivationCache:
    """Keeps what frozen stages compute: no view of an image passes them twice.

    ``activation_cache="auto"`` means one cache in memory that all fits of the process
    share. A path means a cache that is also on disk. An object of this class is a
    separate cache, shared by the estimators that it is passed to and by their clones.

    Parameters
    ----------
    max_bytes : int or "auto", default="auto"
        The most memory that activations may take. ``"auto"``: a quarter of what is free
        when the first activation is kept.

    path : str or path-like, default=None
        Folder where activations are also kept, for other processes and later runs. It
        is created if it does not exist, and may be deleted while nothing uses it.

    max_disk_bytes : int or "auto", default="auto"
        The most bytes that files in the folder may take. ``"auto"``: half of the bytes
        that are free on the disk or already taken by these files.

    Raises
    ------
    ValueError
        If a limit is negative, `path` is a file, or `max_disk_bytes` has no `path`.
        When the folder is first used: if it holds other things, belongs to another
        user who does not share it with a group, or may be written to by everybody.

    Notes
    -----
    An activation is found again only for the same pixels and dtype, or the same content
    of a file, read in the same way by the same versions, and the same view, image size,
    stages with the same weights and statistics, number format, kind of processor and
    version of torch. When memory or disk is full, the least recently used activations
    go first. The files are safetensors, which hold only numbers, with a checksum for
    each row; damaged rows are computed again. Processes that need the same images share
    the work, and each of them may be ended at any time.

    The shares of memory and disk that ``"auto"`` takes are customary, not tuned.

    Examples
    --------
    >>> from sktransfer import ActivationCache, ResNetTransferClassifier
    >>> cache = ActivationCache(max_bytes=2 * 2**30)
    >>> clf = ResNetTransferClassifier("mini_resnet18", activation_cache=cache)
    """

    __module__ = "sktransfer"

    def __init__(
        self,
        max_bytes: int | str = "auto",
        *,
        path: str | os.PathLike[str] | None = None,
        max_disk_bytes: int | str = "auto",
    ) -> None:
        _check_bytes("max_bytes", max_bytes)
        _check_bytes("max_disk_bytes", max_disk_bytes)
        if path is None and max_disk_bytes != "auto":
            raise ValueError(
                f"max_disk_bytes={max_disk_bytes!r} limits nothing without a folder; "
                "pass path, or leave it out."
            )
        if path is not None:
            refuse_file("path", path)
        self.max_bytes = max_bytes
        self.path = path
        self.max_disk_bytes = max_disk_bytes
        self._start()

    def _start(self) -> None:
        self._lock = threading.Lock()
        self._reset_counts()
        self._tiers = Tiers(self.max_bytes, self.path, self.max_disk_bytes)

    def _reset_counts(self) -> None:
        self._hits = self._misses = 0
        self._saved = 0.0
        self._seconds_each = math.inf

    def __repr__(self) -> str:
        path = disk = ""
        if self.path is not None:
            path = f", path={str(self.path)!r}"
        if self.max_disk_bytes != "auto":
            disk = f", max_disk_bytes={self.max_disk_bytes!r}"
        return f"{type(self).__name__}(max_bytes={self.max_bytes!r}{path}{disk})"

    def __deepcopy__(self, memo: object) -> ActivationCache:
        # clone() copies parameters; a copy would share nothing.
        return self

    def __sklearn_clone__(self) -> ActivationCache:
        return self

    def __getstate__(self) -> dict[str, object]:
        names = ("max_bytes", "path", "max_disk_bytes")
        state = {name: getattr(self, name) for name in names}
        identity = identify_folder(self)
        return state if identity is None else {**state, "identity": identity}

    def __setstate__(self, state: dict[str, object]) -> None:
        state = dict(state)
        identity = state.pop("identity", None)
        vars(self).update(state)
        self._start()
        expect_folder(self, identity)

    @staticmethod
    def get(activation_cache: Any) -> ActivationCache | None:
        """Return the cache that estimators with this `activation_cache` use.

        Parameters
        ----------
        activation_cache : "auto", path, ActivationCache or None
            As for the estimators.

        Returns
        -------
        ActivationCache or None
            ``None`` if they use none.

        Raises
        ------
        TypeError
            If `activation_cache` is of another type.
        ValueError
            If it is the path of a file, or of a folder that holds other things or is
            not to be trusted.

        Examples
        --------
        >>> from sktransfer import ActivationCache
        >>> ActivationCache.get("auto").clear()
        """
        return resolve_cache(activation_cache)

    def limit(self, max_bytes: int | str) -> None:
        """Empty the memory and set another limit for it; files stay.

        Parameters
        ----------
        max_bytes : int or "auto"
            As in the constructor.

        Raises
        ------
        ValueError
            If `max_bytes` is negative.
        """
        _check_bytes("max_bytes", max_bytes)
        self.max_bytes = max_bytes
        self._tiers.limit(max_bytes)

    def info(self) -> CacheInfo:
        """Report what the cache holds, and what it did since it was made or cleared.

        Returns
        -------
        CacheInfo
            Counts, bytes and seconds of all fits and predictions of this process.
        """
        self._tiers.prepare()
        in_memory, on_disk = self._tiers.n_bytes()
        with self._lock:
            return CacheInfo(self._hits, self._misses, in_memory, self._saved, on_disk)

    def clear(self) -> None:
        """Forget all activations and counts; delete this cache's files on disk.

        Other files in the folder stay.
        """
        self._tiers.clear()
        with self._lock:
            self._reset_counts()

    def warm(self, estimator: Any, X: Any, *, n_jobs: int | None = None) -> CacheInfo:
        """Compute the activations that a fit or a prediction will ask for.

        Every view of every image passes the estimator's frozen stages, for instance
        before a search in several processes that share a folder.

        Parameters
        ----------
        estimator : TransferClassifier or FeatureExtractor
            Need not be fitted. Its `activation_cache` is not used.

        X : array-like
            Images, as for the estimator's ``fit``.

        n_jobs : int, default=None
            Number of worker processes that share the images; -1 means one for each
            core. ``None``: 1, unless a ``joblib.parallel_config`` says otherwise, which
            may also name another engine, such as ``"dask"``. Leave it out in the ranks
            of ``torchrun``: these share the images by themselves, and all of them
            return once every activation is there.

        Returns
        -------
        CacheInfo
            What was found and what was computed, in all processes together.

        Raises
        ------
        TypeError
            If `estimator` has no frozen stages.
        ValueError
            If a parameter of `estimator` or `X` is not as its ``fit`` takes it, if
            several processes are to fill a cache without a `path`, or if `n_jobs` is
            given in one of several ranks.

        Notes
        -----
        Workers and ranks take shards of a few hundred images each: paths travel to
        them, or the pixels of one shard. They compute the bits that one process
        computes. If a worker dies, all that it had written is there, at most the block
        of activations that it was computing is lost, and calling this again computes
        what is missing.
        """
        if not hasattr(estimator, "_warm_cache"):
            raise TypeError(
                f"estimator={estimator!r} has no frozen stages; pass a "
                "TransferClassifier or a FeatureExtractor."
            )
        info: CacheInfo = estimator._warm_cache(X, self, n_jobs)
        return info

    def _count(
        self, hits: int, misses: int = 0, seconds_each: float = math.inf
    ) -> float:
        """Add to the counts; return the seconds that the hits saved.

        `seconds_each` is the time that computing one of the misses took. The shortest
        counts: a busy moment of the machine would look like time saved later.
        """
        with self._lock:
            self._hits += hits
            self._misses += misses
            self._seconds_each = min(self._seconds_each, seconds_each)
            saved = self._estimate(hits)
            self._saved += saved
            return saved

    def _estimate(self, hits: int) -> float:
        """Estimate the seconds that so many hits saved."""
        is_known = math.isfinite(self._seconds_each)
        return hits * self._seconds_each if is_known else 0.0


def _check_bytes(name: str, value: int | str) -> None:
    """Raise a ValueError unless this is a limit in bytes."""
    if value != "auto" and (isinstance(value, str) or value < 0):
        raise ValueError(
            f"{name}={value!r} must be 'auto' or a number of bytes (0 or more)."
        )


# What activation_cache="auto" means: one cache for all fits of this process.
shared = ActivationCache()
# And what a path means: one cache for all fits of this process that name it.
_by_path: dict[Path, ActivationCache] = {}


def _check_path(activation_cache: Any) -> None:
    """Raise unless this can be the path of a folder."""
    ways = "'auto', the path of a folder, an ActivationCache or None"
    if not isinstance(activation_cache, str | os.PathLike):
        raise TypeError(f"activation_cache={activation_cache!r} must be {ways}.")
    if str(activation_cache).lower() in ("", "none", "off", "false"):
        raise ValueError(
            f"activation_cache={activation_cache!r} does not look like a folder; pass "
            f"{ways}, which means no cache."
        )
    refuse_file("activation_cache", activation_cache)


def resolve_cache(
    activation_cache: ActivationCache | str | os.PathLike[str] | None,
) -> ActivationCache | None:
    """Return the cache that an ``activation_cache`` parameter means, or None.

    Raises
    ------
    TypeError
        If it is of another type.
    ValueError
        If a path is a file, or a folder that holds other things or is not to be
        trusted.
    """
    if activation_cache is None or isinstance(activation_cache, ActivationCache):
        cache = activation_cache
    elif activation_cache == "auto":
        cache = shared
    else:
        _check_path(activation_cache)
        path = Path(activation_cache).absolute()
        cache = _by_path.setdefault(path, ActivationCache(path=path))
    if cache is not None:
        cache._tiers.prepare()
        if cache.path is not None and is_worker():
            compare_identity(Path(cache.path).absolute(), partial(warn, of_rank=True))
    return cache


def make_folder(activation_cache: Any) -> None:
    """Make the folder that a parameter means, so that it has a token; or do nothing."""
    # What is wrong with it is said by the fit.
    with suppress(TypeError, ValueError, OSError):
        resolve_cache(activation_cache)


def identify_folder(activation_cache: Any) -> str | None:
    """Return the token of the folder that a parameter means; None if there is none."""
    path = getattr(activation_cache, "path", activation_cache)
    if not isinstance(path, str | os.PathLike) or path == "auto":
        return None
    return read_identity(Path(path).absolute())


def expect_folder(activation_cache: Any, identity: Any) -> None:
    """Note which folder the parameter of an estimator meant where it was pickled."""
    path = getattr(activation_cache, "path", activation_cache)
    if isinstance(identity, str) and isinstance(path, str | os.PathLike):
        expect_identity(Path(path).absolute(), identity)
