"""From images to logits or features, through activations that may be there already."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sktransfer._activations import ActivationRows
from sktransfer._cache import ActivationCache
from sktransfer._inference import batch_size, run_in_batches
from sktransfer._prefix import Prefix
from sktransfer._preprocessing import to_batch
from sktransfer._stages import Stages
from sktransfer._views import AS_IT_IS


def logits(
    stages: Stages,
    n_prefix: int,
    images: np.ndarray,
    device: torch.device,
    precision: str,
    cache: ActivationCache | None,
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
        Where the stages are, and how the frozen ones compute.

    cache : ActivationCache or None
        Where activations are looked for and kept.
    """
    if n_prefix == 0:
        return run_in_batches(
            stages,
            lambda a, b: to_batch(images[a:b], device),
            len(images),
            batch_size(stages, images.shape[1:], device),
        )
    prefix = Prefix(stages, n_prefix, device, precision)
    return _behind(prefix, lambda rows: stages.decode(rows, n_prefix), images, cache)


def features(
    stages: Stages,
    images: np.ndarray,
    device: torch.device,
    cache: ActivationCache | None,
) -> np.ndarray:
    """Pooled activations of images, (n_images, n_features), float32."""
    prefix = Prefix(stages, len(stages.names) - 1, device, "float32")
    return _behind(prefix, lambda rows: rows, images, cache)


def _behind(
    prefix: Prefix,
    function: Callable[[torch.Tensor], torch.Tensor],
    images: np.ndarray,
    cache: ActivationCache | None,
) -> np.ndarray:
    """Apply a function to the activations of images."""
    n = len(images)
    first_view = np.zeros(n, np.int64)
    activations = ActivationRows(prefix, images, (AS_IT_IS,), cache)
    try:
        activations.ensure(np.arange(n), first_view)
        return run_in_batches(
            function,
            lambda a, b: activations.gather(np.arange(a, b), first_view[a:b]),
            n,
            activations.batch_size,
        )
    finally:
        activations.close()
