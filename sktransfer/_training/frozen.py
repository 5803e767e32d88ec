"""The stages that stay frozen throughout a fit: which, computed when, and said how."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import numpy as np

from sktransfer._activations.cache import ActivationCache, CacheInfo
from sktransfer._activations.prefix import Prefix
from sktransfer._activations.rows import ActivationRows
from sktransfer._images.views import AS_IT_IS, Augment, View, views_of
from sktransfer._networks.stages import Stages
from sktransfer._training.batches import ImageDataset
from sktransfer._training.schedule import Schedule, unfreeze_plan

Sets = tuple[ImageDataset, ImageDataset | None]


def n_always_frozen(
    stages: Stages, schedule: Schedule, unfreeze_depth: int, max_epochs: int
) -> int:
    """How many stages no epoch opens."""
    depth = max(unfreeze_plan(schedule, unfreeze_depth, max_epochs))
    return max(0, len(stages.names) - 1 - depth)


def views_of_images(augment: Augment, images: np.ndarray) -> tuple[View, ...] | None:
    """Every view of images (n, height, width, n_channels); None: there is no end."""
    return views_of(augment, *images.shape[1:3])


@contextmanager
def encoded(
    prefix: Prefix | None,
    sets: Sets,
    augment: Augment,
    cache: ActivationCache | None,
    verbose: int = 0,
) -> Iterator[Sets]:
    """The training and validation sets with activations, where these serve.

    Parameters
    ----------
    prefix : Prefix or None
        The stages that stay frozen; None where there are none.

    sets : tuple of ImageDataset
        For training, and for validation or None.

    augment : str, DrawnViews, callable or None
        Augmentation of the training set.

    cache : ActivationCache or None
        Where activations are kept.

    verbose : int, default=0
        From 1 on, a bar shows how computing them goes on.
    """
    train_set, valid_set = sets
    if prefix is None:
        yield sets
        return
    views = views_of_images(augment, train_set.images)
    with ExitStack() as stack:
        # The images set aside for validation are in the same array.
        known: dict[int, ActivationRows] = {}

        def with_activations(dataset: ImageDataset) -> ImageDataset:
            images = dataset.images
            if id(images) not in known:
                # Images to validate are shown in the first view, as they are.
                some = views or (AS_IT_IS,)
                known[id(images)] = ActivationRows(prefix, images, some, cache, verbose)
                stack.callback(known[id(images)].close)
            return dataset.changed(activations=known[id(images)])

        if views is not None:
            train_set = with_activations(train_set)
        if valid_set is not None:
            valid_set = with_activations(valid_set)
        yield train_set, valid_set


def warm(
    prefix: Prefix,
    images: np.ndarray,
    augment: Augment,
    cache: ActivationCache,
    verbose: int = 0,
) -> CacheInfo:
    """Have every view of every image in the cache, as far as there is room."""
    views = views_of_images(augment, images) or (AS_IT_IS,)
    activations = ActivationRows(prefix, images, views, cache, verbose)
    rows = np.arange(len(images))
    try:
        for view in range(len(views)):
            activations.ensure(rows, np.full(len(images), view))
        return activations.info()
    finally:
        activations.close()


def total_info(sets: Sets) -> CacheInfo:
    """What the cache did for these sets."""
    rows = {s.activations for s in sets if s is not None and s.activations is not None}
    infos = [r.info() for r in rows]
    return CacheInfo(
        hits=sum(info.hits for info in infos),
        misses=sum(info.misses for info in infos),
        n_bytes=max((info.n_bytes for info in infos), default=0),
        seconds_saved=sum(info.seconds_saved for info in infos),
        n_bytes_on_disk=max((info.n_bytes_on_disk for info in infos), default=0),
    )


def reason_without_cache(
    prefix: Prefix | None, images: np.ndarray, augment: Augment, has_cache: bool
) -> str | None:
    """Why training computes frozen stages anew each time; None where it does not."""
    if prefix is None:
        return (
            "activation_cache is not used: every stage learns." if has_cache else None
        )
    frozen = ", ".join(prefix.stages.names[: prefix.n_stages])
    again = f"the frozen stages ({frozen}) are computed in every epoch"
    if not has_cache:
        return f"activation_cache=None: {again}."
    if views_of_images(augment, images) is None:
        return (
            f"activation_cache is not used: augment={augment!r} has no end of views, "
            f"so {again}. augment='flip' or DrawnViews(...) has a few."
        )
    return None


def summary(info: CacheInfo, is_full: bool) -> str:
    """What the cache did, in a line."""
    disk = (
        f", {info.n_bytes_on_disk / 2**20:.1f} on disk" if info.n_bytes_on_disk else ""
    )
    full = "; memory is full, so some were computed more than once" if is_full else ""
    # What others computed took nobody knows how long.
    saved = f", about {info.seconds_saved:.1f} s saved" if info.seconds_saved else ""
    return (
        f"activation_cache: {info.misses} activations computed, {info.hits} found "
        f"({info.n_bytes / 2**20:.1f} MiB in memory{disk}){saved}{full}."
    )


def any_full(sets: Sets) -> bool:
    """Whether activations of these sets found no room."""
    rows = [s.activations for s in sets if s is not None and s.activations is not None]
    return any(r.is_full for r in rows)
