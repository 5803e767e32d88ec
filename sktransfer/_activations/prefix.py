"""The frozen prefix of a network: what it computes, and a name for exactly that."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from sktransfer._activations.storage.segments import KEY_BYTES
from sktransfer._images.augmentation import apply_views
from sktransfer._images.preprocessing import to_batch
from sktransfer._images.views import View
from sktransfer._networks.device import autocast, cpu_capabilities
from sktransfer._networks.fixed_batches import batch_size, filled_up
from sktransfer._networks.read_once import digest as tensor_digest
from sktransfer._networks.stages import Stages

# Raised when the numbers of an activation change for the same network and image.
FORMAT = 4


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

    def batch_size(self, image_shape: tuple[int, ...]) -> int:
        """How many images pass at a time; it decides which kernels run."""
        return batch_size(self.stages, image_shape, self.device)

    def namespace(self, image_shape: tuple[int, ...]) -> str:
        """Hash of everything but the image that decides the bits of an activation.

        Images of another shape have activations of another shape where they are not
        resized.
        """
        size = self.batch_size(image_shape)
        where = (_processor(self.device), self.precision, size, tuple(image_shape))
        digest = hashlib.sha256(repr((FORMAT, torch.__version__, *where)).encode())
        for name in ("preprocess", *self.stages.names[: self.n_stages]):
            module = self.stages.get_submodule(name)
            digest.update(f"{name}: {module!r}".encode())
            for key, tensor in module.state_dict().items():
                # Counts batches while training; never read in eval mode.
                if not key.endswith("num_batches_tracked"):
                    digest.update(f"{key} {tensor.dtype} {tensor.shape}".encode())
                    digest.update(tensor_digest(f"{name}.{key}", tensor))
        if self.n_stages == len(self.stages.names) - 1:
            digest.update(b"pooled")
        return digest.hexdigest()[:32]

    @torch.no_grad()
    def encode(
        self, images: np.ndarray, views: Sequence[View], chosen: np.ndarray
    ) -> torch.Tensor:
        """Activations of images, in batches of one fixed size.

        The kernels that a library picks depend on the batch size; with one size, the
        bits of an activation depend on nothing but its image.

        Parameters
        ----------
        images : ndarray of shape (n_images, height, width, n_channels)
            As the user has them.

        views : sequence of View
            How an image may be shown.

        chosen : ndarray of shape (n_images,), int
            The view of each image, as a position in `views`.

        Returns
        -------
        tensor of shape (n_images, *activation)
            On the device of the stages.
        """
        size = self.batch_size(images.shape[1:])
        outputs = []
        for start in range(0, len(images), size):
            some = slice(start, start + size)
            batch = to_batch(images[some], self.device)
            batch = apply_views(batch, views, chosen[some])
            with autocast(self.precision, self.device):
                activation = self.stages.encode(filled_up(batch, size), self.n_stages)
            outputs.append(activation[: len(batch)].contiguous())
        return torch.cat(outputs)


def _processor(device: torch.device) -> str:
    """What decides the kernels: another processor may round otherwise."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    traits = cpu_capabilities()
    able = sorted(name for name, value in traits.items() if value is True)
    kind = torch.backends.cpu.get_cpu_capability()
    return f"{kind} {traits.get('cpu_name')} {able}"


def image_keys(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Hash of the pixels, shape and dtype of each image.

    Parameters
    ----------
    images : ndarray of shape (n_images, height, width, n_channels)
        Read row by row.

    rows : ndarray of int
        Which images.

    Returns
    -------
    ndarray of shape (n_rows, 16), uint8
    """
    salt = hashlib.sha256(f"{images.dtype.str} {images.shape[1:]}".encode())
    digests = []
    for row in rows.tolist():
        digest = salt.copy()
        digest.update(np.ascontiguousarray(images[row]).data)
        digests.append(digest.digest()[:KEY_BYTES])
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, KEY_BYTES)


def view_keys(views: Sequence[View]) -> np.ndarray:
    """Hash of each view, (n_views, 16) uint8; XOR with an image's makes its key."""
    digests = [hashlib.sha256(repr(tuple(view)).encode()).digest() for view in views]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(len(views), -1)[
        :, :KEY_BYTES
    ]
