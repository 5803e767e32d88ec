"""Filters that whiten small patches of images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.nn import functional as F

# Added to variances, in the unit of normalised pixels, so that directions without any
# are not blown up. Jordan 2024 has 5e-4, for files without the noise of JPEG, and with
# few images that is worse than no whitening (benchmarks/ablation.py).
EPSILON = 1e-2

# So that their patches, in double precision, take some ten megabytes a channel.
PIXELS_AT_ONCE = 2**18


@torch.no_grad()
def whitening_filters(
    batches: Iterable[torch.Tensor], patch: int, n_directions: int
) -> torch.Tensor:
    """Both signs of the principal directions of patches, each scaled to variance 1.

    Parameters
    ----------
    batches : iterable of tensor of shape (n, channels, height, width), float32
        Normalised images.

    patch : int
        Height and width of a patch in pixels.

    n_directions : int
        How many directions, those of most variance first.

    Returns
    -------
    tensor of shape (2 * n_directions, channels, patch, patch), float32
    """
    total: Any = 0
    n_patches, n_channels = 0, 0
    for images in batches:
        _, n_channels, height, width = images.shape
        n_parts = -(-len(images) * height * width // PIXELS_AT_ONCE)
        for some in images.tensor_split(n_parts):
            patches = F.unfold(some, patch).transpose(1, 2).flatten(0, 1).double()
            total = total + patches.T @ patches
            n_patches += len(patches)
    values, vectors = torch.linalg.eigh(total / n_patches)
    directions = vectors / torch.sqrt(values.clamp(min=0) + EPSILON)
    filters = directions.T.flip(0)[:n_directions].float()
    filters = filters.view(-1, n_channels, patch, patch)
    return torch.cat([filters, -filters])
