"""A batch of images moved to the device, resized, scaled and normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer._images.shapes import scale_of


def to_batch(images: np.ndarray, device: torch.device) -> torch.Tensor:
    """Move a batch of images to the device, unscaled if uint8.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, n_channels)
        Of any real dtype; all but uint8 are scaled by their dtype, to float32.

    device : torch.device
        Where the batch is needed.

    Returns
    -------
    tensor of shape (n_images, height, width, n_channels), uint8 or float32
    """
    if images.dtype != np.uint8:
        images = np.asarray(images, dtype=np.float32) / np.float32(
            scale_of(images.dtype)
        )
    # torch warns about memory that is read-only, such as some memmaps.
    batch = torch.from_numpy(np.require(images, requirements=["C", "W"]))
    if device.type == "cuda":
        # Only from pinned memory does the copy not wait for the device's queue.
        return batch.pin_memory().to(device, non_blocking=True)
    return batch


class Preprocess(nn.Module):
    """Resize images, scale them to floats, and normalise each channel.

    Parameters
    ----------
    image_size : tuple of (int, int) or None
        Height and width in pixels after resizing; ``None`` keeps the size.

    mean, std : sequence of float of length n_channels
        Mean and standard deviation of each channel of scaled images, for
        normalising. A grey image is repeated to this number of channels.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        image_size: tuple[int, int] | None,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        super().__init__()
        self.image_size = image_size
        for name, values in {"mean": mean, "std": std}.items():
            tensor = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, tensor)

    def extra_repr(self) -> str:
        """Show the image size in the printed network."""
        return f"image_size={self.image_size}"

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, height, width, channels) images to (n, channels, *image_size)."""
        x = images.permute(0, 3, 1, 2)
        is_uint8 = x.dtype == torch.uint8
        # On a CPU, resizing integers and casting afterwards is several times faster.
        if x.device.type != "cpu":
            x = x.float()
        if self.image_size is not None and tuple(x.shape[2:]) != self.image_size:
            x = F.interpolate(x, self.image_size, mode="bilinear", antialias=True)
        x = x.float()
        if is_uint8:
            x = x / 255
        return (x - self.mean) / self.std
