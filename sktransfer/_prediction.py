"""From images to logits or features, through activations that may be there already."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from sktransfer._activations import ActivationRows
from sktransfer._augmentation import apply_views
from sktransfer._bars import Bar
from sktransfer._cache import ActivationCache
from sktransfer._device import autocast
from sktransfer._inference import batch_size, run_in_batches
from sktransfer._prefix import Prefix
from sktransfer._preprocessing import to_batch
from sktransfer._stages import Stages
from sktransfer._views import AS_IT_IS, tta_views


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
        return _behind(activations, behind(n_prefix), weights, "predict")

    decode = behind(0)

    def mean(batch: torch.Tensor) -> torch.Tensor:
        total: Any = 0
        for view, weight in enumerate(weights):
            shown = apply_views(batch, views, np.full(len(batch), view))
            total = total + weight * decode(stages.encode(shown, 0))
        seen: torch.Tensor = total
        return seen

    with Bar("predict", len(images), verbose) as bar:

        def batch_of(first: int, last: int) -> torch.Tensor:
            bar.advance(last - first)
            return to_batch(images[first:last], device)

        size = batch_size(stages, images.shape[1:], device)
        return run_in_batches(mean, batch_of, len(images), size)


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
    return _behind(activations, lambda rows: rows, (1.0,), "encode")


def _behind(
    activations: ActivationRows,
    function: Callable[[torch.Tensor], torch.Tensor],
    weights: Sequence[float],
    label: str,
) -> np.ndarray:
    """Apply a function to activations, and average over views; then close them."""
    n, n_views = len(activations.images), len(weights)

    def gathered(bar: Bar, view: int, first: int, last: int) -> torch.Tensor:
        bar.advance(last - first)
        return activations.gather(np.arange(first, last), np.full(last - first, view))

    try:
        for view in range(n_views):
            activations.ensure(np.arange(n), np.full(n, view))
        total: Any = 0
        with Bar(label, n_views * n, activations.verbose) as bar:
            for view, weight in enumerate(weights):
                batch_of, size = partial(gathered, bar, view), activations.batch_size
                outputs = run_in_batches(function, batch_of, n, size)
                total = total + outputs * np.float32(weight)
        mean: np.ndarray = total
        return mean
    finally:
        activations.close()
