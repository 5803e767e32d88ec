"""A batch of images moved to the device, resized, scaled and normalised."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer._images.geometry import Box, Size, lay_out
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


def interpolate(
    x: torch.Tensor, size: Size, interpolation: str, in_bytes: bool
) -> torch.Tensor:
    """Resize (n, channels, height, width) with antialiasing; bytes stay in [0, 255]."""
    x = F.interpolate(x, size, mode=interpolation, antialias=True)
    # As uint8, torch cuts them off itself.
    return x.clamp(0, 255) if in_bytes and x.is_floating_point() else x


def pad_around(x: torch.Tensor, place: Box, size: Size) -> torch.Tensor:
    """Put (n, channels, height, width) into its place among zeros of a size."""
    if place.size == size:
        return x
    below, right = size[0] - place.rows.stop, size[1] - place.columns.stop
    return F.pad(x, (place.left, right, place.top, below))


class Preprocess(nn.Module):
    """Resize images, scale them to floats, and normalise each channel.

    Parameters
    ----------
    image_size : tuple of (int, int) or None
        Height and width in pixels after resizing; ``None`` keeps the size.

    mean, std : sequence of float of length n_channels
        Mean and standard deviation of each channel of scaled images, for
        normalising. A grey image is repeated to this number of channels.

    interpolation : {"bilinear", "bicubic"}, default="bilinear"
        Kind of resizing, with antialiasing. Bicubic values beyond 0 and 255 are cut off
        in uint8 images. Floats keep them, as in torchvision, since their range is not
        known.

    resize : {"crop", "pad", "squash"}, default="squash"
        What to do with images of other proportions. ``"crop"``: keep the centre.
        ``"pad"``: keep all, and fill the sides with the mean: zeros, once normalised,
        as at the borders of a convolution. ``"squash"``: change the proportions.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        image_size: tuple[int, int] | None,
        mean: Sequence[float],
        std: Sequence[float],
        interpolation: str = "bilinear",
        resize: str = "squash",
    ) -> None:
        super().__init__()
        self.image_size = image_size
        self.interpolation = interpolation
        self.resize = resize
        for name, values in {"mean": mean, "std": std}.items():
            tensor = torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)
            self.register_buffer(name, tensor)

    def extra_repr(self) -> str:
        """Show what happens to images; the names of activations depend on it too."""
        return (
            f"image_size={self.image_size}, interpolation={self.interpolation!r}, "
            f"resize={self.resize!r}"
        )

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, height, width, channels) images to (n, channels, *image_size)."""
        x = images.permute(0, 3, 1, 2)
        is_uint8 = x.dtype == torch.uint8
        own: Size = (x.shape[2], x.shape[3])
        size = self.image_size or own
        part, place = lay_out(own, size, self.resize)
        x = x[:, :, part.rows, part.columns]
        # On a CPU, resizing integers and casting afterwards is several times faster.
        if x.device.type != "cpu":
            x = x.float()
        if part.size != place.size:
            x = interpolate(x, place.size, self.interpolation, is_uint8)
        x = x.float()
        if is_uint8:
            x = x / 255
        return pad_around((x - self.mean) / self.std, place, size)

    def spread(self, maps: torch.Tensor, own: Size) -> torch.Tensor:
        """Bring maps of what the network sees back to images of a certain size.

        Parameters
        ----------
        maps : tensor of shape (n, channels, any height, any width)
            Maps that cover the result of :meth:`forward`.

        own : tuple of (int, int)
            Height and width of the images.

        Returns
        -------
        tensor of shape (n, channels, *own)
            Zero where the network sees nothing of an image.
        """
        size = self.image_size or own
        part, place = lay_out(own, size, self.resize)
        if place.size != size:
            maps = F.interpolate(maps, size, mode="bilinear", antialias=True)
            maps = maps[:, :, place.rows, place.columns]
        maps = F.interpolate(maps, part.size, mode="bilinear", antialias=True)
        return pad_around(maps, part, own)
