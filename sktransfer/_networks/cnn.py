"""A small CNN as stages, after the CIFAR-10 speed runs; its first filters whiten."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer._images.geometry import frame_shape
from sktransfer._images.preprocessing import Preprocess, to_batch
from sktransfer._images.shapes import Shape
from sktransfer._images.streams.ahead import Images, read_ahead
from sktransfer._networks.stages import Head, Stages
from sktransfer._networks.statistics import (
    choose_evenly,
    make_whitening_filters,
    measure_channels,
)

STAGES = ("stem", "layer1", "layer2", "layer3", "head")

# A 2x2 convolution and three poolings need 9 pixels. Images smaller than 16 pixels are
# enlarged; beyond 64 the network would see little more at a much higher cost.
SMALLEST_IMAGE, SMALLEST_NATIVE, LARGEST_IMAGE = 9, 16, 64

# The first stage has filters for both signs of every direction of 2x2 patches. Images
# with many channels have more directions than are useful.
PATCH = 2
MOST_DIRECTIONS = 32

# Training is short, so batch-norm statistics must follow quickly (as in Jordan 2024).
STATISTICS_MOMENTUM = 0.4

# If images hardly differ, dividing by the square root of the usual 1e-5 blows gradients
# up from layer to layer, above all in bfloat16. Photographs have variances of about 1.
STATISTICS_EPSILON = 1e-2

# Number of images whose patches make the first filters (as in Jordan 2024).
N_FOR_WHITENING = 5_000

# Factor on the logits of 256 features, from Jordan (2024), who pools maxima. Averages
# are much smaller; weights with this deviation, larger than torch's, make up for that.
LOGIT_SCALE = 1 / 9
WEIGHTS_OF_AVERAGES = 1.0


class FixedConvolution(nn.Module):
    """Convolution whose filters are fixed and whose bias learns."""

    weight: torch.Tensor

    def __init__(self, weight: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.bias = nn.Parameter(torch.zeros(len(weight)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map (n, channels, height, width) to (n, n_filters, height - 1, width - 1)."""
        return F.conv2d(images, self.weight, self.bias)


class UnscaledBatchNorm(nn.BatchNorm2d):
    """Batch norm whose scale stays 1; its bias learns."""

    def __init__(self, n_channels: int) -> None:
        super().__init__(n_channels, STATISTICS_EPSILON, STATISTICS_MOMENTUM)
        del self.weight
        self.register_buffer("weight", torch.ones(n_channels))


