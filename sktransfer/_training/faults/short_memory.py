"""Steps that find too little memory: taken in parts, and what that changes is said."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from sktransfer._feedback import warn


class OpenStatistics:
    """The statistics of batch norm that a step changes, and can put back.

    Parameters
    ----------
    module : torch.nn.Module
        The network. Batch norm in eval mode keeps its statistics, and is left alone.
    """

    def __init__(self, module: nn.Module) -> None:
        self.norms = [
            part
            for part in module.modules()
            if isinstance(part, _BatchNorm)
            and part.training
            and part.track_running_stats
        ]
        self.buffers = [
            buffer
            for norm in self.norms
            for buffer in (norm.running_mean, norm.running_var)
            if buffer is not None
        ]
        self.before: list[torch.Tensor] = []
        if self.buffers:
            self.before = [torch.empty_like(buffer) for buffer in self.buffers]
            torch._foreach_copy_(self.before, self.buffers)

    def restore(self) -> None:
        """Put the statistics back to what they were at first."""
        if self.buffers:
            torch._foreach_copy_(self.buffers, self.before)

    @contextmanager
    def follow(self, n_parts: int) -> Iterator[None]:
        """Let statistics follow the parts of a batch as they would the whole batch.

        Each of them is heeded less, so that all together weigh what one batch does.
        """
        momenta = [norm.momentum for norm in self.norms]
        for norm, momentum in zip(self.norms, momenta, strict=True):
            if momentum is not None and n_parts > 1:
                norm.momentum = 1 - (1 - momentum) ** (1 / n_parts)
        try:
            yield
        finally:
            for norm, momentum in zip(self.norms, momenta, strict=True):
                norm.momentum = momentum


def warn_of_parts(n_at_once: int, batch_size: int) -> None:
    """Warn that batch norm sees parts of a batch in place of the batch."""
    warn(
        f"a batch of {batch_size} images does not fit into memory and passes in parts "
        f"of at most {n_at_once}; batch norm in stages that learn sees each part for "
        "itself, which may cost accuracy. Lower batch_size, image_size or "
        "unfreeze_depth to choose this yourself.",
        of_rank=True,
    )


def explain_shortage(
    error: BaseException, n_images: int, shape: Sequence[int]
) -> NoReturn:
    """Raise an OutOfMemoryError that says what to do."""
    size = " x ".join(map(str, shape))
    raise torch.OutOfMemoryError(
        f"not even {n_images} of the inputs of the stages that learn ({size} each) "
        "find room in memory; pass a smaller image_size or unfreeze_depth, or "
        f"device='cpu'. torch said: {error}"
    ) from error
