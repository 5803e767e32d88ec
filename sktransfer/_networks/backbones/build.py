"""From the description of a backbone to stages with its weights and a new head."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from sktransfer._images.geometry import frame_shape
from sktransfer._images.preprocessing import Preprocess
from sktransfer._images.shapes import Shape
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.device import fork_rng
from sktransfer._networks.read_once import copy_network
from sktransfer._networks.stages import Head, Stages
from sktransfer._networks.weights.loading import load_backbone
from sktransfer._networks.weights.sources import find_weights

# BiT draws the line between small and large images here (Kolesnikov et al. 2020).
SMALL_PIXELS = 96**2


def resolve_image_size(
    backbone: Backbone,
    image_size: int | str | None,
    image_shape: tuple[int, ...] | None,
) -> int:
    """Choose the height and width in pixels to which images are resized."""
    if image_size is not None and image_size != "auto":
        return int(image_size)
    small = backbone.small_image_size
    if small is None or image_shape is None:
        return backbone.image_size
    is_small = image_shape[0] * image_shape[1] < SMALL_PIXELS
    return small if is_small else backbone.image_size


def make_stages(
    backbone: str | Backbone,
    n_classes: int,
    dropout: float,
    image_size: tuple[int, int] | None,
    resize: str = "squash",
) -> Stages:
    """Build a network with random weights and a new head, as stages.

    Parameters
    ----------
    backbone : str or Backbone
        What to build, or its name.

    n_classes : int
        Width of the logits.

    dropout : float
        Share of pooled features dropped before the linear map, in ``[0, 1)``.

    image_size : tuple of (int, int) or None
        Height and width to which images are resized.

    resize : {"crop", "pad", "squash"}, default="squash"
        What to do with images of other proportions.

    Returns
    -------
    Stages
        The stages of the backbone, and ``head``.

    Raises
    ------
    ValueError
        If the stages of the backbone do not make up the network.
    """
    backbone = find_backbone(backbone)
    sized = [(image_size or (backbone.image_size,))[0]]
    network = backbone.make(*(sized if backbone.takes_image_size else []))
    stages = cut_network(backbone, network)
    n_features = backbone.n_features or _count_features(backbone, stages, sized[0])
    stages["head"] = Head(n_features, n_classes, dropout)
    return Stages(
        stages,
        _make_preprocess(backbone, image_size, resize),
        fixed_statistics=backbone.batch_norm == "eval",
    )


def cut_network(backbone: Backbone, network: nn.Module) -> OrderedDict[str, nn.Module]:
    """Cut a network into the stages that its description names."""
    children = {name: list(names) for name, names in backbone.stages.items()}
    _check_children(backbone, network)
    stages: OrderedDict[str, nn.Module] = OrderedDict()
    for stage, names in children.items():
        if names == [stage]:
            stages[stage] = network.get_submodule(stage)
            continue
        modules = [(n.replace(".", "_"), network.get_submodule(n)) for n in names]
        stages[stage] = nn.Sequential(OrderedDict(modules))
    return stages


def _check_children(backbone: Backbone, network: nn.Module) -> None:
    """Raise a ValueError unless the stages use every weight of a network once."""
    named = [name for names in backbone.stages.values() for name in names]
    known = {name for name, _ in network.named_modules()}
    problems = [f"the network has no {name!r}" for name in named if name not in known]
    if "head" in backbone.stages:
        problems.append("'head' is the name of the head that estimators add")
    if backbone.head is not None:
        named.append(backbone.head)
    for name, _ in network.named_parameters():
        n_uses = sum(name.startswith(f"{child}.") for child in named)
        if n_uses != 1:
            where = "no stage" if n_uses == 0 else f"{n_uses} stages"
            problems.append(f"{name!r} is in {where}")
    if problems:
        raise ValueError(
            f"the stages of backbone={backbone.name!r} do not make up its network: "
            f"{'; '.join(problems[:5])}"
            f"{f' and {len(problems) - 5} more' if len(problems) > 5 else ''}."
        )


def _count_features(
    backbone: Backbone, stages: OrderedDict[str, nn.Module], size: int
) -> int:
    """Count the features by a dry run on one image."""
    modules = nn.Sequential(*stages.values()).eval()
    try:
        with torch.no_grad():
            features = modules(torch.zeros(1, len(backbone.mean), size, size))
    except RuntimeError as error:
        raise ValueError(
            f"the stages of backbone={backbone.name!r} cannot run one after another on "
            f"images of {size} x {size} pixels: {error}"
        ) from error
    if features.ndim not in (2, 4):
        raise ValueError(
            f"the last stage of backbone={backbone.name!r} returns an array of shape "
            f"{tuple(features.shape)}; it must return (n, n_features) or (n, "
            "n_features, height, width)."
        )
    return int(features.shape[1])


def _make_preprocess(
    backbone: Backbone, image_size: tuple[int, int] | None, resize: str
) -> Preprocess:
    """Prepare images as the weights of a backbone expect them, at this size."""
    return Preprocess(
        image_size, backbone.mean, backbone.std, backbone.interpolation, resize
    )


def make_pretrained(
    backbone: str | Backbone,
    weights: Any,
    n_classes: int,
    dropout: float,
    image_size: int | str | None,
    image_shape: Shape,
    resize: str = "squash",
) -> Stages:
    """Build a network with pretrained weights and a new head, as stages.

    Parameters
    ----------
    backbone, dropout, n_classes
        As for :func:`make_stages`.

    weights : str, path-like, fitted estimator or None
        As for the estimators.

    image_size : "auto", int or None
        As for the estimators.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the user's images.

    resize : {"crop", "pad", "squash"}, default="squash"
        What to do with images of other proportions.

    Returns
    -------
    Stages

    Raises
    ------
    ValueError
        If the backbone cannot take this number of channels, or the weights do not fit.
    """
    backbone = find_backbone(backbone)
    check_channels(backbone, image_shape)
    size = None
    if image_size is not None:
        frame = frame_shape(image_shape, resize)
        size = (resolve_image_size(backbone, image_size, frame),) * 2
    if weights is None:
        stages = make_stages(backbone, n_classes, dropout, size, resize)
        # Random weights have no statistics that would be worth keeping.
        stages.fixed_statistics = False
        return stages
    if hasattr(weights, "net_"):
        stages = make_stages(backbone, n_classes, dropout, size, resize)
        state = weights.net_.module_.state_dict()
        load_backbone(backbone, stages, state, f"a fitted {type(weights).__name__}")
        return stages
    if not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            f"weights holds a {type(weights).__name__}; pass a name, a file, a fitted "
            "TransferClassifier, or None."
        )
    source = find_weights(backbone, weights)

    built_for = size if backbone.takes_image_size else None

    def load() -> Stages:
        # The first fit loads, later ones copy: neither may change the random numbers of
        # the user's head and of dropout. A source may build a network, too.
        with fork_rng(0, torch.device("cpu")):
            stages = make_stages(backbone, 1, 0.0, size)
            state, called = source.read(), repr(str(weights))
            if backbone.translate is not None:
                state = backbone.translate(state, called, built_for and built_for[0])
            load_backbone(backbone, stages, state, called)
        return stages

    stages = copy_network((backbone, built_for, source.identity()), load)
    stages.preprocess = _make_preprocess(backbone, size, resize)
    linear: Any = stages.get_submodule("head.linear")
    stages.head = Head(linear.in_features, n_classes, dropout)
    return stages


def check_channels(backbone: Backbone, image_shape: tuple[int, ...]) -> None:
    """Raise a ValueError if a backbone cannot take images with these channels."""
    n_channels = len(backbone.mean)
    if image_shape[2] in (1, n_channels):
        return
    possible = "1 (grey) or 3 (RGB), such as X[..., :3]"
    if n_channels != 3:
        possible = f"1 or {n_channels}"
    raise ValueError(
        f"X holds images with {image_shape[2]} channels (image shape "
        f"{tuple(image_shape)}); backbone={backbone.name!r} takes {possible}."
    )
