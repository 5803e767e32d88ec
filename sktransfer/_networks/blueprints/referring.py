"""Pretrained weights that a file refers to, and does not hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import torch

from sktransfer._images.shapes import Shape
from sktransfer._networks.backbones.build import make_pretrained
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.blueprints.checking import (
    MOST_PIXELS,
    BlueprintError,
    Checked,
)
from sktransfer._networks.weights.checkpoints import has_weight_ending
from sktransfer._networks.weights.sources import find_weights, list_sources

Found = TypeVar("Found")


def name_weights(backbone: str | Backbone, weights: str) -> str:
    """Return the lasting name of weights: a later release may mean others by "auto"."""
    record = find_backbone(backbone)
    if has_weight_ending(weights):
        return weights
    source = find_weights(record, weights)
    named = list_sources(record).items()
    return next((name for name, known in named if known == source), weights)


def load_referenced(
    blueprint: Mapping[str, Any],
    backbone: str | Backbone | None,
    weights: str,
    image_shape: Shape,
) -> dict[str, torch.Tensor]:
    """Load the pretrained weights of a backbone, as they are called in a network.

    Parameters
    ----------
    blueprint : mapping
        Of the network.

    backbone : str, Backbone or None
        What it was built from.

    weights : str
        A name that the backbone gives to its weights.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the user's images.

    Returns
    -------
    dict of str to tensor

    Raises
    ------
    BlueprintError
        If this is no description of such a network, or there are no such weights.
    OSError
        If the weights are not on this machine.
    """
    plan = Checked(blueprint)
    if not isinstance(backbone, str):
        raise BlueprintError("its backbone has no name")
    record = _find(find_backbone, backbone)
    record = replace(
        record,
        stages=plan.names(),
        image_size=plan.count("made_for", most=MOST_PIXELS),
    )
    if has_weight_ending(weights):  # a file of another machine
        raise BlueprintError("the weights that it refers to have no name")
    if not _find(find_weights, record, weights).is_local():
        raise OSError(
            f"the file refers to the weights {weights!r} of {backbone}, which are not "
            "on this machine; a fit with this backbone downloads them, but loading "
            "downloads nothing."
        )
    size = plan.size()
    stages = _find(
        make_pretrained,
        record,
        weights,
        1,
        0.0,
        None if size is None else size[0],
        image_shape,
    )
    return {
        name: tensor
        for name, tensor in stages.state_dict().items()
        if not name.startswith(("head.", "preprocess."))
    }


def _find(function: Callable[..., Found], *arguments: Any) -> Found:
    """Call a function; its ValueErrors are about what the file holds."""
    try:
        return function(*arguments)
    except ValueError as error:
        raise BlueprintError(f"{error!s:.500}") from None
