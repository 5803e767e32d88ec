"""A compact CNN for training from scratch, as stages."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

from torch import nn

from sktransfer._preprocessing import Preprocess
from sktransfer._stages import Head, Stages

# Three poolings need 8 pixels; beyond 64 the network would see no more for its cost.
SMALLEST_IMAGE, LARGEST_IMAGE = 8, 64

# stem, layer1 to layer3, head
N_STAGES = 5


def _layer(n_in: int, n_out: int) -> nn.Sequential:
    """Two 3x3 convolutions around one halving of the resolution."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(n_in, n_out, kernel_size=3, padding=1, bias=False),
            pool=nn.MaxPool2d(2),
            bn1=nn.BatchNorm2d(n_out),
            relu1=nn.ReLU(inplace=True),
            conv2=nn.Conv2d(n_out, n_out, kernel_size=3, padding=1, bias=False),
            bn2=nn.BatchNorm2d(n_out),
            relu2=nn.ReLU(inplace=True),
        )
    )


def make_cnn(
    n_classes: int,
    width: int,
    dropout: float,
    image_size: tuple[int, int] | None,
    mean: Sequence[float],
    std: Sequence[float],
) -> Stages:
    """Build a CNN with random weights.

    Parameters
    ----------
    n_classes : int
        Width of the logits.

    width : int
        Channels of the first stages; the last has four times as many.

    dropout : float
        Share of pooled features dropped before the linear map, in ``[0, 1)``.

    image_size : tuple of (int, int) or None
        Height and width to which images are resized.

    mean, std : sequence of float of length n_channels
        Of the training images, per channel.

    Returns
    -------
    Stages
        With stages ``stem``, ``layer1`` to ``layer3`` and ``head``.
    """
    stem = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(len(mean), width, kernel_size=3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
        )
    )
    stages = OrderedDict[str, nn.Module](
        stem=stem,
        layer1=_layer(width, width),
        layer2=_layer(width, 2 * width),
        layer3=_layer(2 * width, 4 * width),
        head=Head(4 * width, n_classes, dropout),
    )
    for stage in stages.values():
        for module in stage.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return Stages(stages, Preprocess(image_size, mean, std))


def native_size(image_shape: tuple[int, int, int]) -> tuple[int, int] | None:
    """Size to which images are resized, or None where they suit the network."""
    height, width, _ = image_shape
    if min(height, width) >= SMALLEST_IMAGE and max(height, width) <= LARGEST_IMAGE:
        return None
    size = min(max(height, width, SMALLEST_IMAGE), LARGEST_IMAGE)
    return size, size
