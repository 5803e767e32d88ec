"""Run a function over many rows in batches of one size, without gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

# Without and with CUDA: a single image costs as much as a full batch, which a GPU
# hardly notices; a CPU is about as fast per image with 16 as with more.
BATCH_SIZES = (16, 128)


def run_in_batches(
    function: Callable[[torch.Tensor], torch.Tensor],
    batch_of: Callable[[int, int], torch.Tensor],
    n: int,
    device: torch.device,
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
        Maps the first row and the one behind the last to a batch on `device`.

    n : int
        Number of rows.

    device : torch.device
        Where the function computes.

    Returns
    -------
    ndarray of shape (n, n_outputs), float32
    """
    size = BATCH_SIZES[device.type == "cuda"]
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
