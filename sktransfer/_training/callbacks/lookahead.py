"""Lookahead as a skorch callback: weights are pulled towards their running average."""

from __future__ import annotations

from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

# Steps between two averages, and the most that one keeps of the average before: both as
# in Jordan 2024.
EVERY = 5
KEPT = 0.95**EVERY


class Lookahead(Callback):
    """Every few steps, average weights and statistics, and continue from the average.

    These are the slow weights of Zhang et al. (2019), except that the share they keep
    grows with the cube of the progress of training: at first the network moves freely,
    at last it is an average. torch's own ``AveragedModel`` averages too, but does not
    send the average back to the network.
    """

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start from the present weights."""
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
        """Average every few steps, and after the last one."""
        if not training:
            return
        self.step_ += 1
        if self.step_ % EVERY and self.step_ != self.n_steps_:
            return
        fast = list_averaged(net.module_)
        if self.slow_ is None:
            self.slow_ = [tensor.clone() for tensor in fast]
            return
        kept = KEPT * (self.step_ / self.n_steps_) ** 3
        with torch.no_grad():
            for slow, weights in zip(self.slow_, fast, strict=True):
                weights.copy_(slow.lerp_(weights, 1 - kept))

    def get_progress(self) -> dict[str, Any]:
        """Return what the epochs to come depend on."""
        return {"step": self.step_, "slow": self.slow_}

    def set_progress(self, net: NeuralNet, progress: dict[str, Any]) -> None:
        """Go on from what :meth:`get_progress` returned."""
        self.step_, self.slow_ = progress["step"], progress["slow"]

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Drop the average; the network has it now."""
        self.slow_ = None


def list_averaged(module: torch.nn.Module) -> list[torch.Tensor]:
    """List all parameters, frozen ones included, and batch-norm statistics."""
    parameters = [p.data for p in module.parameters()]
    statistics = [b for b in module.buffers() if b.is_floating_point() and b.ndim == 1]
    return parameters + statistics
