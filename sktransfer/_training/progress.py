"""How training goes on, as lines or as a bar: skorch callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer._feedback import Bar, is_shown
from sktransfer._training.batches import Batch, ImageDataset

# Between two lines, at least.
EVERY_SECONDS = 5.0

# What is said of an epoch, by its key in the history.
SAID = {
    "train_loss": "training loss {:.3f}",
    "train_accuracy": "training accuracy {:.1%}",
    "valid_loss": "validation loss {:.3f}",
    "valid_accuracy": "validation accuracy {:.1%}",
}


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
        said = [
            f"{self.label}: epoch {row['epoch']} of {net.max_epochs} after "
            f"{now - self.started_:.0f} s",
            *(text.format(row[key]) for key, text in SAID.items() if key in row),
        ]
        self.report(", ".join(said))


@contextmanager
def training_bar(verbose: int) -> Iterator[list[Callback]]:
    """Callbacks that draw a bar: one, or none where it would not be seen.

    It is gone behind the block, also after an error, of which skorch tells no callback.
    """
    if not is_shown(verbose):
        yield []
        return
    bar = TrainingBar()
    try:
        yield [bar]
    finally:
        bar.close()


class TrainingBar(Callback):
    """One bar over all batches of all epochs, with the loss since it was last drawn."""

    def __init__(self) -> None:
        self._bar: Bar | None = None

    def on_epoch_begin(
        self, net: NeuralNet, dataset_train: ImageDataset, **kwargs: Any
    ) -> None:
        """Say which epoch it is, and how many images there are in all epochs."""
        self._label = f"fit, epoch {len(net.history)}/{net.max_epochs}"
        self._n_images = net.max_epochs * len(dataset_train)
        self._losses: list[torch.Tensor] = []

    def on_batch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start where the first batch is there: frozen stages have a bar of theirs."""
        if self._bar is None:
            self._bar = Bar(self._label, self._n_images, verbose=1)

    def on_batch_end(
        self,
        net: NeuralNet,
        batch: Batch,
        training: bool,
        loss: torch.Tensor,
        **kwargs: Any,
    ) -> None:
        """Count the images of a step."""
        if training and self._bar is not None:
            self._losses.append(loss)
            self._bar.advance(len(batch[0]), self._note)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Make way for what other callbacks print."""
        if self._bar is not None:
            self._bar.hide()

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Clear the line."""
        self.close()

    def close(self) -> None:
        """Clear the line, and keep nothing that a pickle of the net would carry."""
        self._losses = []
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _note(self) -> tuple[str, str]:
        """The epoch and the loss, for which the device is waited for."""
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        return self._label, f"loss {loss:.3f}"
