"""A timm model, built with random weights as stages."""

from __future__ import annotations

from torch import nn

from sktransfer._networks.timm_models.build import (
    build,
    check_size,
    is_fixed,
    read_size,
)
from sktransfer._networks.timm_models.cuts import cut, plan, plan_for_size


def make_timm(name: str, image_size: int | None = None) -> nn.Module:
    """Build a timm model with random weights, as stages.

    Parameters
    ----------
    name : str
        As timm knows it.

    image_size : int or None, default=None
        Height and width of images in pixels. ``None``: its own, or any.

    Returns
    -------
    torch.nn.Module
        Its children are the stages that :func:`describe_timm` names. Tensors have the
        names that timm gives them, after that of their stage.

    Raises
    ------
    ValueError
        If the model does not take this size.
    """
    how = plan(name)
    if image_size is not None:
        check_size(name, image_size)
    if not is_fixed(name):
        return cut(name, build(name), how, None)
    size = image_size or read_size(name)
    if plan_for_size(name, size).ends != how.ends:
        raise ValueError(
            f"image_size={size} does not fit backbone='timm/{name}': at this size, its "
            f"stages {', '.join(how.stages)} do not make up the network, and only "
            f"{', '.join(plan_for_size(name, size).stages)} do."
        )
    return cut(name, build(name, size), how, size)
