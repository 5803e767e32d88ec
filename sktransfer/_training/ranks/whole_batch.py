"""Layers that depend on a whole batch, computed for the share that one rank has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from sktransfer._training.ranks.group import Group


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

    group : Group or None, default=None
        The ranks; None where nothing is added up.
    """

    def __init__(
        self, places: torch.Tensor, n_whole: int, group: Group | None = None
    ) -> None:
        super().__init__()
        self.places, self.n_whole, self.group = places, n_whole, group

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
        if not training:
            return func(
                input, running_mean, running_var, weight, bias, training, momentum, eps
            )
        x = input.float()
        dims = [0, *range(2, x.ndim)]
        # Counted, since a network may have made several rows of each image.
        own = x.new_full((1,), x.numel() // max(1, x.shape[1]))
        sums = self._add_up(torch.cat([x.sum(dims), own]))
        n = sums[-1].detach()
        mean = sums[:-1] / n
        shape = (1, -1, *[1] * (x.ndim - 2))
        centred = x - mean.view(shape)
        variance = self._add_up(centred.square().sum(dims)) / n
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.lerp_(mean, momentum)
                running_var.lerp_(variance * (n / (n - 1).clamp(min=1)), momentum)
        scale = (variance + eps).rsqrt()
        if weight is not None:
            scale = scale * weight.float()
        y = centred * scale.view(shape)
        if bias is not None:
            y = y + bias.float().view(shape)
        return y.to(input.dtype)

    def _add_up(self, tensor: torch.Tensor) -> torch.Tensor:
        """Add up a tensor over all ranks; gradients pass."""
        total: torch.Tensor = _Sum.apply(tensor, self.group)
        return total

    def _drop(
        self,
        func: Callable[..., torch.Tensor],
        input: torch.Tensor,
        p: float = 0.5,
        training: bool = True,
        inplace: bool = False,
    ) -> torch.Tensor:
        """Drop what dropout would in a whole batch."""
        if not training or p == 0 or len(input) != len(self.places):
            return func(input, p, training, inplace)
        whole = input.new_zeros((self.n_whole, *input.shape[1:]))
        return func(whole.index_copy(0, self.places, input), p, True)[self.places]

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
    def forward(context: Any, tensor: torch.Tensor, group: Group) -> torch.Tensor:
        """Add up."""
        context.group, total = group, tensor.clone()
        group.add_up(total)
        return total

    @staticmethod
    def backward(context: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Add up too: what a rank adds to the sum reaches the losses of all."""
        total = gradient.clone()
        context.group.add_up(total)
        return total, None


_OWN: dict[Any, Callable[..., torch.Tensor]] = {
    F.batch_norm: WholeBatch._normalize,
    F.dropout: WholeBatch._drop,
    F.dropout1d: WholeBatch._drop,
    F.dropout2d: WholeBatch._drop,
    F.dropout3d: WholeBatch._drop,
    F.alpha_dropout: WholeBatch._drop,
    F.feature_alpha_dropout: WholeBatch._drop,
    torch.Tensor.bernoulli_: WholeBatch._draw,
}
