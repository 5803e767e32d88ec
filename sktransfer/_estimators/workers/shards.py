"""How a set of images is cut into shards for several processes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from sktransfer._images.streams.pictures import PictureStream
from sktransfer._networks.fixed_batches import CUDA_BATCH, SMALL_BATCH

if TYPE_CHECKING:
    from sktransfer._images.streams.ahead import Images

# At the end of the work all but one process may wait for the last shard, an eighth of
# a process's work at most. A shard costs little beyond its images (a message, a copy
# of the network, a look into the folder), but it must be worth that.
SHARDS_PER_PROCESS = 8
# The largest shard: a few blocks of activations, which are published one by one, so
# that larger ones would save nothing. Its pixels, if they travel, must fit into the
# memory of a worker several times.
MOST_IMAGES, MOST_BYTES = 1024, 2**26


def cut_shards(images: Images, n_processes: int) -> list[slice]:
    """Cut a set into shards: several for each process, of whole batches.

    Parameters
    ----------
    images : Images of shape (n_images, height, width, n_channels)
        The whole set.

    n_processes : int
        How many share it.

    Returns
    -------
    list of slice
    """
    n_images = len(images)
    most = MOST_IMAGES
    if not isinstance(images, PictureStream):
        image_bytes = math.prod(images.shape[1:]) * images.dtype.itemsize
        most = min(most, MOST_BYTES // max(1, image_bytes))
    size = min(most, math.ceil(n_images / (SHARDS_PER_PROCESS * n_processes)))
    # Batches of the frozen stages are padded. What is whole for a GPU is for a CPU too.
    batch = CUDA_BATCH if size >= CUDA_BATCH else SMALL_BATCH
    size = max(1, math.ceil(size / batch)) * batch
    return [slice(at, min(n_images, at + size)) for at in range(0, n_images, size)]


def take(images: Images, some: slice) -> Images:
    """Return some images as they can travel: paths as such, of others the pixels."""
    if isinstance(images, PictureStream):
        return images.take(some)
    pixels: np.ndarray = images[some]
    return pixels
