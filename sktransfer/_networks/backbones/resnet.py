"""ResNets as stages: torchvision's, and a reduced one for 32-pixel images."""

from __future__ import annotations

import os
from collections import OrderedDict
from contextlib import nullcontext
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.resnet import BasicBlock

from sktransfer._images.preprocessing import Preprocess
from sktransfer._networks.device import fork_rng
from sktransfer._networks.read_once import copy_network
from sktransfer._networks.stages import Head, Stages
from sktransfer._networks.backbones.weights import Source, find_weights, load_backbone

TORCHVISION_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MINI_BACKBONE = "mini_resnet18"
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
BACKBONES = (*TORCHVISION_BACKBONES, MINI_BACKBONE)

# Per channel of images scaled to [0, 1], as torchvision's ImageNet weights expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Three eighths of ResNet-18's width: what two CPU cores pretrain in about an hour.
MINI_WIDTH = 24


def _make_torchvision_backbone(name: str) -> list[nn.Module]:
    """Build the stages of a torchvision ResNet, without its head."""
    net = get_model(name, weights=None)
    stem = nn.Sequential(
        OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool)
    )
    return [stem, net.layer1, net.layer2, net.layer3, net.layer4]


def _make_mini_layer(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    """Build two basic blocks, the first of which changes width and resolution."""
    shortcut = None
    if stride != 1 or n_in != n_out:
        shortcut = nn.Sequential(
            nn.Conv2d(n_in, n_out, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(n_out),
        )
    return nn.Sequential(
        BasicBlock(n_in, n_out, stride, shortcut), BasicBlock(n_out, n_out)
    )


def _make_mini_backbone(width: int = MINI_WIDTH) -> list[nn.Module]:
    """Build a ResNet-18 for 32 pixels: 3x3 stem, no max pooling, reduced width."""
    stem = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
        )
    )
    stages: list[nn.Module] = [stem, _make_mini_layer(width, width, stride=1)]
    for n_in in (width, 2 * width, 4 * width):
        stages.append(_make_mini_layer(n_in, 2 * n_in, stride=2))
    for module in (m for stage in stages for m in stage.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return stages


def check_backbone(backbone: str) -> None:
    """Raise a ValueError if no backbone has this name."""
    if backbone not in BACKBONES:
        raise ValueError(
            f"backbone={backbone!r} is unknown; choose one of {', '.join(BACKBONES)}."
        )


def make_resnet(
    backbone: str,
    n_classes: int,
    dropout: float,
    image_size: tuple[int, int] | None,
    *,
    random: bool = True,
) -> Stages:
    """Build a ResNet with a new head, as stages.

    Parameters
    ----------
    backbone : str
        One of `BACKBONES`.

    n_classes : int
        Width of the logits.

    dropout : float
        Share of pooled features dropped before the linear map, in ``[0, 1)``.

    image_size : tuple of (int, int) or None
        Height and width to which images are resized.

    random : bool, default=True
        Whether the backbone gets random weights. If not, which saves most of the time,
        its weights are whatever is in memory, and must be loaded afterwards.

    Returns
    -------
    Stages
        With stages ``stem``, ``layer1`` to ``layer4`` and ``head``.

    Raises
    ------
    ValueError
        If `backbone` is unknown.
    """
    check_backbone(backbone)
    with nullcontext() if random else torch.device("meta"):
        if backbone == MINI_BACKBONE:
            modules = _make_mini_backbone()
        else:
            modules = _make_torchvision_backbone(backbone)
    if not random:
        for stage in modules:
            stage.to_empty(device="cpu")
    head = Head(_count_features(modules[-1]), n_classes, dropout)
    stages = OrderedDict(zip(STAGES, [*modules, head], strict=True))
    return Stages(stages, _make_preprocess(image_size))


def _make_preprocess(image_size: tuple[int, int] | None) -> Preprocess:
    """Prepare images as every backbone here expects them, at this size."""
    return Preprocess(image_size, IMAGENET_MEAN, IMAGENET_STD)


def _count_features(layer4: nn.Module) -> int:
    """Count the channels that the last stage of the backbone returns."""
    norms = [m for m in layer4.modules() if isinstance(m, nn.BatchNorm2d)]
    return norms[-1].num_features


def resolve_image_size(
    backbone: str,
    image_size: int | str | None,
    image_shape: tuple[int, ...] | None,
) -> int:
    """Choose the height and width in pixels to which images are resized.

    The bundled backbone was pretrained on 32 pixels. The others get 224 pixels, or 128
    for images with fewer than 96 x 96 pixels (the rule of BiT, Kolesnikov et al. 2020).
    """
    if image_size is not None and image_size != "auto":
        return int(image_size)
    if backbone == MINI_BACKBONE:
        return 32
    if image_shape is not None and image_shape[0] * image_shape[1] < 96**2:
        return 128
    return 224


def make_pretrained_resnet(
    backbone: str,
    weights: Any,
    n_classes: int,
    dropout: float,
    image_size: int | str | None,
    image_shape: tuple[int, ...],
) -> Stages:
    """Build a ResNet with pretrained weights and a new head, as stages.

    Parameters
    ----------
    backbone, dropout, n_classes
        As for :func:`make_resnet`.

    weights : str, path-like, fitted estimator or None
        As for the estimators.

    image_size : "auto", int or None
        As for the estimators.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the user's images.

    Returns
    -------
    Stages

    Raises
    ------
    ValueError
        If the channels are not 1 or 3, or the weights do not fit the backbone.
    """
    check_backbone(backbone)
    if image_shape[2] not in (1, 3):
        raise ValueError(
            f"X holds images with {image_shape[2]} channels (image shape "
            f"{tuple(image_shape)}); a pretrained ResNet takes 1 (grey) or 3 (RGB), "
            "such as X[..., :3]."
        )
    size = None
    if image_size is not None:
        size = (resolve_image_size(backbone, image_size, image_shape),) * 2
    if weights is None:
        return make_resnet(backbone, n_classes, dropout, size)
    if hasattr(weights, "net_"):
        stages = make_resnet(backbone, n_classes, dropout, size, random=False)
        state = weights.net_.module_.state_dict()
        load_backbone(stages, state, f"a fitted {type(weights).__name__}")
        return stages
    if not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            f"weights holds a {type(weights).__name__}; pass a name, a file, a fitted "
            "ResNetTransferClassifier, or None."
        )
    source = find_weights(backbone, weights)
    stages = copy_network(
        (backbone, source.identity()), lambda: _load(source, repr(str(weights)))
    )
    stages.preprocess = _make_preprocess(size)
    n_features = _count_features(stages.get_submodule("layer4"))
    stages.head = Head(n_features, n_classes, dropout)
    return stages


def _load(source: Source, called: str) -> Stages:
    """Read the weights of a file into a network with a dummy head and image size."""
    # The dummy head must not change the random numbers of the user's head.
    with fork_rng(0, torch.device("cpu")):
        stages = make_resnet(source.backbone, 1, 0.0, None, random=False)
    load_backbone(stages, source.read(), called)
    return stages
