"""How training goes on, said every few seconds: a skorch callback."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback

# Between two lines, at least.
EVERY_SECONDS = 5.0


class EpochReport(Callback):
    """Say the epoch, its losses and accuracies, but not more often than is readable.

    Parameters
    ----------
    report : callable
        Takes a line.

    label : str
        What the line begins with.
    """

    def __init__(self, report: Callable[[str], None], label: str) -> None:
        self.report, self.label = report, label

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start the clock."""
        self.started_ = self.said_ = time.monotonic()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Say a line if it is time."""
        now = time.monotonic()
        if now - self.said_ < EVERY_SECONDS:
            return
        self.said_ = now
        row = net.history[-1]
        accuracies = ", ".join(
            f"{name} accuracy {row[key]:.1%}"
            for name, key in {
                "training": "train_accuracy",
                "validation": "valid_accuracy",
            }.items()
            if key in row
        )
        self.report(
            f"{self.label}: epoch {row['epoch']} of {net.max_epochs} after "
            f"{now - self.started_:.0f} s, {accuracies}"
        )