class ScaledHead(Head):
    """Pooling, dropout and a linear layer, scaled down."""

    def __init__(
        self, n_features: int, n_classes: int, dropout: float, global_pool: str
    ) -> None:
        super().__init__(n_features, n_classes, dropout)
        self.global_pool = global_pool
        if global_pool == "avg":
            nn.init.normal_(self.linear.weight, std=WEIGHTS_OF_AVERAGES)
        nn.init.zeros_(self.linear.bias)
        self.scale = LOGIT_SCALE * math.sqrt(256 / n_features)

    def pool(self, activation: torch.Tensor) -> torch.Tensor:
        """Pool (n, channels, height, width) to averages or maxima (n, channels)."""
        if self.global_pool == "max":
            # By index: the gradient of amax divides by the number of pixels that equal
            # the maximum. torch.compile keeps unrounded values, which none may equal.
            greatest: torch.Tensor = activation.flatten(2).max(dim=2).values
            return greatest
        return super().pool(activation)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Map activations, pooled or not, to logits of shape (n, n_classes)."""
        return self.scale * super().forward(activation)


def _make_convolution(n_in: int, n_out: int) -> nn.Conv2d:
    """Build a 3x3 convolution that at first copies its inputs to its first channels."""
    convolution = nn.Conv2d(n_in, n_out, kernel_size=3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[: min(n_in, n_out)])
    return convolution


def _make_layer(n_in: int, n_out: int) -> nn.Sequential:
    """Build two 3x3 convolutions; the resolution is halved after the first."""
    return nn.Sequential(
        OrderedDict(
            conv1=_make_convolution(n_in, n_out),
            pool=nn.MaxPool2d(2),
            bn1=UnscaledBatchNorm(n_out),
            gelu1=nn.GELU(),
            conv2=_make_convolution(n_out, n_out),
            bn2=UnscaledBatchNorm(n_out),
            gelu2=nn.GELU(),
        )
    )


def make_cnn(
    n_classes: int,
    widths: tuple[int, int, int],
    dropout: float,
    preprocess: Preprocess,
    filters: torch.Tensor | None,
    global_pool: str = "avg",
) -> Stages:
    """Build a CNN with random weights.

    Parameters
    ----------
    n_classes : int
        Width of the logits.

    widths : tuple of (int, int, int)
        Channels of ``layer1`` to ``layer3``.

    dropout : float
        Share of pooled features dropped before the linear map, in ``[0, 1)``.

    preprocess : Preprocess
        Resizes and normalises the images.

    filters : tensor of shape (n_filters, n_channels, 2, 2) or None
        Fixed filters of the first stage; ``None`` lets it learn random ones.

    global_pool : {"avg", "max"}, default="avg"
        How the head pools the pixels of the last activation.

    Returns
    -------
    Stages
        With stages ``stem``, ``layer1`` to ``layer3`` and ``head``.
    """
    n_channels = preprocess.mean.shape[1]
    n_filters = 2 * count_directions(n_channels) if filters is None else len(filters)
    first = (
        nn.Conv2d(n_channels, n_filters, PATCH)
        if filters is None
        else FixedConvolution(filters)
    )
    narrow, middle, wide = widths
    modules: list[nn.Module] = [
        nn.Sequential(OrderedDict(conv1=first, gelu=nn.GELU())),
        _make_layer(n_filters, narrow),
        _make_layer(narrow, middle),
        _make_layer(middle, wide),
        ScaledHead(wide, n_classes, dropout, global_pool),
    ]
    return Stages(dict(zip(STAGES, modules, strict=True)), preprocess)


def make_cnn_for(
    images: Images,
    rows: np.ndarray,
    n_classes: int,
    widths: tuple[int, int, int],
    dropout: float,
    image_size: int | str | None,
    resize: str,
    whiten: bool,
    global_pool: str,
    device: torch.device,
) -> Stages:
    """Build a CNN that normalises, and if asked to whitens, images like these.

    Parameters
    ----------
    images : Images of shape (n_images, height, width, n_channels)
        As the user passed them.

    rows : ndarray of int
        The images to train on, from which statistics and filters are taken.

    n_classes, widths, dropout, global_pool
        As for :func:`make_cnn`.

    image_size : "auto", int or None
        As for the estimators.

    resize : {"crop", "pad", "squash"}
        What to do with images of other proportions.

    whiten : bool
        Whether the first filters are fixed and whiten patches.

    device : torch.device
        Where the filters are computed.

    Returns
    -------
    Stages
        With random weights, except for the first filters if they whiten.

    Raises
    ------
    ValueError
        If `image_size` leaves images too small for the network.
    """
    size = resolve_image_size(image_size, images.shape[1:], resize)
    preprocess = Preprocess(size, *measure_channels(images, rows), resize=resize)
    filters = None
    if whiten:
        preprocess.to(device)
        parts = choose_evenly(images, rows, N_FOR_WHITENING)
        batches = (preprocess(to_batch(x, device)) for x in read_ahead(images, parts))
        n_directions = count_directions(images.shape[3])
        filters = make_whitening_filters(batches, PATCH, n_directions).cpu()
    return make_cnn(n_classes, widths, dropout, preprocess, filters, global_pool)


def count_directions(n_channels: int) -> int:
    """Count the directions of patches that the first stage looks at."""
    return min(n_channels * PATCH**2, MOST_DIRECTIONS)


def resolve_image_size(
    image_size: int | str | None, image_shape: Shape, resize: str
) -> tuple[int, int] | None:
    """Choose the size in pixels to which images are resized, None for their own.

    Raises
    ------
    ValueError
        If that is too small for the network.
    """
    size = None
    if image_size == "auto":
        size = choose_size(image_shape, resize)
    elif image_size is not None:
        size = (int(image_size),) * 2
    if min(size or image_shape[:2]) < SMALLEST_IMAGE:
        raise ValueError(
            f"image_size={image_size!r} leaves images of shape {image_shape} smaller "
            f"than {SMALLEST_IMAGE} pixels, which the network cannot halve three "
            "times; pass image_size='auto'."
        )
    return size


def choose_size(image_shape: Shape, resize: str) -> tuple[int, int] | None:
    """Choose a size in pixels that suits the network, None for images that do."""
    height, width, _ = image_shape
    if min(height, width) >= SMALLEST_NATIVE and max(height, width) <= LARGEST_IMAGE:
        return None
    height, width, _ = frame_shape(image_shape, resize)
    size = min(max(height, width, SMALLEST_NATIVE), LARGEST_IMAGE)
    return size, size
