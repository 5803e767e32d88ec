"""The backbones that have a name, and what each name describes.

To add one, write a function that returns its `Backbone`, and name it in `KNOWN`.
"""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from functools import partial

from sktransfer._networks.backbones.lite import PACKAGES, describe_lite
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.backbones.resnet import (
    describe_mini_resnet18,
    describe_resnet,
)

KNOWN: dict[str, Callable[[], Backbone]] = {
    **{name: partial(describe_lite, name) for name in PACKAGES},
    "mini_resnet18": describe_mini_resnet18,
    **{
        name: partial(describe_resnet, name)
        for name in ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    },
}

# What the name of a model of timm begins with.
TIMM = "timm/"


def find_backbone(backbone: str | Backbone) -> Backbone:
    """Return the description that a name stands for; a description is its own.

    Raises
    ------
    ValueError
        If no backbone has this name.
    """
    if isinstance(backbone, Backbone):
        return backbone
    if backbone.startswith(TIMM):
        from sktransfer._networks.timm_models.describe import describe_timm

        return describe_timm(backbone.removeprefix(TIMM))
    if backbone in KNOWN:
        return KNOWN[backbone]()
    from timm import is_model

    is_of_timm = is_model(backbone)
    near = [TIMM + backbone] if is_of_timm else get_close_matches(backbone, KNOWN, n=3)
    meant = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
    raise ValueError(
        f"backbone={backbone!r} is unknown; choose one of {', '.join(KNOWN)}, "
        f"or 'timm/<name>' for a model of timm.{meant}"
    )
