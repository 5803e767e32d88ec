"""The description of a network from which it can be built again, without weights.

It holds what the network was made of, rather than the parameters that led to it: a
later release may choose other sizes or stages for the same parameters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import nn

from sktransfer._images.geometry import RESIZE
from sktransfer._images.preprocessing import Preprocess
from sktransfer._images.shapes import Shape
from sktransfer._networks.backbones.build import make_pretrained, make_stages
from sktransfer._networks.backbones.known import TIMM, find_backbone
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.cnn import STAGES, FixedConvolution, ScaledHead, make_cnn
from sktransfer._networks.device import autocast, fork_rng
from sktransfer._networks.stages import Head, Stages
from sktransfer._networks.weights.checkpoints import has_weight_ending
from sktransfer._networks.weights.sources import find_weights, list_sources

Blueprint = dict[str, Any]
Shapes = Mapping[str, tuple[int, ...]]
Found = TypeVar("Found")

CPU, META = torch.device("cpu"), torch.device("meta")

# More pixels than any network sees.
MOST_PIXELS = 4_096

# Networks that have to know the size of images are run once when they are built.
MOST_FIXED_PIXELS = 1_024

# Nothing here has more channels.
MOST_CHANNELS = 1_000_000

# Stages, and children of all stages.
MOST_STAGES, MOST_CHILDREN = 100, 5_000


# Of the largest output: between processors, and between TF32 and float32.
OUTPUT_TOLERANCE = 0.02


class BlueprintError(ValueError):
    """A description of no network, or of another than that of the weights."""


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
    plan = _Checked(blueprint)
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
    plan = _Checked(blueprint)
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


def check_outputs(stages: Stages, image_shape: Shape) -> np.ndarray | None:
    """Compute the outputs for a drawn image, by which a network is known again.

    Returns
    -------
    ndarray of shape (n_outputs,), float32, or None
        None if the network sees so large an image that this would take long.
    """
    preprocess = stages.preprocess
    assert isinstance(preprocess, Preprocess)
    height, width = preprocess.image_size or image_shape[:2]
    if max(height * width, math.prod(image_shape[:2])) > MOST_FIXED_PIXELS**2:
        return None
    drawn = np.random.default_rng(0).integers(0, 256, (1, *image_shape), np.uint8)
    device = preprocess.mean.device
    was_training = stages.training
    stages.eval()
    with torch.inference_mode(), autocast("float32", device):
        outputs = stages(torch.from_numpy(drawn).to(device))[0]
    stages.train(was_training)
    found: np.ndarray = outputs.float().cpu().numpy()
    return found


def is_close(found: np.ndarray, saved: np.ndarray) -> bool:
    """Return whether outputs differ by no more than kernels and number formats do."""
    if found.shape != saved.shape:
        return False
    scale = max(1.0, float(np.abs(saved).max(initial=0)))
    return bool(np.abs(found - saved).max(initial=0) <= OUTPUT_TOLERANCE * scale)


class _Checked:
    """Entries of a description, each of the kind that is asked for."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self.entries = entries

    def get(self, name: str, kind: type) -> Any:
        value = self.entries.get(name)
        # A bool is an int, and would do as one.
        if type(value) is not kind:
            raise BlueprintError(f"its {name} is {value!r:.40}")
        return value

    def count(self, name: str, least: int = 1, most: int = MOST_CHANNELS) -> int:
        value: int = self.get(name, int)
        if not least <= value <= most:
            raise BlueprintError(f"its {name} is {value!r:.40}")
        return value

    def one_of(self, name: str, known: Any) -> Any:
        value = self.entries.get(name)
        if not isinstance(value, (str, bool)) or value not in known:
            raise BlueprintError(f"its {name} is {value!r:.40}")
        return value

    def counts(self, name: str, n: int, most: int) -> list[int]:
        values = self.get(name, list)
        are_counts = all(type(v) is int and 1 <= v <= most for v in values)
        if len(values) != n or not are_counts:
            raise BlueprintError(f"its {name} is {values!r:.40}")
        return [*values]

    def size(self) -> tuple[int, int] | None:
        if self.entries.get("image_size") is None:
            return None
        height, width = self.counts("image_size", 2, MOST_PIXELS)
        return height, width

    def share(self, name: str) -> float:
        value: Any = self.entries.get(name)
        if type(value) not in (int, float) or not 0 <= value < 1:
            raise BlueprintError(f"its {name} is {value!r:.40}")
        return float(value)

    def names(self) -> dict[str, list[str]]:
        stages = self.get("stages", dict)
        rows = stages.values()
        are_lists = all(type(children) is list for children in rows)
        # Networks here have a part of this name that is no stage.
        if not are_lists or len(stages) > MOST_STAGES or "preprocess" in stages:
            raise BlueprintError(f"its stages are {list(stages)!r:.80}")
        children = [child for row in rows for child in row]
        if len(children) > MOST_CHILDREN or not _are_names([*stages, *children]):
            raise BlueprintError(f"its stages consist of {children!r:.80}")
        return {**stages}


def _are_names(names: list[Any]) -> bool:
    return all(isinstance(name, str) and 0 < len(name) < 1_000 for name in names)


def _build(plan: _Checked, backbone: Backbone | None) -> Stages:
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


def _name_of(plan: _Checked) -> str:
    """Return the name of a backbone that this package knows, or timm's registry."""
    name: str = plan.get("backbone", str)
    return name


def _check_images(plan: _Checked, image_shape: Shape) -> None:
    """Raise a BlueprintError if a network is for images of other channels."""
    n_channels = plan.count("n_channels")
    possible = {n_channels} if "widths" in plan.entries else {1, n_channels}
    if image_shape[2] not in possible:
        raise BlueprintError(
            f"its images have {image_shape[2]} channels, and its network "
            f"takes {n_channels}"
        )


def _compare_without_numbers(
    plan: _Checked, shapes: Shapes, image_shape: Shape
) -> None:
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


def _compare_with_timm(name: str, plan: _Checked, shapes: Shapes) -> None:
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
