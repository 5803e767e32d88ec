"""The frozen prefix of a network: what it computes, and a name for exactly that."""

from __future__ import annotations

import hashlib

import numpy as np
import torch

from sktransfer._device import autocast
from sktransfer._inference import BATCH_SIZES, filled_up
from sktransfer._preprocessing import to_batch
from sktransfer._stages import Stages

# Raised when the numbers of an activation change for the same network and image.
FORMAT = 1


class Prefix:
    """The first stages of a network, frozen.

    Parameters
    ----------
    stages : Stages
        The network.

    n_stages : int
        How many stages the prefix has, 1 or more.

    device : torch.device
        Where the stages are.

    precision : {"float32", "bfloat16"}
        Number format of matrix products and of activations.
    """

    def __init__(
        self, stages: Stages, n_stages: int, device: torch.device, precision: str
    ) -> None:
        self.stages, self.n_stages = stages, n_stages
        self.device, self.precision = device, precision

    def namespace(self) -> str:
        """Hash of everything but the image that decides the bits of an activation."""
        digest = hashlib.sha256()
        # The batch size decides which kernels run.
        size = BATCH_SIZES[self.device.type == "cuda"]
        kind = torch.backends.cpu.get_cpu_capability()
        if self.device.type == "cuda":
            kind = torch.cuda.get_device_name(self.device)
        where = (self.device.type, kind, self.precision, size)
        digest.update(repr((FORMAT, torch.__version__, *where)).encode())
        for name in ("preprocess", *self.stages.names[: self.n_stages]):
            module = self.stages.get_submodule(name)
            digest.update(f"{name}: {module!r}".encode())
            for key, tensor in module.state_dict().items():
                # Counts batches while training; never read in eval mode.
                if not key.endswith("num_batches_tracked"):
                    values = tensor.detach().cpu().contiguous().numpy()
                    digest.update(f"{key} {values.dtype} {values.shape}".encode())
                    digest.update(values.tobytes())
        if self.n_stages == len(self.stages.names) - 1:
            digest.update(b"pooled")
        return digest.hexdigest()[:32]

    @torch.no_grad()
    def encode(self, images: np.ndarray, mirrored: np.ndarray) -> torch.Tensor:
        """Activations of images, in batches of one fixed size.

        The kernels that a library picks depend on the batch size; with one size, the
        bits of an activation depend on nothing but its image.

        Parameters
        ----------
        images : ndarray of shape (n_images, height, width, n_channels)
            As the user has them.

        mirrored : ndarray of shape (n_images,), bool
            Which of them to turn left to right first.

        Returns
        -------
        tensor of shape (n_images, *activation)
            On the device of the stages.
        """
        size = BATCH_SIZES[self.device.type == "cuda"]
        outputs = []
        for start in range(0, len(images), size):
            batch = to_batch(images[start : start + size], self.device)
            flip = torch.from_numpy(mirrored[start : start + size]).to(self.device)
            batch = torch.where(flip[:, None, None, None], batch.flip(2), batch)
            with autocast(self.precision, self.device):
                activation = self.stages.encode(filled_up(batch, size), self.n_stages)
            outputs.append(activation[: len(batch)].contiguous())
        return torch.cat(outputs)


def image_keys(images: np.ndarray, rows: np.ndarray) -> list[bytes]:
    """Hash of the pixels, shape and dtype of each image.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, n_channels)
        Read row by row.

    rows : ndarray of int
        Which images.

    Returns
    -------
    list of bytes of length 16
    """
    salt = hashlib.sha256(f"{images.dtype.str} {images.shape[1:]}".encode())
    keys = []
    for row in rows.tolist():
        digest = salt.copy()
        digest.update(np.ascontiguousarray(images[row]).data)
        keys.append(digest.digest()[:16])
    return keys
