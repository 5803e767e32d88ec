"""timm's image models as backbones: described, and built as stages."""

from __future__ import annotations

import difflib
from functools import cache, partial
from typing import Any

import timm

from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.timm_models.build import (
    build_trial,
    is_fixed,
    read_best_size,
    read_config,
    takes_size,
)
from sktransfer._networks.timm_models.cuts import plan
from sktransfer._networks.timm_models.files import HubWeights, translate
from sktransfer._networks.timm_models.make import make_timm

# For images of fewer than 96 x 96 pixels, where the model can do with less: 128 as for
# the ResNets, and where that has to be learned again by position embeddings, 224, for
# which most of them were made.
SMALL, SMALL_FIXED = 128, 224

# Transformers and networks like them. Rates, decay and layer-wise decay (0.75 per
# block, and a stage is about three) as BEiT and MAE are fine-tuned.
TRANSFORMER: dict[str, Any] = {
    "lr": 1e-3,
    "backbone_lr_factor": 0.1,
    "weight_decay": 0.05,
    "layer_decay": 0.5,
}

# Names of modules that a plain convolutional network does not have.
MODERN = ("LayerNorm", "RmsNorm", "GroupNorm", "Attention", "LayerScale")


@cache
def describe_timm(name: str) -> Backbone:
    """Describe an image model of timm.

    Parameters
    ----------
    name : str
        As timm knows it, with or without a tag for the weights: ``"resnet18"`` or
        ``"resnet18.a1_in1k"``.

    Returns
    -------
    Backbone
        With at most five stages. The first use in a process builds the model once, to
        see where it can be cut.

    Raises
    ------
    ValueError
        If timm has no such model, or it gives no features of images.
    """
    check_name(name)
    how = plan(name)
    config, fixed = read_config(name), is_fixed(name)
    small = SMALL_FIXED if fixed else SMALL
    return Backbone(
        f"timm/{name}",
        partial(make_timm, name),
        {stage: [stage] for stage in how.stages},
        image_size=read_best_size(name),
        small_image_size=small if _shrinks(name, small) else None,
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
        interpolation="bilinear"
        if config["interpolation"] == "bilinear"
        else "bicubic",
        n_features=how.n_features,
        weights={"auto": HubWeights(name)},
        translate=partial(translate, name),
        # Others, which cut images into blocks of their own, are given it to refuse it.
        takes_image_size=fixed or not takes_size(name, SMALL),
        **_choose_recipe(name),
    )


def check_name(name: str) -> None:
    """Raise a ValueError unless timm has a model of this name."""
    known = timm.list_models()
    architecture, _, tag = name.partition(".")
    if architecture not in known:
        near = difflib.get_close_matches(architecture, known, n=5, cutoff=0.5)
        raise ValueError(
            f"backbone='timm/{name}' is unknown: timm {timm.__version__} has no model "
            f"of this name. The nearest are {', '.join(near) or 'none'}; "
            "timm.list_models() lists all."
        )
    tags = [n.partition(".")[2] for n in timm.list_pretrained(f"{architecture}.*")]
    if tag and tag not in tags:
        raise ValueError(
            f"backbone='timm/{name}' is unknown: timm {timm.__version__} has "
            f"{architecture} with weights {', '.join(tags) or 'of no name'}."
        )


def _shrinks(name: str, image_size: int) -> bool:
    """Return whether a model takes images of a size smaller than its own."""
    return image_size < read_best_size(name) and takes_size(name, image_size)


def _choose_recipe(name: str) -> dict[str, Any]:
    """Choose the optimizer and rates, where they are not those of other backbones."""
    kinds = {type(module).__name__ for module in build_trial(name).modules()}
    if any("BatchNorm" in kind for kind in kinds) and not any(
        word in kind for kind in kinds for word in MODERN
    ):
        return {}
    return TRANSFORMER
