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
from sktransfer._networks.read_once import copy_of
from sktransfer._networks.seed import forked_rng
from sktransfer._networks.stages import Head, Stages
from sktransfer._networks.weights import Source, find_weights, load_backbone

TORCHVISION_BACKBONES = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
MINI_BACKBONE = "mini_resnet18"
# Of every backbone here, with its head.
STAGES = ("stem", "layer1", "layer2", "layer3", "layer4", "head")
BACKBONES = (*TORCHVISION_BACKBONES, MINI_BACKBONE)

# Of torchvision's ImageNet weights, per channel of images scaled to [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# Three eighths of ResNet-18's width: what two CPU cores pretrain in about an hour.
MINI_WIDTH = 24


def _torchvision_backbone(name: str) -> OrderedDict[str, nn.Module]:
    """The stages of a torchvision ResNet, without its head."""
    net = get_model(name, weights=None)
    stem = nn.Sequential(
        OrderedDict(conv1=net.conv1, bn1=net.bn1, relu=net.relu, maxpool=net.maxpool)
    )
    return OrderedDict(
        stem=stem,
        layer1=net.layer1,
        layer2=net.layer2,
        layer3=net.layer3,
        layer4=net.layer4,
    )


def _mini_layer(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    """Two basic blocks, the first of which changes width and resolution."""
    shortcut = None
    if stride != 1 or n_in != n_out:
        shortcut = nn.Sequential(
            nn.Conv2d(n_in, n_out, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(n_out),
        )
    return nn.Sequential(
        BasicBlock(n_in, n_out, stride, shortcut), BasicBlock(n_out, n_out)
    )


def _mini_backbone(width: int = MINI_WIDTH) -> OrderedDict[str, nn.Module]:
    """ResNet-18's plan for 32 pixels: 3x3 stem, no max pooling, reduced width."""
    stem = nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False),
            bn1=nn.BatchNorm2d(width),
            relu=nn.ReLU(inplace=True),
        )
    )
    stages: OrderedDict[str, nn.Module] = OrderedDict(
        stem=stem, layer1=_mini_layer(width, width, stride=1)
    )
    for i, n_in in enumerate((width, 2 * width, 4 * width), start=2):
        stages[f"layer{i}"] = _mini_layer(n_in, 2 * n_in, stride=2)
    for module in (m for stage in stages.values() for m in stage.modules()):
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return stages


def check_backbone(backbone: str) -> None:
    """Raise a ValueError unless there is a backbone of this name."""
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
        Whether the backbone gets random weights. Without, which saves most of the
        time, they are what happens to be in memory, and must be loaded.

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
            stages = _mini_backbone()
        else:
            stages = _torchvision_backbone(backbone)
    if not random:
        for stage in stages.values():
            stage.to_empty(device="cpu")
    stages["head"] = Head(_n_features(stages["layer4"]), n_classes, dropout)
    return Stages(stages, _preprocess(image_size))


def _preprocess(image_size: tuple[int, int] | None) -> Preprocess:
    """What all backbones expect of their images, and their size."""
    return Preprocess(image_size, IMAGENET_MEAN, IMAGENET_STD)


def _n_features(layer4: nn.Module) -> int:
    """Channels that the last stage of the backbone puts out."""
    norms = [m for m in layer4.modules() if isinstance(m, nn.BatchNorm2d)]
    return norms[-1].num_features


def resolve_image_size(
    backbone: str,
    image_size: int | str | None,
    image_shape: tuple[int, ...] | None,
) -> int:
    """Height and width in pixels to which square images are resized.

    The bundled backbone was pretrained on 32 pixels. The others get 224 pixels, or
    128 where images are smaller than 96 (the rule of BiT, Kolesnikov et al. 2020).
    """
    if image_size is not None and image_size != "auto":
        return int(image_size)
    if backbone == MINI_BACKBONE:
        return 32
    if image_shape is not None and image_shape[0] * image_shape[1] < 96**2:
        return 128
    return 224


def pretrained_resnet(
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
        As the estimators take it.

    image_size : "auto", int or None
        As the estimators take it.

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
    stages = copy_of(
        (backbone, source.identity()), lambda: _load(source, repr(str(weights)))
    )
    stages.preprocess = _preprocess(size)
    n_features = _n_features(stages.get_submodule("layer4"))
    stages.head = Head(n_features, n_classes, dropout)
    return stages


def _load(source: Source, called: str) -> Stages:
    """The network with the weights of a file, some head and any image size."""
    # The head that is drawn here must not change which one is drawn for the user.
    with forked_rng(0, torch.device("cpu")):
        stages = make_resnet(source.backbone, 1, 0.0, None, random=False)
    load_backbone(stages, source.read(), called)
    return stages
