"""The backbone that was read last: copied for the next fit, and hashed once.

Every fit of a search starts from the same weights. Reading and hashing them takes
longer than training a head on cached activations.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch

from sktransfer._networks.stages import Stages


class _Loaded(NamedTuple):
    """A network as it was loaded, and the hashes of its tensors so far."""

    key: Hashable
    stages: Stages
    tensors: dict[str, torch.Tensor]
    digests: dict[str, bytes]


# By size in bytes. Floats that are equal may differ in their bits (0 and -0), and nan
# does not even equal itself.
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# At most one: the fits of a search share it, and a second would double the memory.
_last: list[_Loaded] = []


def copy_network(key: Hashable, load: Callable[[], Stages]) -> Stages:
    """Return a copy of the network with this key; load it unless it is the last one.

    Parameters
    ----------
    key : hashable
        Identifies the network, and the state of the file it is read from.

    load : callable
        Returns the network, which is kept.

    Returns
    -------
    Stages
        The caller's own copy.
    """
    last = _last[0] if _last else None
    if last is None or last.key != key:
        stages = load()
        last = _Loaded(key, stages, dict(stages.state_dict()), {})
        _last[:] = [last]
    return copy.deepcopy(last.stages)


def hash_tensor(name: str, tensor: torch.Tensor) -> bytes:
    """Compute the SHA-256 of the numbers in a tensor of a network.

    Weights that equal, bit for bit, those loaded last under this name are not hashed
    again: comparing takes a fraction of the time.
    """
    bits = _bits(tensor)
    last = _last[0] if _last else None
    if last is None or not _is_same(bits, last.tensors.get(name)):
        return _sha256(bits)
    if name not in last.digests:
        last.digests[name] = _sha256(bits)
    return last.digests[name]


def _sha256(bits: torch.Tensor) -> bytes:
    """Hash numbers in the order of their indices."""
    return hashlib.sha256(bits.contiguous().numpy().data).digest()


def _is_same(bits: torch.Tensor, known: torch.Tensor | None) -> bool:
    """Return whether these are the bits of a tensor."""
    if known is None or INTEGERS[known.element_size()] != bits.dtype:
        return False
    return torch.equal(bits, _bits(known))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """Return the bits of a tensor as integers, on the CPU."""
    values = tensor.detach().cpu()
    return values.view(INTEGERS[values.element_size()])
