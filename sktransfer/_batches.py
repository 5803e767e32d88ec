"""Images in memory, and an epoch of batches of them on the device."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import Dataset

from sktransfer._activations import ActivationRows
from sktransfer._augmentation import augment_batch, draw_views
from sktransfer._preprocessing import to_batch
from sktransfer._schedule import n_batches
from sktransfer._views import Augment

Batch = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]


class ImageDataset(Dataset):  # type: ignore[type-arg]
    """Images in memory with labels and weights; :class:`Batches` cuts them up.

    Parameters
    ----------
    images : ndarray of shape (n, height, width, n_channels)
        Not copied.

    labels : ndarray of shape (n,), int64
        Class indices.

    weights : ndarray of shape (n,), float32
        Weight of each image in the loss.

    rows : ndarray of int, default=None
        The images that belong to the set; ``None`` means all.

    activations : ActivationRows or None, default=None
        Of `images`, to train on instead of them.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        rows: np.ndarray | None = None,
        activations: ActivationRows | None = None,
    ) -> None:
        self.images, self.labels, self.weights = images, labels, weights
        self.rows = np.arange(len(labels)) if rows is None else rows
        self.activations = activations

    def __len__(self) -> int:
        return len(self.rows)

    def with_activations(self, activations: ActivationRows) -> ImageDataset:
        """The same set, to train on activations."""
        return ImageDataset(
            self.images, self.labels, self.weights, self.rows, activations
        )

    def head(self, n: int) -> ImageDataset:
        """The first `n` images of the set."""
        return ImageDataset(
            self.images, self.labels, self.weights, self.rows[:n], self.activations
        )


class Batches:
    """One epoch of batches on the device; shuffled and augmented when training.

    A batch holds images or, where the data set has them, activations.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        device: torch.device,
        augment: Augment,
        generator: torch.Generator | None,
    ) -> None:
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self.augment, self.generator = augment, generator

    def __len__(self) -> int:
        return n_batches(len(self.dataset), self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        n = len(self.dataset)
        order = torch.arange(n)
        if self.generator is not None:
            order = torch.randperm(n, generator=self.generator)
        rows = self.dataset.rows[order.numpy()]
        labels = torch.from_numpy(self.dataset.labels[rows]).to(self.device)
        weights = torch.from_numpy(self.dataset.weights[rows]).to(self.device)
        activations = self.dataset.activations
        if activations is None:
            inputs = self._images(rows)
        else:
            inputs = self._activations(activations, rows)
        parts = [part.tensor_split(len(self)) for part in (labels, weights)]
        for x, *targets in zip(inputs, *parts, strict=True):
            yield x, (targets[0], targets[1])

    def _images(self, rows: np.ndarray) -> Iterator[torch.Tensor]:
        """Batches of images, augmented."""
        for some in np.array_split(rows, len(self)):
            batch = to_batch(self.dataset.images[some], self.device)
            if self.generator is not None:
                batch = augment_batch(batch, self.augment, self.generator)
            yield batch

    def _activations(
        self, activations: ActivationRows, rows: np.ndarray
    ) -> Iterator[torch.Tensor]:
        """Batches of activations, each of one of its image's views."""
        chosen = draw_views(len(rows), len(activations.views), self.generator)
        activations.ensure(rows, chosen)
        yield from activations.batches(rows, chosen, len(self))
