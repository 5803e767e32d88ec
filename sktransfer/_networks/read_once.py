"""The network loaded last: copied for the next fit, and hashed once."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Hashable
from typing import NamedTuple

import torch

from sktransfer._networks.stages import Stages


class _Loaded(NamedTuple):
    """A network as it was loaded, and what is known about it."""

    key: Hashable
    stages: Stages
    tensors: dict[str, torch.Tensor]
    digests: dict[str, bytes]


# By bytes. Equal floats may differ in their bits (0 and -0), and nan equals nothing.
INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

# One at most: the fits of a search have the same.
_last: list[_Loaded] = []


def copy_of(key: Hashable, load: Callable[[], Stages]) -> Stages:
    """Copy the network of this key, loaded now if it is not the last one.

    Parameters
    ----------
    key : hashable
        Says which network, and from which state of which file.

    load : callable
        Returns it; what it loads is kept.

    Returns
    -------
    Stages
        The caller's own.
    """
    last = _last[0] if _last else None
    if last is None or last.key != key:
        stages = load()
        last = _Loaded(key, stages, dict(stages.state_dict()), {})
        _last[:] = [last]
    return copy.deepcopy(last.stages)


def digest(name: str, tensor: torch.Tensor) -> bytes:
    """SHA-256 of the numbers in a tensor of a network.

    Weights that are, bit for bit, those that were loaded under this name are not
    hashed again, which takes several times as long as to compare them.
    """
    bits = _bits(tensor)
    last = _last[0] if _last else None
    if last is None or not _is_same(bits, last.tensors.get(name)):
        return _sha256(bits)
    if name not in last.digests:
        last.digests[name] = _sha256(bits)
    return last.digests[name]


def _sha256(bits: torch.Tensor) -> bytes:
    """Hash of numbers in the order of their indices."""
    return hashlib.sha256(bits.contiguous().numpy().data).digest()


def _is_same(bits: torch.Tensor, known: torch.Tensor | None) -> bool:
    """Whether these are the bits of a tensor."""
    if known is None or INTEGERS[known.element_size()] != bits.dtype:
        return False
    return torch.equal(bits, _bits(known))


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The bits of a tensor as integers, on the CPU."""
    values = tensor.detach().cpu()
    return values.view(INTEGERS[values.element_size()])
