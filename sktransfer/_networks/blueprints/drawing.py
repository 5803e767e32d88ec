"""The description of a network from which it can be built again, without weights.

It holds what the network was made of, rather than the parameters that led to it: a
later release may choose other sizes or stages for the same parameters.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from sktransfer._images.preprocessing import Preprocess
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.cnn import STAGES, FixedConvolution, ScaledHead
from sktransfer._networks.stages import Head, Stages

Blueprint = dict[str, Any]


def draw_blueprint(stages: Stages, backbone: str | Backbone | None) -> Blueprint:
    """Describe a network.

    Parameters
    ----------
    stages : Stages
        As an estimator has fitted it.

    backbone : str, Backbone or None
        What it was built from; None for the CNN.

    Returns
    -------
    dict
        Of strings, numbers, lists and None.
    """
    head, preprocess = stages.head, stages.preprocess
    assert isinstance(head, Head)
    assert isinstance(preprocess, Preprocess)
    size = preprocess.image_size
    common = {
        "n_classes": head.linear.out_features,
        "n_features": head.linear.in_features,
        "dropout": head.dropout.p,
        "image_size": None if size is None else list(size),
        "interpolation": preprocess.interpolation,
        "resize": preprocess.resize,
        "n_channels": preprocess.mean.shape[1],
        "fixed_statistics": stages.fixed_statistics,
        "unfreeze_depth": stages.unfreeze_depth,
    }
    if backbone is None:
        return {**common, **_draw_cnn(stages)}
    record = find_backbone(backbone)
    return {
        **common,
        "backbone": backbone if isinstance(backbone, str) else None,
        "made_for": record.image_size,
        "stages": {stage: list(names) for stage, names in record.stages.items()},
    }


def _draw_cnn(stages: Stages) -> Blueprint:
    """Describe what only the CNN has."""
    head, first = stages.head, stages.get_submodule("stem.conv1")
    assert isinstance(head, ScaledHead)
    return {
        "widths": [_width_of(stages.get_submodule(name)) for name in STAGES[1:-1]],
        "n_filters": len(first.weight),  # type: ignore[arg-type]
        "whiten": isinstance(first, FixedConvolution),
        "global_pool": head.global_pool,
    }


def _width_of(layer: nn.Module) -> int:
    convolution = layer.get_submodule("conv2")
    assert isinstance(convolution, nn.Conv2d)
    return convolution.out_channels
