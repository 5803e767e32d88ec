"""Convolutions that CPUs get wrong in bfloat16, in float32 instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

# Kernels at least so wide are computed wrongly, unless few channels enter
# (benchmarks/convolutions.py).
WIDE, FEW_CHANNELS = 4, 3


class SomeInFloat32(TorchFunctionMode):
    """Has the two-dimensional convolutions that a subclass chooses compute in float32.

    Its functions are methods: torch's compiler cannot trace static ones here.
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
        """Return whether a convolution is to compute in float32."""
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch's, or `_convolve`."""
        return (self._convolve if func is F.conv2d else func)(*args, **(kwargs or {}))

    def _convolve(
        self,
        input: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> torch.Tensor:
        """Convolve as torch does, or in float32."""
        rest = stride, padding, dilation, groups
        chosen = self.needs_float32(input, weight, *rest)
        return (convolve_in_float32 if chosen else F.conv2d)(input, weight, bias, *rest)


def is_wrong_in_bfloat16(
    shape: torch.Size, kernel: torch.Size, stride: Any, padding: Any, dilation: Any
) -> bool:
    """Return whether torch computes a convolution wrongly in bfloat16.

    Parameters
    ----------
    shape : torch.Size
        Of the input, the width last.

    kernel : torch.Size
        (n_outputs, n_inputs_per_group, height, width) of the weights.

    stride, padding, dilation : int or tuple of int
        `padding` may also be a string.
    """
    step, width = _last(stride), kernel[-1]
    if width >= WIDE and kernel[1] > FEW_CHANNELS:
        return True
    if step == 1 or width == 1:
        return False
    # With a stride, torch knows of strings only this one.
    margin = 0 if padding == "valid" else _last(padding)
    covered = _last(dilation) * (width - 1) + 1
    is_single = shape[-1] + 2 * margin - covered < step  # a single column comes out
    return bool(is_single or shape[-1] < covered)


def convolve_in_float32(
    input: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, *rest: Any
) -> torch.Tensor:
    """Convolve without autocast, and in float32 whatever the inputs are in."""
    bias = None if bias is None else bias.float()
    with torch.autocast(input.device.type, enabled=False):
        return F.conv2d(input.float(), weight.float(), bias, *rest)


def _last(entries: Any) -> Any:
    """Return what holds for the width."""
    return entries[-1] if isinstance(entries, (tuple, list)) else entries


class SafeConvolutions(SomeInFloat32):
    """Let convolutions that torch computes wrongly in bfloat16 compute in float32.

    On CPUs with AMX, torch 2.14.1 returns other values and NaN, and writes to memory
    that is not its own, where :func:`is_wrong_in_bfloat16` is true.
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
        """Return whether bfloat16 would be wrong."""
        return is_wrong_in_bfloat16(
            input.shape, weight.shape, stride, padding, dilation
        )
