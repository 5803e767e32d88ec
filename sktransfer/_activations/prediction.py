"""From images to logits or features, through activations that may be there already."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch

from sktransfer._activations.cache import ActivationCache
from sktransfer._activations.prefix import Prefix
from sktransfer._activations.rows import ActivationRows
from sktransfer._feedback import Bar
from sktransfer._images.augmentation import apply_views
from sktransfer._images.preprocessing import to_batch
from sktransfer._images.views import AS_IT_IS, tta_views
from sktransfer._networks.device import autocast
from sktransfer._networks.fixed_batches import batch_size, run_in_batches
from sktransfer._networks.stages import Stages


def logits(
    stages: Stages,
    n_prefix: int,
    images: np.ndarray,
    device: torch.device,
    precision: str,
    cache: ActivationCache | None,
    tta: str | None = None,
    verbose: int = 0,
) -> np.ndarray:
    """Logits of images, (n_images, n_classes), float32.

    Parameters
    ----------
    stages : Stages
        In eval mode.

    n_prefix : int
        How many stages are frozen, their activations kept in `cache`.

    images : ndarray of shape (n_images, height, width, n_channels)
        As the user has them.

    device, precision
        Where the stages are, and in which number format they compute.

    cache : ActivationCache or None
        Where activations are looked for and kept.

    tta : {"flip", "flip_shift"} or None
        Views over whose logits the mean is taken.

    verbose : int, default=0
        From 1 on, bars show how it goes on.
    """
    views, weights = tta_views(tta, *images.shape[1:3])

    def behind(n_stages: int) -> Callable[[torch.Tensor], torch.Tensor]:
        def decode(rows: torch.Tensor) -> torch.Tensor:
            with autocast(precision, device):
                return stages.decode(rows, n_stages)

        return decode

    if n_prefix:
        prefix = Prefix(stages, n_prefix, device, precision)
        activations = ActivationRows(prefix, images, views, cache, verbose)
        n = len(views) * len(images)
        with _ensured(activations), Bar("predict", n, verbose) as bar:
            return _behind(activations, behind(n_prefix), weights, bar)

    decode = behind(0)

    def mean(batch: torch.Tensor) -> torch.Tensor:
        total: Any = 0
        for view, weight in enumerate(weights):
            shown = apply_views(batch, views, np.full(len(batch), view))
            total = total + weight * decode(stages.encode(shown, 0))
        seen: torch.Tensor = total
        return seen

    def batch_of(first: int, last: int) -> torch.Tensor:
        return to_batch(images[first:last], device)

    size = batch_size(stages, images.shape[1:], device)
    with Bar("predict", len(images), verbose) as bar:
        return _counted(mean, batch_of, len(images), size, bar)


def features(
    stages: Stages,
    images: np.ndarray,
    device: torch.device,
    precision: str,
    cache: ActivationCache | None,
    verbose: int = 0,
) -> np.ndarray:
    """Pooled activations of images, (n_images, n_features), float32."""
    prefix = Prefix(stages, len(stages.names) - 1, device, precision)
    activations = ActivationRows(prefix, images, (AS_IT_IS,), cache, verbose)
    with _ensured(activations):
        # What is kept is only fetched, which is soon done.
        is_kept = cache is not None and not activations.is_full
        with Bar("encode", len(images), 0 if is_kept else verbose) as bar:
            return _behind(activations, lambda rows: rows, (1.0,), bar)


@contextmanager
def _ensured(activations: ActivationRows) -> Iterator[None]:
    """Have all activations in the cache that fit; they are closed behind the block."""
    rows = np.arange(len(activations.images))
    try:
        for view in range(len(activations.views)):
            activations.ensure(rows, np.full(len(rows), view))
        yield
    finally:
        activations.close()


def _behind(
    activations: ActivationRows,
    function: Callable[[torch.Tensor], torch.Tensor],
    weights: Sequence[float],
    bar: Bar,
) -> np.ndarray:
    """Apply a function to activations, and average over views."""
    n, size = len(activations.images), activations.batch_size

    def gathered(view: int, first: int, last: int) -> torch.Tensor:
        return activations.gather(np.arange(first, last), np.full(last - first, view))

    total: Any = 0
    for view, weight in enumerate(weights):
        outputs = _counted(function, partial(gathered, view), n, size, bar)
        total = total + outputs * np.float32(weight)
    mean: np.ndarray = total
    return mean


def _counted(
    function: Callable[[torch.Tensor], torch.Tensor],
    batch_of: Callable[[int, int], torch.Tensor],
    n: int,
    size: int,
    bar: Bar,
) -> np.ndarray:
    """Apply a function to every row in batches, each counted once it is done."""

    def next_batch(first: int, last: int) -> torch.Tensor:
        if first:  # by now the batch before this one is done
            bar.advance(size)
        return batch_of(first, last)

    outputs = run_in_batches(function, next_batch, n, size)
    bar.advance((n - 1) % size + 1)
    return outputs
