"""An epoch of batches on the device: shuffled, and augmented when training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import repeat

import numpy as np
import torch

from sktransfer._activations.rows import ActivationRows
from sktransfer._images.augmentation import (
    Placement,
    call_augment,
    draw_placement,
    draw_views,
    place,
    select_placement,
)
from sktransfer._images.preprocessing import to_batch
from sktransfer._images.streams.ahead import read_ahead
from sktransfer._images.variation import draw_variation, vary
from sktransfer._images.views import AS_IT_IS, Augment, list_views
from sktransfer._training.image_sets import ImageDataset
from sktransfer._training.mixing import draw_mix, mix_images, mix_targets
from sktransfer._training.ranks.shares import Share, cut_epoch
from sktransfer._training.schedule import count_batches

Batch = tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]


class Batches:
    """One epoch of batches on the device; shuffled and augmented when training.

    A batch holds activations if the dataset has them, else images. With
    `alternate_flip`, an image is mirrored at random in the first epoch, and from then
    on in every other epoch (Jordan 2024). With `mixup` or `cutmix`, images are mixed,
    and labels and weights have shape (n, 2).
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        device: torch.device,
        augment: Augment,
        generator: torch.Generator | None,
        alternate_flip: bool = False,
        mixup: float = 0.0,
        cutmix: float = 0.0,
    ) -> None:
        self.dataset, self.batch_size, self.device = dataset, batch_size, device
        self.augment, self.generator = augment, generator
        self.alternate_flip, self.mixup, self.cutmix = alternate_flip, mixup, cutmix
        # What this process has of the batch that came last.
        self.share: Share | None = None
        # Whether each image is mirrored in the next epoch, with `alternate_flip`.
        self.is_mirrored: torch.Tensor | None = None

    def get_progress(self) -> dict[str, torch.Tensor | None]:
        """Return what the epochs to come depend on."""
        generator = self.generator
        state = None if generator is None else generator.get_state()
        return {"generator": state, "is_mirrored": self.is_mirrored}

    def set_progress(self, progress: dict[str, torch.Tensor | None]) -> None:
        """Go on from what :meth:`get_progress` returned."""
        self.is_mirrored = progress["is_mirrored"]
        if self.generator is not None and progress["generator"] is not None:
            self.generator.set_state(progress["generator"])

    def __len__(self) -> int:
        return count_batches(len(self.dataset), self.batch_size)

    def __iter__(self) -> Iterator[Batch]:
        dataset, n = self.dataset, len(self.dataset)
        order = torch.arange(n)
        if self.generator is not None:
            order = torch.randperm(n, generator=self.generator)
        rows = dataset.rows[order.numpy()]
        is_own = None if dataset.is_own is None else dataset.is_own[rows]
        shares = cut_epoch(n, len(self), is_own, self._are_mixed())
        at = np.concatenate([share.read for share in shares])
        sizes = [len(share.read) for share in shares]
        labels = self._split(dataset.labels[rows[at]], sizes)
        weights = self._split(dataset.weights[rows[at]], sizes)
        if dataset.activations is None:
            drawn = self._draw_placements(order, at, sizes)
            inputs = self._images(rows[at], shares, drawn)
        else:
            inputs = self._activations(dataset.activations, rows, at, sizes)
        for x, some, heavy, share in zip(inputs, labels, weights, shares, strict=True):
            self.share = share
            yield self._mix(x, some, heavy, share)

    def _split(self, values: np.ndarray, sizes: list[int]) -> list[torch.Tensor]:
        """Send values to the device, and cut them into batches."""
        return list(torch.split(torch.from_numpy(values).to(self.device), sizes))

    def _are_mixed(self) -> bool:
        """Return whether images are mixed with each other."""
        return self.generator is not None and bool(self.mixup or self.cutmix)

    def _mix(
        self,
        images: torch.Tensor,
        labels: torch.Tensor,
        weights: torch.Tensor,
        share: Share,
    ) -> Batch:
        """Make a batch; mix its images and their labels if that is asked for."""
        if self.generator is None or not self._are_mixed():
            return images, (labels, weights)
        size = images.shape[1], images.shape[2]
        mix = draw_mix(self.mixup, self.cutmix, size, self.generator)
        if share.own is None or share.before is None:
            targets = mix_targets(labels, weights, mix.share)
            return mix_images(images, mix), targets
        own, before = (
            torch.from_numpy(at).to(self.device) for at in (share.own, share.before)
        )
        others = labels[before], weights[before]
        targets = mix_targets(labels[own], weights[own], mix.share, others)
        return mix_images(images[own], mix, images[before]), targets

    def _images(
        self,
        rows: np.ndarray,
        shares: list[Share],
        placements: Iterable[Placement | None],
    ) -> Iterator[torch.Tensor]:
        """Yield batches of images, augmented."""
        resident = self.dataset.resident
        sizes = [len(share.read) for share in shares]
        if resident is None:
            parts = np.split(rows, np.cumsum(sizes)[:-1])
            read = read_ahead(self.dataset.images, parts)
            batches = (to_batch(pixels, self.device) for pixels in read)
        else:
            batches = (resident[part] for part in self._split(rows, sizes))
        for batch, share, placement in zip(batches, shares, placements, strict=False):
            yield self._augment(batch, share, placement)

    def _augment(
        self, batch: torch.Tensor, share: Share, placement: Placement | None
    ) -> torch.Tensor:
        """Change the images of a batch, unless it is for validation."""
        if placement is not None:
            return place(batch, placement)
        if self.generator is None:
            return batch
        if callable(self.augment):
            # Nobody expects to be given no images.
            return call_augment(self.augment, batch) if len(batch) else batch
        if self.augment == "advanced":
            _, height, width, _ = batch.shape
            drawn = draw_variation(share.n_whole, height, width, self.generator)
            return vary(batch, drawn.take(torch.from_numpy(share.find_places())))
        return batch

    def _draw_placements(
        self, order: torch.Tensor, at: np.ndarray, sizes: list[int]
    ) -> Iterable[Placement | None]:
        """Draw for the whole epoch how the images of each batch are shown.

        Only those at the positions `at` are returned.
        """
        _, height, width, _ = self.dataset.images.shape
        nothing = repeat(None)
        if self.generator is None:
            return nothing
        views = list_views(self.augment, height, width)
        if self.augment in ("flip", "flip_crop"):
            drawn = draw_placement(
                len(order), height, width, views is None, self.generator
            )
            if self.alternate_flip:
                drawn = drawn._replace(is_mirrored=self._alternate(order, drawn))
        elif views is None or set(views) == {AS_IT_IS}:
            return nothing
        else:
            drawn = select_placement(
                views, draw_views(len(order), len(views), self.generator)
            )
        return drawn.take(torch.from_numpy(at)).to(self.device).split(sizes)

    def _alternate(self, order: torch.Tensor, drawn: Placement) -> torch.Tensor:
        """Return whether the images, in this order, are mirrored in this epoch."""
        if self.is_mirrored is None:
            self.is_mirrored = drawn.is_mirrored.clone()
        now = self.is_mirrored[order]
        self.is_mirrored = ~self.is_mirrored
        return now

    def _activations(
        self,
        activations: ActivationRows,
        rows: np.ndarray,
        at: np.ndarray,
        sizes: list[int],
    ) -> Iterator[torch.Tensor]:
        """Yield batches of activations, each of one view of its image."""
        chosen = draw_views(len(rows), len(activations.views), self.generator)
        rows, chosen = rows[at], chosen[at]
        activations.ensure(rows, chosen)
        yield from activations.batches(rows, chosen, sizes)
