"""Depthwise convolutions in float32, where CPUs learn them faster than in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer._networks.convolution import OwnConvolution, convolve_in_float32


class DepthwiseInFloat32(OwnConvolution):
    """Let depthwise convolutions that learn compute in float32, despite autocast.

    A training step of a network full of them is faster so on a CPU, although its
    forward pass is not (``benchmarks/depthwise.py``).
    """

    def convolve(
        self,
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> torch.Tensor:
        """Convolve as torch does; in float32 what is depthwise and learns."""
        is_depthwise = groups == input.shape[1] > 1
        learns = input.requires_grad or weight.requires_grad
        convolve = convolve_in_float32 if is_depthwise and learns else F.conv2d
        return convolve(input, weight, bias, stride, padding, dilation, groups)


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
