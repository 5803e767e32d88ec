"""Run a function over many rows in batches of one size, without gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sktransfer._networks.stages import Stages

# A single image costs as much as a full batch, so that batches are no larger than
# what a device needs to be fast: a CPU 32 small images, or 16 larger ones
# (benchmarks/batches.py); the border is where images of BiT become large.
CUDA_BATCH, SMALL_BATCH, LARGE_BATCH = 128, 32, 16
SMALL_PIXELS = 96**2


def batch_size(
    stages: Stages, image_shape: tuple[int, ...], device: torch.device
) -> int:
    """How many images pass at a time: the same, however many there are.

    Parameters
    ----------
    stages : Stages
        The network, which may resize images.

    image_shape : tuple of (int, int, int)
        Height, width and channels of an image as the user has it.

    device : torch.device
        Where the network computes.
    """
    if device.type == "cuda":
        return CUDA_BATCH
    height, width = getattr(stages.preprocess, "image_size", None) or image_shape[:2]
    return SMALL_BATCH if height * width < SMALL_PIXELS else LARGE_BATCH


def run_in_batches(
    function: Callable[[torch.Tensor], torch.Tensor],
    batch_of: Callable[[int, int], torch.Tensor],
    n: int,
    size: int,
) -> np.ndarray:
    """Apply a function of a batch to every row.

    All batches have the same size, the last one being filled up with copies of its
    last row: the kernels that a library picks depend on the size, so that otherwise
    the last bits of a result would depend on how many rows were passed with it.

    Parameters
    ----------
    function : callable
        Maps a batch to (n, n_outputs).

    batch_of : callable
        Maps the first row and the one behind the last to a batch.

    n : int
        Number of rows.

    size : int
        Rows in a batch, as :func:`batch_size` has it.

    Returns
    -------
    ndarray of shape (n, n_outputs), float32
    """
    outputs = []
    with torch.inference_mode():
        for start in range(0, n, size):
            batch = filled_up(batch_of(start, min(n, start + size)), size)
            outputs.append(function(batch)[: n - start].float().cpu())
    return torch.cat(outputs).numpy()


def filled_up(batch: torch.Tensor, size: int) -> torch.Tensor:
    """Repeat the last row of a batch until it has `size` rows."""
    n = len(batch)
    if n == size:
        return batch
    return torch.cat([batch, batch[-1:].expand(size - n, *batch.shape[1:])])
