"""Depthwise convolutions in float32, where CPUs learn them faster than in bfloat16."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class DepthwiseInFloat32(TorchFunctionMode):
    """Let depthwise convolutions that learn compute in float32, despite autocast.

    On a CPU their gradients take several times as long in bfloat16
    (``benchmarks/depthwise.py``), whatever they gain in the forward pass.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch's; a depthwise convolution without autocast."""
        kwargs = kwargs or {}
        if func is not F.conv2d or not _learns_depthwise(*args, **kwargs):
            return func(*args, **kwargs)
        x, *others = args
        with torch.autocast(x.device.type, enabled=False):
            return func(x.float(), *others, **kwargs)


def quick_gradients(
    precision: str, device: torch.device, is_compiled: bool = False
) -> AbstractContextManager[Any]:
    """Return a context for forward passes whose gradients will be computed."""
    if precision == "float32" or device.type != "cpu" or is_compiled:
        return nullcontext()
    return DepthwiseInFloat32()


def _learns_depthwise(
    x: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    """Tell whether a convolution has a group per channel, and a gradient."""
    return groups == x.shape[1] > 1 and (x.requires_grad or weight.requires_grad)
