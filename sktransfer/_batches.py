"""Images in memory, and an epoch of batches of them on the device."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sktransfer._augmentation import Augment, augment_batch
from sktransfer._preprocessing import to_batch
from sktransfer._schedule import n_batches

Batch = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]


class ImageDataset(Dataset):  # type: ignore[type-arg]
    """Images in memory with labels and weights, indexed by whole batches.

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
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        rows: np.ndarray | None = None,
    ) -> None:
        self.images, self.labels, self.weights = images, labels, weights
        self.rows = np.arange(len(labels)) if rows is None else rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> tuple[Any, tuple[Any, Any]]:
        rows = self.rows[index]
        return self.images[rows], (self.labels[rows], self.weights[rows])


class Batches:
    """One epoch of batches on the device; shuffled and augmented when training."""

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
        for rows in order.tensor_split(len(self)):
            images, (labels, weights) = self.dataset[rows.numpy()]
            batch = to_batch(images, self.device)
            if self.generator is not None:
                batch = augment_batch(batch, self.augment, self.generator)
            yield (
                batch,
                (
                    torch.from_numpy(labels).to(self.device),
                    torch.from_numpy(weights).to(self.device),
                ),
            )
