"""Lookahead as a skorch callback: weights that return to their own running mean."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

# Steps between two returns, and the share of the mean that one keeps at most: both as
# in Jordan 2024.
EVERY = 5
KEPT = 0.95**EVERY


class Lookahead(Callback):
    """Every few steps, average weights and statistics, and go on from the average.

    The slow weights of Zhang et al. 2019, but for the share that they keep: it grows
    with the cube of the share of the training that is done, so that at first the
    network runs free and at last it is an average.
    """

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Begin with the weights as they are."""
        self.step_ = 0
        self.slow_: list[torch.Tensor] | None = None

    def on_epoch_begin(
        self, net: NeuralNet, dataset_train: Any = None, **kwargs: Any
    ) -> None:
        """Count the steps of the whole training."""
        iterator = net.get_iterator(dataset_train, training=True)
        self.n_steps_ = net.max_epochs * len(iterator)

    def on_batch_end(
        self, net: NeuralNet, training: bool = False, **kwargs: Any
    ) -> None:
        """Average, where it is time."""
        if not training:
            return
        self.step_ += 1
        if self.step_ % EVERY and self.step_ != self.n_steps_:
            return
        fast = _averaged(net.module_)
        if self.slow_ is None:
            self.slow_ = [tensor.clone() for tensor in fast]
            return
        kept = KEPT * (self.step_ / self.n_steps_) ** 3
        torch._foreach_lerp_(self.slow_, fast, 1 - kept)
        torch._foreach_copy_(fast, self.slow_)

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget the average, which the network has by now."""
        self.slow_ = None


def _averaged(module: torch.nn.Module) -> list[torch.Tensor]:
    """Parameters, also those that stand still just now, and batch-norm statistics."""
    parameters = [p.data for p in module.parameters()]
    statistics = [b for b in module.buffers() if b.is_floating_point() and b.ndim == 1]
    return parameters + statistics
