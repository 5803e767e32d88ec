"""The frozen prefix of a network: from images to activations."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from sktransfer._activations.keys import hash_network
from sktransfer._feedback import Bar
from sktransfer._images.augmentation import apply_views
from sktransfer._images.preprocessing import to_batch
from sktransfer._images.streams.ahead import Images, read_ahead
from sktransfer._images.views import View
from sktransfer._networks.device import autocast
from sktransfer._networks.fixed_batches import choose_batch_size, cut, run_padded
from sktransfer._networks.stages import Stages

if TYPE_CHECKING:
    from sktransfer._activations.rows import ActivationRows


class Prefix:
    """The first stages of a network, frozen.

    Parameters
    ----------
    stages : Stages
        The network.

    n_stages : int
        How many stages the prefix has, 1 or more.

    device : torch.device
        Where the stages are.

    precision : {"float32", "bfloat16"}
        Number format of matrix products and of activations.
    """

    def __init__(
        self, stages: Stages, n_stages: int, device: torch.device, precision: str
    ) -> None:
        self.stages, self.n_stages = stages, n_stages
        self.device, self.precision = device, precision
        # Images that pass at a time, if it was found that memory is short.
        self.most_at_once: int | None = None

    def batch_size(self, image_shape: tuple[int, ...]) -> int:
        """Return how many images of this shape pass at a time."""
        if self.most_at_once is not None:
            return self.most_at_once
        return choose_batch_size(self.stages, image_shape, self.device)

    def namespace(self, image_shape: tuple[int, ...]) -> str:
        """Return the name of the activations of images of this shape."""
        return hash_network(
            self.stages,
            self.n_stages,
            self.device,
            self.precision,
            self.batch_size(image_shape),
            image_shape,
        )

    # Not in inference mode: gradients of the learning stages need these activations.
    @torch.no_grad()
    def encode(
        self,
        images: Images,
        rows: np.ndarray,
        views: Sequence[View],
        chosen: np.ndarray,
        bar: Bar | None = None,
    ) -> torch.Tensor:
        """Compute the activations of some images, one batch at a time.

        Parameters
        ----------
        images : Images of shape (n_images, height, width, n_channels)
            As the user passed them; read a batch at a time.

        rows : ndarray of shape (n,), int
            Which images.

        views : sequence of View
            How an image may be shown.

        chosen : ndarray of shape (n,), int
            The view of each row, as a position in `views`.

        bar : Bar, default=None
            Counts the images.

        Returns
        -------
        tensor of shape (n, *activation)
            On the device of the stages.
        """
        return self._run(images, rows, views, chosen, bar)

    def _run(
        self,
        images: Images,
        rows: np.ndarray,
        views: Sequence[View],
        chosen: np.ndarray,
        bar: Bar | None,
    ) -> torch.Tensor:
        """Pass batch after batch of some images through the stages."""
        size, parts = self.batch_size(images.shape[1:]), []
        for batch in self._take(images, rows, views, chosen, size):
            with autocast(self.precision, self.device):
                parts.append(run_padded(self._encode, batch, size).contiguous())
            if bar is not None:
                bar.advance(len(batch))
        return torch.cat(parts)

    def _take(
        self,
        images: Images,
        rows: np.ndarray,
        views: Sequence[View],
        chosen: np.ndarray,
        size: int,
    ) -> Iterator[torch.Tensor]:
        """Yield what batches of images enter the prefix as."""
        batches = list(cut(len(rows), size))
        read = read_ahead(images, [rows[some] for some in batches])
        for some, pixels in zip(batches, read, strict=True):
            yield apply_views(to_batch(pixels, self.device), views, chosen[some])

    def _encode(self, batch: torch.Tensor) -> torch.Tensor:
        return self.stages.encode(batch, self.n_stages)


class OtherBatchesError(Exception):
    """Activations to go on from now pass in smaller batches than those before."""


class LongerPrefix(Prefix):
    """A prefix that goes on from the activations of a shorter one.

    Parameters
    ----------
    shorter : ActivationRows
        The activations to go on from; of the same images and views.

    n_stages : int
        How many stages the longer prefix has.
    """

    def __init__(self, shorter: ActivationRows, n_stages: int) -> None:
        prefix = shorter.prefix
        super().__init__(prefix.stages, n_stages, prefix.device, prefix.precision)
        self.shorter = shorter

    def namespace(self, image_shape: tuple[int, ...]) -> str:
        """Return the name of the activations of images of this shape."""
        # In bfloat16, activations that were kept in between differ in their last bits.
        whole = super().namespace(image_shape)
        path = f"{whole} {self.shorter.prefix.n_stages}"
        if self.shorter.prefix.most_at_once is not None:
            path += f" {self.shorter.prefix.most_at_once}"
        return hashlib.sha256(path.encode()).hexdigest()[: len(whole)]

    @torch.no_grad()
    def encode(
        self,
        images: Images,
        rows: np.ndarray,
        views: Sequence[View],
        chosen: np.ndarray,
        bar: Bar | None = None,
    ) -> torch.Tensor:
        """Compute the activations of some images, as :meth:`Prefix.encode` does."""
        size = self.shorter.batch_size
        # All at once: the cache computes and writes large blocks.
        self.shorter.ensure(rows, chosen)
        activations = self._run(images, rows, views, chosen, bar)
        if self.shorter.batch_size != size:
            raise OtherBatchesError
        return activations

    def _take(
        self,
        images: Images,
        rows: np.ndarray,
        views: Sequence[View],
        chosen: np.ndarray,
        size: int,
    ) -> Iterator[torch.Tensor]:
        for some in cut(len(rows), size):
            yield self.shorter.gather(rows[some], chosen[some])

    def _encode(self, batch: torch.Tensor) -> torch.Tensor:
        return self.stages.advance(batch, self.shorter.prefix.n_stages, self.n_stages)
