"""Names for activations: hashes of the image, of the view, and of all else.

joblib.hash would be shorter, but it pickles what it hashes: it is slower, and its
hashes change with the versions of Python and NumPy, so that folders would no longer be
found.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch

from sktransfer._images.streams.ahead import (
    HASH_BYTES,
    Hashes,
    Images,
    cut_all,
    read_ahead,
)
from sktransfer._images.views import View
from sktransfer._networks.device import cpu_capabilities
from sktransfer._networks.read_once import hash_tensor
from sktransfer._networks.stages import Stages

# Raised when the numbers of an activation change for the same network and image, so
# that folders with the old numbers are not found any more.
FORMAT = 5

# 128 bits: among a billion images the chance of two equal keys is below 1e-20.
KEY_BYTES = HASH_BYTES


def hash_network(
    stages: Stages,
    n_stages: int,
    device: torch.device,
    precision: str,
    batch_size: int,
    image_shape: Sequence[int],
) -> str:
    """Hash everything except the image that decides the bits of an activation.

    Parameters
    ----------
    stages : Stages
        The network.

    n_stages : int
        How many of its first stages an image passes.

    device : torch.device
        Where they compute.

    precision : {"float32", "bfloat16"}
        Number format in which they compute.

    batch_size : int
        Images that pass at a time; it decides which kernels run.

    image_shape : sequence of int
        Height, width and channels of an image. Images of another shape have activations
        of another shape unless they are resized.

    Returns
    -------
    str of length 32
        Hexadecimal; the namespace of the activations.
    """
    where = (_describe_processor(device), precision, batch_size, tuple(image_shape))
    digest = hashlib.sha256(repr((FORMAT, torch.__version__, *where)).encode())
    for name in ("preprocess", *stages.names[:n_stages]):
        module = stages.get_submodule(name)
        digest.update(f"{name}: {module!r}".encode())
        for key, tensor in module.state_dict().items():
            # Counts batches while training; never read in eval mode.
            if not key.endswith("num_batches_tracked"):
                digest.update(f"{key} {tensor.dtype} {tensor.shape}".encode())
                digest.update(hash_tensor(f"{name}.{key}", tensor))
    if n_stages == stages.n_frozen(0):
        digest.update(b"pooled")
    return digest.hexdigest()[:32]


def get_hashes(images: Images) -> Hashes:
    """Return the hashes that a stream knows of its images; an array knows none."""
    return getattr(images, "hashes", None) or Hashes(len(images))


def hash_images(
    images: Images, rows: np.ndarray, hashes: Hashes | None = None
) -> np.ndarray:
    """Hash each image: its file if it has one, or else pixels, shape and dtype.

    A file tells nearly as much as its pixels, and need not be decoded.

    Parameters
    ----------
    images : Images of shape (n_images, height, width, n_channels)
        Read a few at a time.

    rows : ndarray of int
        Which images.

    hashes : Hashes, default=None
        Those that are known already; others are added.

    Returns
    -------
    ndarray of shape (n_rows, 16), uint8
    """
    hashes = hashes or get_hashes(images)
    left = np.unique(rows[~hashes.is_known[rows]])
    hash_files = getattr(images, "hash_files", None)
    if hash_files is not None and len(left):
        of_files, is_file = hash_files(left)
        hashes.digests[left[is_file]] = of_files[is_file, :KEY_BYTES]
        hashes.is_known[left[is_file]] = True
        left = left[~is_file]
    if len(left):
        hashes.digests[left] = _hash_pixels(images, left)
        hashes.is_known[left] = True
    digests: np.ndarray = hashes.digests[rows]
    return digests


def _hash_pixels(images: Images, rows: np.ndarray) -> np.ndarray:
    """Hash pixels, shape and dtype of each image, (n_rows, 16) uint8."""
    salt = hashlib.sha256(f"{images.dtype.str} {images.shape[1:]}".encode())
    digests = []
    parts = [rows[part] for part in cut_all(images, len(rows))]
    for some in read_ahead(images, parts):
        for image in some:
            digest = salt.copy()
            digest.update(np.ascontiguousarray(image).data)
            digests.append(digest.digest()[:KEY_BYTES])
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, KEY_BYTES)


def hash_views(views: Sequence[View]) -> np.ndarray:
    """Hash each view, (n_views, 16) uint8; XOR with an image's hash makes the key."""
    digests = [
        hashlib.sha256(repr(tuple(view)).encode()).digest()[:KEY_BYTES]
        for view in views
    ]
    return np.frombuffer(b"".join(digests), np.uint8).reshape(-1, KEY_BYTES)


def _describe_processor(device: torch.device) -> str:
    """Name what decides the kernels: another processor may round otherwise."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    traits = cpu_capabilities()
    able = sorted(name for name, value in traits.items() if value is True)
    kind = torch.backends.cpu.get_cpu_capability()
    return f"{kind} {traits.get('cpu_name')} {able}"
