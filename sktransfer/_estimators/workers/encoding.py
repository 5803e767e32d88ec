"""Images encoded in shards, by joblib's workers or by the ranks of a job."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from joblib import effective_n_jobs
from joblib.parallel import get_active_backend
from sklearn.utils.parallel import Parallel, delayed

from sktransfer._activations.cache import ActivationCache, CacheInfo, resolve_cache
from sktransfer._estimators.workers.ranks import telling_ranks
from sktransfer._estimators.workers.shards import cut_shards, take
from sktransfer._feedback import Bar
from sktransfer._processes.ranks import find_rank
from sktransfer._training.image_sets import sum_info
from sktransfer._training.ranks.group import join_group

if TYPE_CHECKING:
    from sktransfer._estimators.backbone import Pretrained
    from sktransfer._images.streams.ahead import Images


@dataclass(frozen=True)
class Job:
    """What every shard of a set must know; decided on the whole set.

    Attributes
    ----------
    estimator : Pretrained
        Knows the shape of the images, and all that follows from it.

    n_images : int
        Of the whole set.

    seed : int
        Of a network with random weights.

    cache : ActivationCache
        Has the folder of the caller, and no memory.

    name : str
        Different for each job.
    """

    estimator: Pretrained
    n_images: int
    seed: int
    cache: ActivationCache
    name: str

    def encode(self, images: Images, cache: ActivationCache) -> CacheInfo:
        """Encode some of the images."""
        return self.estimator._encode(images, self.n_images, self.seed, cache)


# The cache of the job that this worker encodes: it knows the files of the folder, which
# each shard would read again otherwise. Of another job the folder may be another, or
# may have been deleted in between.
_last: tuple[str, ActivationCache] | None = None
_lock = threading.Lock()


def encode(
    estimator: Pretrained, X: Any, cache: ActivationCache, n_jobs: int | None
) -> CacheInfo:
    """Encode images in this process, over workers, or over the ranks of a job.

    Parameters
    ----------
    estimator : Pretrained
        Need not be fitted.

    X : array-like
        Images, as for its ``fit``.

    cache : ActivationCache
        Where activations are kept.

    n_jobs : int or None
        As in joblib.

    Returns
    -------
    CacheInfo
        Of all processes together.

    Raises
    ------
    ValueError
        If several processes are to fill a cache without a path, if `n_jobs` is given in
        one of several ranks, or as :meth:`ActivationCache.warm`.
    """
    n_ranks, n_workers = find_rank().n_ranks, _count_workers(n_jobs)
    if n_ranks > 1:
        with telling_ranks():
            _refuse_workers(n_jobs, n_ranks)
            return _encode_in_ranks(estimator, X, cache)
    if n_workers > 1:
        return _encode_in_workers(estimator, X, cache, n_jobs, n_workers)
    estimator._validate_params()  # type: ignore[attr-defined]
    estimator._resolve_device()  # type: ignore[attr-defined] # for its errors
    fresh, images, seed = estimator._prepare_encoding(X)
    return fresh._encode(images, len(images), seed, cache)


def _count_workers(n_jobs: int | None) -> int:
    """Count the processes that joblib would use; 1 if its workers are threads.

    Threads would wait for one another here, and torch has its own.
    """
    n_workers = int(effective_n_jobs(n_jobs))
    backend, _ = get_active_backend()
    return 1 if getattr(backend, "supports_sharedmem", False) else n_workers


def _refuse_workers(n_jobs: int | None, n_ranks: int) -> None:
    if n_jobs not in (None, 1):
        raise ValueError(
            f"n_jobs={n_jobs} in one of {n_ranks} ranks: these share the images "
            "already; leave n_jobs out."
        )


def _open_folder(cache: ActivationCache, n_processes: int) -> Path:
    """Return the folder of a cache, which must have one, as every process finds it."""
    if cache.path is None:
        raise ValueError(
            f"{cache!r} is in memory alone, where {n_processes} processes cannot share "
            "it; pass ActivationCache(path=...), or n_jobs=1."
        )
    cache._tiers.prepare()  # for its errors
    return Path(cache.path).absolute()


def _encode_in_ranks(
    estimator: Pretrained, X: Any, cache: ActivationCache
) -> CacheInfo:
    """Encode the shards of this rank; return when all ranks have encoded theirs."""
    rank = find_rank()
    _open_folder(cache, rank.n_ranks)
    fresh, images, seed = estimator._prepare_encoding(X)
    device, _ = fresh._resolve_device()  # type: ignore[attr-defined]
    group = join_group(device)
    assert group is not None
    verbose, fresh.verbose = int(fresh.verbose), 0  # type: ignore[attr-defined]
    job = Job(fresh, len(images), seed, cache, "")
    mine = cut_shards(images, rank.n_ranks)[rank.number :: rank.n_ranks]
    infos = []
    with Bar("encode", sum(s.stop - s.start for s in mine), verbose) as bar:
        for some in mine:
            infos.append(job.encode(take(images, some), cache))
            bar.advance(some.stop - some.start)
    of_ranks = group.meet(_add_up(infos))
    return _add_up(of_ranks)._replace(n_bytes=sum(info.n_bytes for info in of_ranks))


def _encode_in_workers(
    estimator: Pretrained,
    X: Any,
    cache: ActivationCache,
    n_jobs: int | None,
    n_workers: int,
) -> CacheInfo:
    """Encode all shards in joblib's workers."""
    path = _open_folder(cache, n_workers)
    fresh, images, seed = estimator._prepare_encoding(X)
    verbose, fresh.verbose = int(fresh.verbose), 0  # type: ignore[attr-defined]
    fresh.activation_cache = None  # type: ignore[attr-defined] # need not travel
    # No memory: it would be taken from each worker, and never asked for.
    own = ActivationCache(0, path=path, max_disk_bytes=cache.max_disk_bytes)
    job = Job(fresh, len(images), seed, own, secrets.token_hex(8))
    shards = cut_shards(images, n_workers)
    with Bar("encode", len(images), verbose) as bar:
        infos = []
        for n_done, info in _run(job, images, shards, n_jobs):
            bar.advance(n_done)
            infos.append(info)
    return _add_up(infos)


def _run(
    job: Job, images: Images, shards: Sequence[slice], n_jobs: int | None
) -> Iterator[tuple[int, CacheInfo]]:
    """Yield the number of images of each shard that is done, and what was done."""
    backend, _ = get_active_backend()
    can_stream = getattr(backend, "supports_return_generator", False)
    parallel = Parallel(
        n_jobs=n_jobs,
        return_as="generator_unordered" if can_stream else "list",
        # Else joblib copies the pixels of all shards to files, to be mapped.
        max_nbytes=None,
    )
    # Shards are cut when they are sent, so that few of them are held at a time.
    yield from parallel(delayed(_encode_shard)(job, take(images, s)) for s in shards)


def _encode_shard(job: Job, images: Images) -> tuple[int, CacheInfo]:
    """Encode a shard in a worker."""
    global _last
    with _lock:
        if _last is None or _last[0] != job.name:
            resolve_cache(job.cache)  # opens the folder
            _last = job.name, job.cache
        cache = _last[1]
    return len(images), job.encode(images, cache)


def _add_up(infos: Sequence[CacheInfo]) -> CacheInfo:
    """Add up what was done for several shards, which lie in one place."""
    return sum_info(infos)._replace(
        n_bytes=max((info.n_bytes for info in infos), default=0),
        n_bytes_on_disk=max((info.n_bytes_on_disk for info in infos), default=0),
    )
