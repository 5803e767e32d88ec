"""Images in memory, and an epoch of batches of them on the device."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sktransfer._activations.rows import ActivationRows
from sktransfer._images.augmentation import (
    Placement,
    call_augment,
    draw_placement,
    draw_views,
    place,
    placed_as,
)
from sktransfer._images.preprocessing import to_batch
from sktransfer._images.views import AS_IT_IS, Augment, views_of
from sktransfer._training.schedule import n_batches

# Most of a device's free memory that images may take there.
RESIDENT_SHARE = 0.4
# Bytes: what is sent passes through memory that the system cannot use meanwhile.
SENT_AT_ONCE = 2**26

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

    resident : tensor or None, default=None
        `images` on the device, where there is room for them: see :func:`resident`.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        weights: np.ndarray,
        rows: np.ndarray | None = None,
        activations: ActivationRows | None = None,
        resident: torch.Tensor | None = None,
    ) -> None:
        self.images, self.labels, self.weights = images, labels, weights
        self.rows = np.arange(len(labels)) if rows is None else rows
        self.activations, self.resident = activations, resident

    def __len__(self) -> int:
        return len(self.rows)

    def changed(self, **changes: Any) -> ImageDataset:
        """The same set but for some of what it was made of."""
        return ImageDataset(**{**vars(self), **changes})


def resident(images: np.ndarray, device: torch.device) -> torch.Tensor | None:
    """Images on a GPU, sent there once; None where they are too large, or on a CPU."""
    if device.type != "cuda":
        return None
    dtype = torch.uint8 if images.dtype == np.uint8 else torch.float32
    free, _ = torch.cuda.mem_get_info(device)
    if images.size * dtype.itemsize > RESIDENT_SHARE * free:
        return None
    there = torch.empty(images.shape, dtype=dtype, device=device)
    n_at_once = max(1, SENT_AT_ONCE // (images[0].size * dtype.itemsize))
    for first in range(0, len(images), n_at_once):
        some = slice(first, first + n_at_once)
        there[some] = to_batch(images[some], device)
    return there


class Batches:
    """One epoch of batches on the device; shuffled and augmented when training.

    A batch holds images or, where the data set has them, activations. With
    `alternate_flip`, an image is mirrored by lot in the first epoch, and from then on
    in every other one (Jordan 2024).
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        device: torch.device,
        augment: Augment,
        generator: torch.Generator | None,
        alternate_flip: bool = False,
    ) -> None:
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self.augment, self.generator = augment, generator
        self.alternate_flip = alternate_flip
        # Whether each image is mirrored in the next epoch, where that alternates.
        self.is_mirrored: torch.Tensor | None = None

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
            inputs = self._images(rows, self._placements(order))
        else:
            inputs = self._activations(activations, rows)
        parts = [part.tensor_split(len(self)) for part in (labels, weights)]
        for x, *targets in zip(inputs, *parts, strict=True):
            yield x, (targets[0], targets[1])

    def _images(
        self, rows: np.ndarray, placements: Iterable[Placement | None]
    ) -> Iterator[torch.Tensor]:
        """Batches of images, augmented."""
        resident = self.dataset.resident
        if resident is None:
            parts = np.array_split(rows, len(self))
            batches = (to_batch(self.dataset.images[p], self.device) for p in parts)
        else:
            on_device = torch.from_numpy(rows).to(self.device)
            batches = (resident[p] for p in on_device.tensor_split(len(self)))
        for batch, placement in zip(batches, placements, strict=False):
            if placement is not None:
                yield place(batch, placement)
            elif callable(self.augment) and self.generator is not None:
                yield call_augment(self.augment, batch)
            else:
                yield batch

    def _placements(self, order: torch.Tensor) -> Iterable[Placement | None]:
        """How the images of each batch are shown; drawn for the whole epoch at once."""
        _, height, width, _ = self.dataset.images.shape
        nothing = repeat(None)
        if self.generator is None:
            return nothing
        views = views_of(self.augment, height, width)
        if self.augment in ("flip", "flip_crop"):
            drawn = draw_placement(
                len(order), height, width, views is None, self.generator
            )
            if self.alternate_flip:
                drawn = drawn._replace(is_mirrored=self._alternate(order, drawn))
        elif views is None or set(views) == {AS_IT_IS}:
            return nothing
        else:
            drawn = placed_as(views, draw_views(len(order), len(views), self.generator))
        return drawn.to(self.device).split(len(self))

    def _alternate(self, order: torch.Tensor, drawn: Placement) -> torch.Tensor:
        """Whether the images, in this order, are mirrored in this epoch."""
        if self.is_mirrored is None:
            self.is_mirrored = drawn.is_mirrored.clone()
        now = self.is_mirrored[order]
        self.is_mirrored = ~self.is_mirrored
        return now

    def _activations(
        self, activations: ActivationRows, rows: np.ndarray
    ) -> Iterator[torch.Tensor]:
        """Batches of activations, each of one of its image's views."""
        chosen = draw_views(len(rows), len(activations.views), self.generator)
        activations.ensure(rows, chosen)
        yield from activations.batches(rows, chosen, len(self))
