"""Run a network over many images in batches, without gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sktransfer._preprocessing import to_batch
from sktransfer._stages import Stages

# Without and with CUDA: a single image costs as much as a full batch, which a GPU
# hardly notices; a CPU is about as fast per image with 16 as with more.
BATCH_SIZES = (16, 128)


def run_in_batches(
    function: Callable[[torch.Tensor], torch.Tensor],
    images: np.ndarray,
    device: torch.device,
) -> np.ndarray:
    """Apply a function of a batch to every image.

    All batches have the same size, the last one being filled up with copies of its
    last image: the kernels that a library picks depend on the size, so that otherwise
    the last bits of a result would depend on how many images were passed with it.

    Parameters
    ----------
    function : callable
        Maps images on `device`, (n, height, width, n_channels), to (n, n_outputs).

    images : ndarray of shape (n_images, height, width, n_channels)
        As the user has them.

    device : torch.device
        Where the function computes.

    Returns
    -------
    ndarray of shape (n_images, n_outputs), float32
    """
    size = BATCH_SIZES[device.type == "cuda"]
    outputs = []
    with torch.inference_mode():
        for start in range(0, len(images), size):
            batch = to_batch(images[start : start + size], device)
            n = len(batch)
            if n < size:
                batch = torch.cat([batch, batch[-1:].expand(size - n, -1, -1, -1)])
            outputs.append(function(batch)[:n].float().cpu())
    return torch.cat(outputs).numpy()


def pooled_features(stages: Stages) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network up to, and without, the head's linear map: images to features."""

    def encode(images: torch.Tensor) -> torch.Tensor:
        activation = stages.preprocess(images)
        for name, stage in stages.items():
            if name == stages.names[-1]:
                return stage.pool(activation)  # type: ignore[operator, no-any-return]
            activation = stage(activation)
        raise ValueError("stages end without a head")

    return encode
