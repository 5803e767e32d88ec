"""Layers that depend on a whole batch, computed for the share that one rank has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import distributed
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


class WholeBatch(TorchFunctionMode):
    """Lets batch norm, dropout and stochastic depth act as they do on a whole batch.

    Batch norm takes its statistics over the images of all ranks. What is drawn per
    image is drawn for all of them, and each rank uses the part that belongs to its own:
    so every rank draws the same numbers, those that one process would draw.
    torch's SyncBatchNorm does the first, but not on CPUs.

    Parameters
    ----------
    places : tensor of shape (n_own,), int64
        Of the images of this rank in the batch.

    n_whole : int
        How many images the batch has.
    """

    def __init__(self, places: torch.Tensor, n_whole: int) -> None:
        super().__init__()
        self.places, self.n_whole = places, n_whole

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Call a function of torch's, or what acts on the whole batch."""
        own = _OWN.get(func)
        if own is None:
            return func(*args, **(kwargs or {}))
        return own(self, func, *args, **(kwargs or {}))

    def _normalize(
        self,
        func: Callable[..., torch.Tensor],
        input: torch.Tensor,
        running_mean: torch.Tensor | None,
        running_var: torch.Tensor | None,
        weight: torch.Tensor | None = None,
        bias: torch.Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> torch.Tensor:
        """Normalise as :func:`torch.nn.functional.batch_norm` does on a whole batch."""
        if not training or len(input) != len(self.places):
            return func(
                input, running_mean, running_var, weight, bias, training, momentum, eps
            )
        x = input.float()
        dims = [0, *range(2, x.ndim)]
        n = self.n_whole * math.prod(x.shape[2:])
        mean = _add_up(x.sum(dims)) / n
        shape = (1, -1, *[1] * (x.ndim - 2))
        centred = x - mean.view(shape)
        variance = _add_up(centred.square().sum(dims)) / n
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean, momentum)
                running_var.lerp_(variance * (n / max(1, n - 1)), momentum)
        scale = (variance + eps).rsqrt()
        if weight is not None:
            scale = scale * weight.float()
        y = centred * scale.view(shape)
        if bias is not None:
            y = y + bias.float().view(shape)
        return y.to(input.dtype)

    def _drop(
        self,
        func: Callable[..., torch.Tensor],
        input: torch.Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> torch.Tensor:
        """Drop what :func:`torch.nn.functional.dropout` would in a whole batch."""
        if not training or p == 0 or len(input) != len(self.places):
            return func(input, p, training, inplace)
        ones = input.new_ones((self.n_whole, *input.shape[1:]))
        dropped: torch.Tensor = input * func(ones, p, True)[self.places]
        return dropped

    def _draw(
        self,
        func: Callable[..., torch.Tensor],
        tensor: torch.Tensor,
        *args: Any,
        **kwargs: Any,
    ) -> torch.Tensor:
        """Draw as :meth:`torch.Tensor.bernoulli_` would for a whole batch."""
        if not tensor.ndim or len(tensor) != len(self.places):
            return func(tensor, *args, **kwargs)
        whole = tensor.new_empty((self.n_whole, *tensor.shape[1:]))
        return tensor.copy_(func(whole, *args, **kwargs)[self.places])


class _Sum(torch.autograd.Function):
    """The sum of a tensor over all ranks, each of which has its part of the loss."""

    @staticmethod
    def forward(context: Any, tensor: torch.Tensor) -> torch.Tensor:
        """Add up."""
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> torch.Tensor:
        """Add up too: what a rank adds to the sum reaches the losses of all."""
        total = gradient.clone()
        distributed.all_reduce(total)
        return total


def _add_up(tensor: torch.Tensor) -> torch.Tensor:
    """Add up a tensor over all ranks; gradients pass."""
    total: torch.Tensor = _Sum.apply(tensor)
    return total


_OWN: dict[Any, Callable[..., torch.Tensor]] = {
    F.batch_norm: WholeBatch._normalize,
    F.dropout: WholeBatch._drop,
    torch.Tensor.bernoulli_: WholeBatch._draw,
}
