"""Batches of one fixed size, so that no result depends on how many images come along.

The kernels that a library picks depend on the size of a batch, and their last bits
differ. With one size, the result for an image depends on that image alone. Where memory
is short the size is halved, for all images alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from sktransfer._networks.stages import Stages

# A single image costs as much as a full batch, so batches are no larger than a device
# needs to be fast: for a CPU 32 small images, or 16 larger ones
# (benchmarks/batches.py). BiT draws the line between small and large images here too.
CUDA_BATCH, SMALL_BATCH, LARGE_BATCH = 128, 32, 16
SMALL_PIXELS = 96**2


def choose_batch_size(
    stages: Stages, image_shape: tuple[int, ...], device: torch.device
) -> int:
    """Choose how many images pass at a time: the same number for any set of images.

    Parameters
    ----------
    stages : Stages
        The network, which may resize images.

    image_shape : tuple of (int, int, int)
        Height, width and channels of an image as the user passed it.

    device : torch.device
        Where the network computes.

    Returns
    -------
    int
    """
    if device.type == "cuda":
        return CUDA_BATCH
    height, width = getattr(stages.preprocess, "image_size", None) or image_shape[:2]
    return SMALL_BATCH if height * width < SMALL_PIXELS else LARGE_BATCH


def halve(size: int, error: BaseException, image_shape: Sequence[int]) -> int:
    """Return the next smaller size after a batch of this size found too little memory.

    Parameters
    ----------
    size : int
        Images that passed at a time.

    error : BaseException
        The `torch.OutOfMemoryError`.

    image_shape : sequence of int
        Height, width and channels of an image as the user passed it.

    Returns
    -------
    int

    Raises
    ------
    torch.OutOfMemoryError
        If there is no smaller one; with what to do about it.
    """
    if size == 1:
        shape = " x ".join(map(str, image_shape))
        raise torch.OutOfMemoryError(
            f"not even one image ({shape}) passes the network in the memory there is; "
            f"pass a smaller image_size, or device='cpu'. torch said: {error}"
        ) from error
    torch.cuda.empty_cache()
    return size // 2


def cut(n_rows: int, size: int) -> Iterator[slice]:
    """Yield the rows of each batch; the last one may be smaller than `size`."""
    for start in range(0, n_rows, size):
        yield slice(start, min(n_rows, start + size))


def run_padded(
    function: Callable[[torch.Tensor], torch.Tensor], batch: torch.Tensor, size: int
) -> torch.Tensor:
    """Apply a function to a batch that is padded to `size` rows; drop the padding.

    Parameters
    ----------
    function : callable
        Maps a batch to as many rows.

    batch : tensor of shape (n, ...)
        At most `size` rows. The last one is repeated until there are `size`.

    size : int
        As :func:`choose_batch_size` returns it.

    Returns
    -------
    tensor of shape (n, ...)
    """
    n = len(batch)
    padding = batch[-1:].expand(size - n, *batch.shape[1:])
    return function(torch.cat([batch, padding]) if n < size else batch)[:n]
