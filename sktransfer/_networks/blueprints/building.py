"""A network built from its description, and no larger than its weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from sktransfer._images.geometry import RESIZE
from sktransfer._images.preprocessing import Preprocess
from sktransfer._images.shapes import Shape
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.backbones.known import TIMM, find_backbone
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.blueprints.checking import (
    MOST_CHANNELS,
    MOST_PIXELS,
    BlueprintError,
    Checked,
)
from sktransfer._networks.cnn import make_cnn
from sktransfer._networks.device import fork_rng
from sktransfer._networks.stages import Stages

Shapes = Mapping[str, tuple[int, ...]]

CPU, META = torch.device("cpu"), torch.device("meta")

# Networks that have to know the size of images are run once when they are built.
MOST_FIXED_PIXELS = 1_024


def build_network(
    blueprint: Mapping[str, Any],
    backbone: Backbone | None,
    shapes: Shapes,
    image_shape: Shape,
) -> Stages:
    """Build a network with random weights; none of another size than its weights.

    Parameters
    ----------
    blueprint : mapping
        As :func:`draw_blueprint` drew it; from a file, it may hold anything.

    backbone : Backbone or None
        The user's own, if the network was built from such.

    shapes : mapping of str to tuple of int
        Of the tensors that will be loaded into it.

    image_shape : tuple of (int, int, int)
        Height, width and channels of the images that it is for.

    Returns
    -------
    Stages
        In eval mode.

    Raises
    ------
    BlueprintError
        If this is no description, or not that of a network with such tensors.
    """
    plan = Checked(blueprint)
    n_classes, n_features = plan.count("n_classes"), plan.count("n_features")
    if shapes.get("head.linear.weight") != (n_classes, n_features):
        raise BlueprintError("its head has another shape than described")
    _check_images(plan, image_shape)
    try:
        if backbone is None:
            _compare_without_numbers(plan, shapes, image_shape)
        with fork_rng(0, CPU):  # nobody's random numbers change
            stages = _build(plan, backbone)
    except BlueprintError:
        raise
    except Exception as error:
        raise BlueprintError(f"its network cannot be built: {error}") from error
    _compare(stages, shapes)
    stages.fixed_statistics = plan.one_of("fixed_statistics", (False, True))
    depth = plan.count("unfreeze_depth", least=0)
    if depth >= len(stages.names):
        raise BlueprintError("it has fewer stages than described")
    return stages.unfreeze(depth).eval()


def check_blueprint(
    blueprint: Mapping[str, Any],
    backbone: Backbone | None,
    shapes: Shapes,
    image_shape: Shape,
) -> None:
    """Raise a BlueprintError unless a network could be built, as far as can be told.

    It is not built, or without numbers; parameters are those of :func:`build_network`.
    """
    plan = Checked(blueprint)
    if backbone is None:
        _compare_without_numbers(plan, shapes, image_shape)
    else:
        plan.names(), plan.size(), plan.count("made_for", most=MOST_PIXELS)


def _build(plan: Checked, backbone: Backbone | None) -> Stages:
    """Build what a description describes, on the default device."""
    n_classes, dropout, size = (
        plan.count("n_classes"),
        plan.share("dropout"),
        plan.size(),
    )
    resize = plan.one_of("resize", RESIZE)
    n_channels = plan.count("n_channels")
    interpolation = plan.one_of("interpolation", ("bilinear", "bicubic"))
    if "widths" in plan.entries:
        narrow, middle, wide = plan.counts("widths", 3, MOST_CHANNELS)
        blank = [0.0] * n_channels
        preprocess = Preprocess(size, blank, blank, interpolation, resize)
        filters = None
        if plan.one_of("whiten", (False, True)):
            filters = torch.zeros(plan.count("n_filters"), n_channels, 2, 2)
        pool = plan.one_of("global_pool", ("avg", "max"))
        widths = narrow, middle, wide
        return make_cnn(n_classes, widths, dropout, preprocess, filters, pool)
    record = backbone or find_backbone(_name_of(plan))
    record = replace(
        record,
        stages=plan.names(),
        image_size=plan.count("made_for", most=MOST_PIXELS),
        n_features=plan.count("n_features"),
        mean=(0.0,) * n_channels,
        std=(1.0,) * n_channels,
        interpolation=interpolation,
    )
    return make_stages(record, n_classes, dropout, size, resize)


def _name_of(plan: Checked) -> str:
    """Return the name of a backbone that this package knows, or timm's registry."""
    name: str = plan.get("backbone", str)
    return name


def _check_images(plan: Checked, image_shape: Shape) -> None:
    """Raise a BlueprintError if a network is for images of other channels."""
    n_channels = plan.count("n_channels")
    possible = {n_channels} if "widths" in plan.entries else {1, n_channels}
    if image_shape[2] not in possible:
        raise BlueprintError(
            f"its images have {image_shape[2]} channels, and its network "
            f"takes {n_channels}"
        )


def _compare_without_numbers(plan: Checked, shapes: Shapes, image_shape: Shape) -> None:
    """Raise a BlueprintError if a network takes more memory than its weights.

    Before memory is taken for it. Or if it cannot see such images.
    """
    name = "" if "widths" in plan.entries else _name_of(plan)
    if not name.startswith(TIMM):
        with META, torch.inference_mode():
            stages = _build(plan, None)
            _compare(stages, shapes)
            features = stages.eval().encode(
                torch.empty(1, *image_shape), stages.n_frozen(0)
            )
        if features.shape != (1, plan.count("n_features")):
            raise BlueprintError("its stages return something else than features")
        return
    _compare_with_timm(name.removeprefix(TIMM), plan, shapes)


def _compare_with_timm(name: str, plan: Checked, shapes: Shapes) -> None:
    """Raise a BlueprintError if a model of timm is another, or a larger one."""
    from sktransfer._networks.timm_models.build import build, is_fixed
    from sktransfer._networks.timm_models.describe import check_name

    check_name(name)
    size = None
    if is_fixed(name):
        size, _ = plan.size() or (plan.count("made_for"), None)
        if size > MOST_FIXED_PIXELS:
            raise BlueprintError(f"its image_size is {size}")
    try:
        model = build(name, size, META)
        n_numbers = sum(tensor.numel() for tensor in model.parameters())
    except Exception:
        n_numbers = 0  # some models cannot be built without numbers
    if n_numbers > sum(math.prod(shape) for shape in shapes.values()):
        raise BlueprintError("its network is larger than its weights")
    if plan.names() != {**find_backbone(TIMM + name).stages}:
        raise BlueprintError("its stages are not those of its backbone in this release")


def _compare(stages: Stages, shapes: Shapes) -> None:
    """Raise a BlueprintError unless a network has tensors of these names and shapes."""
    own = {name: tuple(t.shape) for name, t in stages.state_dict().items()}
    if own == dict(shapes):
        return
    names = sorted(own.keys() ^ shapes.keys())
    names += sorted(n for n in own.keys() & shapes.keys() if own[n] != shapes[n])
    raise BlueprintError(
        f"its weights are not those of the network described: {len(names)} of "
        f"{len(own)} tensors are missing, unexpected or of another shape, such as "
        f"{names[0]!r:.80}"
    )
