"""timm's image models as backbones: described, and built as stages."""

from __future__ import annotations

import difflib
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache, partial
from typing import Any, NamedTuple

import timm
import torch
from timm.data import resolve_model_data_config
from timm.layers import get_notrace_functions, get_notrace_modules
from torch import nn

from sktransfer._networks.backbones.grouping import choose_ends, find_groups
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.backbones.tracing import Run, Trace, trace
from sktransfer._networks.device import fork_rng

CPU = torch.device("cpu")

# Images as small as most networks without a fixed size take test as well as large ones.
TEST_SIZE = 128


class _Plan(NamedTuple):
    """How a model is cut.

    Attributes
    ----------
    ends : tuple of int, or None
        Groups after which it is cut; None if torch.fx cannot follow it.

    maps : bool
        Whether the features are those before pooling.

    n_features : int
        Their number.
    """

    ends: tuple[int, ...] | None
    maps: bool
    n_features: int


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
    _check_name(name)
    model = _build(name, None)
    plan = _plan(name)
    data = _read_data_config(model)
    size = data["input_size"][1]
    stages = _name_stages(plan.ends)
    return Backbone(
        f"timm/{name}",
        partial(make_timm, name),
        {stage: [stage] for stage in stages},
        image_size=size,
        small_image_size=min(size, 128),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation="bilinear" if data["interpolation"] == "bilinear" else "bicubic",
        n_features=plan.n_features,
        **_choose_recipe(model),
    )


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
    """
    plan = _plan(name)
    model = _build(name, image_size)
    return nn.Sequential(OrderedDict(_cut(model, plan, _say_origin(name, image_size))))


def _check_name(name: str) -> None:
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


def _build(name: str, image_size: int | None) -> Any:
    """Build a timm model without a classifier, with random weights, in eval mode."""
    size: dict[str, Any] = {} if image_size is None else {"img_size": image_size}
    # Tables that the model computes would be lost on the meta device.
    with CPU:
        return timm.create_model(name, num_classes=0, **size).eval()


def _read_data_config(model: Any) -> dict[str, Any]:
    """Read how images are to be prepared for a timm model."""
    config: dict[str, Any] = resolve_model_data_config(model)
    return config


@cache
def _plan(name: str) -> _Plan:
    """Find out how a model can be cut so that the parts equal the whole."""
    with fork_rng(0, CPU), torch.no_grad():
        model = _build(name, None)
        _shuffle_constants(model)
        size = _read_data_config(model)["input_size"][1]
        if not model.pretrained_cfg.get("fixed_input_size"):
            size = min(size, TEST_SIZE)
        images = torch.randn(2, 3, size, size)
        pooled = _run_pooled(model, images)
        maps = _pools_plainly(model, images, pooled)
        whole = _run_map(model, images) if maps else pooled
        plan = _Plan(None, maps, pooled.shape[1])
        try:
            traced = _trace(model, maps)
        except Exception:
            return plan
        ends = choose_ends(model, traced, list(traced.find_cuts()))
        plan = plan._replace(ends=tuple(ends))
        stages = _cut(model, plan, "")
        return plan if _equals(stages, images, whole) else plan._replace(ends=None)


def _equals(
    stages: Mapping[str, nn.Module], images: torch.Tensor, whole: torch.Tensor
) -> bool:
    """Return whether stages, one after another, equal the whole network."""
    activation = images
    for stage in stages.values():
        activation = stage(activation)
    return torch.allclose(activation, whole, rtol=1e-5, atol=0, equal_nan=True)


def _shuffle_constants(model: nn.Module) -> None:
    """Fill tensors of one number with many, so that a test sees what they do.

    A new network multiplies whole branches by 0, or hardly changes what it normalizes.
    """
    for tensor in model.state_dict().values():
        if (
            tensor.is_floating_point()
            and tensor.numel()
            and tensor.eq(tensor.max()).all()
        ):
            tensor.uniform_(0.2, 0.9)


def _trace(model: Any, maps: bool) -> Trace:
    """Follow the forward pass of a model."""
    run: Run = _run_map if maps else _run_pooled
    opaque = tuple(get_notrace_modules())
    wrapped = tuple(get_notrace_functions())
    return trace(model, run, find_groups(model), opaque, wrapped)


def _cut(model: Any, plan: _Plan, origin: str) -> dict[str, nn.Module]:
    """Cut a model into stages."""
    names = _name_stages(plan.ends)
    if plan.ends is None:
        return {names[0]: _Whole(model, plan.maps, origin)}
    traced = _trace(model, plan.maps)
    cuts = traced.find_cuts()
    stages = traced.split([cuts[end] for end in plan.ends], origin)
    return dict(zip(names, stages, strict=True))


class _Whole(nn.Module):
    """A model that cannot be cut."""

    def __init__(self, model: nn.Module, maps: bool, origin: str) -> None:
        super().__init__()
        self.model = model
        self.maps = maps
        self.origin = origin

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images to features."""
        return (_run_map if self.maps else _run_pooled)(self.model, images)

    def extra_repr(self) -> str:
        """Say which model this is."""
        return self.origin


def _name_stages(ends: tuple[int, ...] | None) -> list[str]:
    """Name the stages of a model that is cut after these groups."""
    if ends is None:
        return ["body"]
    return ["stem", *(f"stage{i}" for i in range(1, len(ends) + 1))]


def _say_origin(name: str, image_size: int | None) -> str:
    """Say which network this is, for the repr of its stages."""
    size = "any size" if image_size is None else f"{image_size} pixels"
    return f"{name} of timm {timm.__version__}, {size}"


def _run_pooled(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Map images to pooled features."""
    pooled: torch.Tensor = model.forward_head(
        model.forward_features(images), pre_logits=True
    )
    return pooled


def _run_map(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Map images to features before pooling, channels first."""
    features: torch.Tensor = model.forward_features(images)
    if getattr(model, "output_fmt", "NCHW") == "NHWC":
        features = features.permute(0, 3, 1, 2)
    return features


def _pools_plainly(model: Any, images: torch.Tensor, pooled: torch.Tensor) -> bool:
    """Return whether pooling is an average over pixels, and nothing follows it."""
    features = _run_map(model, images)
    if not isinstance(features, torch.Tensor) or features.ndim != 4:
        return False
    mean = features.mean((2, 3))
    return mean.shape == pooled.shape and torch.allclose(mean, pooled, 1e-4, 1e-6)


def _choose_recipe(model: nn.Module) -> dict[str, Any]:
    """Choose the optimizer and rates for fine-tuning."""
    kinds = {type(module).__name__ for module in model.modules()}
    plain = any("BatchNorm" in kind for kind in kinds) and not any(
        word in kind
        for kind in kinds
        for word in ("LayerNorm", "RmsNorm", "GroupNorm", "Attention", "LayerScale")
    )
    if plain:
        return {}
    # Rate and layer-wise decay as for BEiT and MAE, a stage being about three blocks
    # (0.75 a block), and the decay of weights.
    return {
        "optimizer": "adamw",
        "lr": 1e-3,
        "backbone_lr_factor": 0.1,
        "weight_decay": 0.05,
        "layer_decay": 0.5,
        "clip_norm": 1.0,
    }
