"""Depthwise convolutions in float32, where CPUs learn them faster than in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from sktransfer._networks.convolution import SomeInFloat32


class DepthwiseInFloat32(SomeInFloat32):
    """Let depthwise convolutions that learn compute in float32, despite autocast.

    A training step of a network full of them is faster so on a CPU, although its
    forward pass is not (``benchmarks/depthwise.py``).
    """

    def needs_float32(
        self,
        input: torch.Tensor,
        weight: torch.Tensor,
        stride: Any,
        padding: Any,
        dilation: Any,
        groups: int,
    ) -> bool:
        """Return whether a convolution is depthwise and learns."""
        is_depthwise = groups == input.shape[1] > 1
        return is_depthwise and (input.requires_grad or weight.requires_grad)


def quick_gradients(
    precision: str, device: torch.device, is_compiled: bool = False
) -> AbstractContextManager[Any]:
    """Return a context for forward passes whose gradients will be computed."""
    if precision == "float32" or device.type != "cpu" or is_compiled:
        return nullcontext()
    return DepthwiseInFloat32()


def has_depthwise(module: nn.Module) -> bool:
    """Return whether some convolution of a network is depthwise."""
    return any(
        isinstance(child, nn.Conv2d) and child.groups == child.in_channels > 1
        for child in module.modules()
    )
