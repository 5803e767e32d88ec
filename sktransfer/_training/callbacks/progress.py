"""The progress of training, as lines or as a bar: skorch callbacks."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer._feedback import Bar, is_shown
from sktransfer._training.batches import Batch
from sktransfer._training.image_sets import ImageDataset

# At least so many seconds between two lines.
EVERY_SECONDS = 5.0

# What a line reports of an epoch, by its key in the history.
REPORTED = {
    "train_loss": "training loss {:.3f}",
    "train_accuracy": "training accuracy {:.1%}",
    "valid_loss": "validation loss {:.3f}",
    "valid_accuracy": "validation accuracy {:.1%}",
}


# Changes the colour of text in a terminal.
_COLOR = re.compile(r"\x1b\[\d*m")


def print_plainly(text: str) -> None:
    """Print; keep colours only for a terminal, as they clutter a file."""
    # Some programs replace the stream by a bare writer.
    is_terminal = getattr(sys.stdout, "isatty", lambda: False)()
    print(text if is_terminal else _COLOR.sub("", text))


class EpochReport(Callback):
    """Report the epoch, its losses and accuracies, but only every few seconds.

    Parameters
    ----------
    report : callable
        Receives a line.

    label : str
        The beginning of the line.
    """

    def __init__(self, report: Callable[[str], None], label: str) -> None:
        self.report, self.label = report, label

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Start the clock."""
        self.started_ = self.reported_ = time.monotonic()

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Report a line if the last one is a while ago."""
        now = time.monotonic()
        if now - self.reported_ < EVERY_SECONDS:
            return
        self.reported_ = now
        row = net.history[-1]
        parts = [
            f"{self.label}: epoch {row['epoch']} of {net.max_epochs} after "
            f"{now - self.started_:.0f} s",
            *(text.format(row[key]) for key, text in REPORTED.items() if key in row),
        ]
        self.report(", ".join(parts))


@contextmanager
def open_bar(verbose: int) -> Iterator[list[Callback]]:
    """Yield the callbacks that draw a bar: one, or none if nobody would see it.

    The bar is closed at the end of the block, even after an error, about which skorch
    notifies no callback.
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
        """Note which epoch it is, and how many images there are in all epochs."""
        self._label = f"fit, epoch {len(net.history)}/{net.max_epochs}"
        self._n_images = net.max_epochs * len(dataset_train)
        self._losses: list[torch.Tensor] = []

    def on_batch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Open the bar with the first batch; frozen stages have their own bar."""
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
        """Clear the line for what other callbacks print."""
        if self._bar is not None:
            self._bar.hide()

    def on_train_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Clear the line."""
        self.close()

    def close(self) -> None:
        """Clear the line, and drop what a pickle of the net would carry."""
        self._losses = []
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _note(self) -> tuple[str, str]:
        """Return the epoch and the loss; this waits for the device."""
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        return self._label, f"loss {loss:.3f}"
