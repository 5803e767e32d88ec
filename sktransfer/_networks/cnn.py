"""A small CNN in the manner of CIFAR-10 speed runs, trained from scratch, as stages."""

from __future__ import annotations

import math
from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from sktransfer._images.preprocessing import Preprocess
from sktransfer._networks.stages import Head, Stages

# Three poolings after a 2x2 convolution need 9 pixels; smaller images than 16 are
# enlarged, and beyond 64 the network would see no more for its cost.
SMALLEST_IMAGE, SMALLEST_NATIVE, LARGEST_IMAGE = 9, 16, 64

# stem, layer1 to layer3, head
N_STAGES = 5

# Filters of the first stage: both signs of every direction of 2x2 patches, of which
# images with many channels have more than are of use.
PATCH = 2
MOST_DIRECTIONS = 32

# Statistics of short trainings must follow fast (Jordan 2024 has the same).
STATISTICS_MOMENTUM = 0.4

# Where images hardly differ, dividing by the usual root of 1e-5 blows gradients up from
# layer to layer, the more so in bfloat16. Photographs have variances of about 1.
STATISTICS_EPSILON = 1e-2

# Factor of the logits of 256 features, as Jordan 2024 has it for maxima. Averages are
# much smaller, and weights of this deviation, larger than torch's, make up for that.
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
    """Batch norm whose scale is 1 for good; its bias learns."""

    def __init__(self, n_channels: int) -> None:
        super().__init__(n_channels, STATISTICS_EPSILON, STATISTICS_MOMENTUM)
        del self.weight
        self.register_buffer("weight", torch.ones(n_channels))


class ScaledHead(Head):
    """Pooling, dropout and a linear map, scaled down."""

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
        """Average or maximum of (n, channels, height, width): (n, channels)."""
        if self.global_pool == "max":
            # By index: the gradient of amax asks which pixels equal it, and of what
            # torch.compile leaves unrounded none may, which divides 0 by 0.
            greatest: torch.Tensor = activation.flatten(2).max(dim=2).values
            return greatest
        return super().pool(activation)

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Logits of shape (n, n_classes), from activations pooled already or not."""
        return self.scale * super().forward(activation)


def _convolution(n_in: int, n_out: int) -> nn.Conv2d:
    """A 3x3 convolution that begins by handing on its inputs in its first channels."""
    convolution = nn.Conv2d(n_in, n_out, kernel_size=3, padding=1, bias=False)
    with torch.no_grad():
        nn.init.dirac_(convolution.weight[: min(n_in, n_out)])
    return convolution


def _layer(n_in: int, n_out: int) -> nn.Sequential:
    """Two 3x3 convolutions, the resolution halved after the first."""
    return nn.Sequential(
        OrderedDict(
            conv1=_convolution(n_in, n_out),
            pool=nn.MaxPool2d(2),
            bn1=UnscaledBatchNorm(n_out),
            gelu1=nn.GELU(),
            conv2=_convolution(n_out, n_out),
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
    n_filters = 2 * n_directions(n_channels) if filters is None else len(filters)
    first = (
        nn.Conv2d(n_channels, n_filters, PATCH)
        if filters is None
        else FixedConvolution(filters)
    )
    narrow, middle, wide = widths
    stages = OrderedDict[str, nn.Module](
        stem=nn.Sequential(OrderedDict(conv1=first, gelu=nn.GELU())),
        layer1=_layer(n_filters, narrow),
        layer2=_layer(narrow, middle),
        layer3=_layer(middle, wide),
        head=ScaledHead(wide, n_classes, dropout, global_pool),
    )
    return Stages(stages, preprocess)


def n_directions(n_channels: int) -> int:
    """How many directions of patches the first stage looks at."""
    return min(n_channels * PATCH**2, MOST_DIRECTIONS)


def native_size(image_shape: tuple[int, int, int]) -> tuple[int, int] | None:
    """Size to which images are resized, or None where they suit the network."""
    height, width, _ = image_shape
    if min(height, width) >= SMALLEST_NATIVE and max(height, width) <= LARGEST_IMAGE:
        return None
    size = min(max(height, width, SMALLEST_NATIVE), LARGEST_IMAGE)
    return size, size
