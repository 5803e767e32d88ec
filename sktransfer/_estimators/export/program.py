"""A fitted network as one plain module, from uint8 images to what is asked of it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from sktransfer._estimators.export.resizing import Resize
from sktransfer._images.augmentation import apply_views
from sktransfer._images.geometry import lay_out
from sktransfer._images.preprocessing import Preprocess, pad_around
from sktransfer._images.shapes import Shape
from sktransfer._images.views import View, WeightedViews
from sktransfer._networks.device import autocast
from sktransfer._networks.stages import Stages


class Prepare(nn.Module):
    """Do what :class:`Preprocess` does to uint8 images, but of one fixed shape.

    Parameters
    ----------
    preprocess : Preprocess
        Of the network.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the images.

    in_bytes : bool
        Whether resized pixels are rounded to bytes, as `preprocess` does on a CPU.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self, preprocess: Preprocess, image_shape: Shape, in_bytes: bool
    ) -> None:
        super().__init__()
        own = image_shape[:2]
        self.size = preprocess.image_size or own
        self.part, self.place = lay_out(own, self.size, preprocess.resize)
        self.resize = Resize(
            self.part.size, self.place.size, preprocess.interpolation, in_bytes
        )
        self.register_buffer("mean", preprocess.mean)
        self.register_buffer("std", preprocess.std)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, *image_shape), uint8, to (n, channels, *image_size), float32."""
        x = images.permute(0, 3, 1, 2)[:, :, self.part.rows, self.part.columns]
        x = self.resize(x.float()) / 255
        return pad_around((x - self.mean) / self.std, self.place, self.size)


class ShowViews(nn.Module):
    """Show images in several views, one view of all of them after another.

    Parameters
    ----------
    views : sequence of View
        How each image is shown.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the images.
    """

    rows: torch.Tensor
    columns: torch.Tensor

    def __init__(self, views: Sequence[View], image_shape: Shape) -> None:
        super().__init__()
        height, width, _ = image_shape
        first = np.zeros(1, np.int64)
        at = torch.stack(
            torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij"), 2
        )
        shown = [apply_views(at[None], (view,), first)[0] for view in views]
        self.register_buffer("rows", torch.stack([some[:, 0, 0] for some in shown]))
        self.register_buffer("columns", torch.stack([some[0, :, 1] for some in shown]))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, height, width, channels) to (n_views * n, ...)."""
        shown = [
            images.index_select(1, rows).index_select(2, columns)
            for rows, columns in zip(self.rows, self.columns, strict=True)
        ]
        return torch.cat(shown)


class Program(nn.Module):
    """A fitted network, from uint8 images to its outputs.

    It needs nothing but torch once ``torch.export`` has read it.

    Parameters
    ----------
    stages : Stages
        The network; copied to the CPU. Where it is now decides how images are resized.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the images.

    views : WeightedViews, default=None
        Views over whose logits the mean is taken.
    """

    def __init__(
        self,
        stages: Stages,
        image_shape: Shape,
        views: WeightedViews | None = None,
    ) -> None:
        super().__init__()
        preprocess: Any = stages.preprocess
        in_bytes = preprocess.mean.device.type == "cpu"
        stages = copy.deepcopy(stages).cpu().requires_grad_(False)
        stages = stages.to(memory_format=torch.contiguous_format)
        preprocess, stages.preprocess = stages.preprocess, nn.Identity()
        self.image_shape = image_shape
        self.prepare = Prepare(preprocess, image_shape, in_bytes)
        self.stages = stages
        self.show = None
        self.shares: tuple[float, ...] = (1.0,)
        if views is not None and len(views.views) > 1:
            self.show = ShowViews(views.views, image_shape)
            self.shares = views.weights
        self.train(False)

    def train(self, mode: bool = True) -> Program:
        """Stay in eval mode: this network has learned."""
        super().train(False)
        return self

    def prepare_views(self, images: torch.Tensor) -> torch.Tensor:
        """Check images, and map them to what the network sees of all their views."""
        if images.dtype != torch.uint8 or images.shape[1:] != self.image_shape:
            raise ValueError(
                f"images have shape {tuple(images.shape)} and dtype {images.dtype}; "
                f"pass (n, {', '.join(map(str, self.image_shape))}) and torch.uint8."
            )
        seen: torch.Tensor = self.prepare(
            images if self.show is None else self.show(images)
        )
        return seen


class FeatureProgram(Program):
    """From uint8 images to pooled features."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, height, width, channels), uint8, to (n, n_features), float32."""
        with autocast("float32", images.device):
            seen, n_stages = self.prepare_views(images), self.stages.n_frozen(0)
            features: torch.Tensor = self.stages.advance(seen, 0, n_stages)
        return features


class ClassProgram(Program):
    """From uint8 images to probabilities."""

    def find_logits(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, height, width, channels), uint8, to (n, n_classes), float32."""
        with autocast("float32", images.device):
            logits: torch.Tensor = self.stages.decode(self.prepare_views(images), 0)
        if self.show is None:
            return logits
        of_views = logits.view(len(self.shares), -1, logits.shape[1])
        parts = zip(of_views.unbind(), self.shares, strict=True)
        return torch.stack([share * some for some, share in parts]).sum(0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, height, width, channels), uint8, to (n, n_classes), float32."""
        return self.find_logits(images).softmax(1)


class LabelProgram(nn.Module):
    """From uint8 images to probabilities and the position of the label.

    Parameters
    ----------
    program : ClassProgram
        Computes the logits.
    """

    def __init__(self, program: ClassProgram) -> None:
        super().__init__()
        self.program = program
        self.eval()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map (n, height, width, channels) to (n, n_classes) and (n,), int64."""
        logits = self.program.find_logits(images)
        # Of the logits, as in predict: two of them may have the same probability.
        return logits.softmax(1), logits.argmax(1)
