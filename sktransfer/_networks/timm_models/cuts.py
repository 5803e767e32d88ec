"""How a timm model is cut into stages, tested: the stages equal the whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import timm
import torch
from timm.layers import get_notrace_functions, get_notrace_modules
from torch import nn

from sktransfer._networks.device import fork_rng
from sktransfer._networks.timm_models.build import (
    CPU,
    build,
    find_trial_device,
    is_fixed,
    list_test_sizes,
    put_channels_first,
    run_map,
    run_pooled,
)
from sktransfer._networks.timm_models.grouping import choose_ends, find_groups
from sktransfer._networks.timm_models.tracing import Trace, trace


class Plan(NamedTuple):
    """How a model is cut.

    Attributes
    ----------
    ends : tuple of int
        Groups after which it is cut; none if it cannot be cut.

    maps : bool
        Whether the features are those before pooling, (n, channels, height, width).

    n_features : int
        Number of features.
    """

    ends: tuple[int, ...]
    maps: bool
    n_features: int

    @property
    def stages(self) -> list[str]:
        """Names of the stages."""
        if not self.ends:
            return ["body"]
        return ["stem", *(f"stage{i + 1}" for i in range(len(self.ends)))]


@cache
def plan(name: str) -> Plan:
    """Find out how a model can be cut so that its stages equal the whole.

    Parameters
    ----------
    name : str
        As timm knows it.

    Returns
    -------
    Plan
        Tested with images as small as the model takes.

    Raises
    ------
    ValueError
        If the model gives no features of images.
    """
    find_trial_device(name)
    *small, own = list_test_sizes(name)
    for size in small:
        # A network may break only when it is run at a size for which it was built.
        with suppress(AssertionError, IndexError, RuntimeError):
            return plan_for_size(name, size)
    return plan_for_size(name, own)


@cache
def plan_for_size(name: str, image_size: int) -> Plan:
    """Find out the same for images of one height and width in pixels."""
    fixed_size = image_size if is_fixed(name) else None
    with fork_rng(0, CPU), torch.no_grad():
        model = build(name, fixed_size)
        _shuffle_constants(model)
        images = torch.randn(1, 3, image_size, image_size)
        features, pooled = _run_whole(model, images)
        maps = _is_mean(pooled, features)
        uncut = Plan((), maps, pooled.shape[1])
        # What torch.fx cannot follow raises almost anything.
        try:
            traced = _trace(model, maps, fixed_size)
        except Exception:
            return uncut
        ends = choose_ends(model, traced, list(traced.find_cuts()))
        whole = features if maps else pooled
        return uncut._replace(ends=_keep_equal(traced, ends, images, whole))


def cut(name: str, model: nn.Module, how: Plan, image_size: int | None) -> nn.Module:
    """Cut a model into stages.

    Parameters
    ----------
    name : str
        As timm knows it.

    model : torch.nn.Module
        In eval mode. Its modules become those of the stages.

    how : Plan
        How it is cut.

    image_size : int or None
        Height and width in pixels for which it was built, if it has to know.

    Returns
    -------
    torch.nn.Module
        With the stages as children. Tensors have the names that timm gives them, after
        that of their stage.
    """
    size = "any size" if image_size is None else f"{image_size} pixels"
    origin = f"{name} of timm {timm.__version__}, {size}"
    network = nn.Sequential()
    if how.ends:
        traced = _trace(model, how.maps, image_size)
        cuts = traced.find_cuts()
        stages = traced.split([cuts[end] for end in how.ends], origin)
        for stage_name, stage in zip(how.stages, stages, strict=True):
            network.add_module(stage_name, stage)
    else:
        network.add_module(how.stages[0], Body(model, how.maps, origin))
    return network


class Body(nn.Module):
    """A model that cannot be cut, as one stage."""

    def __init__(self, model: nn.Module, maps: bool, origin: str) -> None:
        super().__init__()
        self.model = model
        self.maps = maps
        self.origin = origin

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images to features."""
        return (run_map if self.maps else run_pooled)(self.model, images)

    def extra_repr(self) -> str:
        """Say which model this is."""
        return self.origin


def _shuffle_constants(model: nn.Module) -> None:
    """Fill tensors of one number with many, so that a test sees what they do.

    A new network multiplies whole branches by 0, and hardly changes what it normalizes.
    """
    for tensor in model.state_dict().values():
        if tensor.is_floating_point() and (tensor == tensor.max()).all():
            tensor.uniform_(0.2, 0.9)


def _run_whole(model: Any, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Compute features before and after pooling."""
    raw = model.forward_features(images)
    # The head may change them in place.
    features = put_channels_first(model, copy.deepcopy(raw))
    return features, model.forward_head(raw, pre_logits=True)


def _is_mean(pooled: torch.Tensor, features: torch.Tensor) -> bool:
    """Return whether pooling is an average over pixels, and nothing follows it."""
    if not isinstance(features, torch.Tensor) or features.ndim != 4:
        return False
    # Of a single pixel, the average is also the maximum.
    if features[0, 0].numel() == 1:
        return False
    mean = features.mean((2, 3))
    return mean.shape == pooled.shape and torch.allclose(mean, pooled, 1e-4, 1e-6)


def _trace(model: nn.Module, maps: bool, image_size: int | None) -> Trace:
    """Follow the forward pass of a model."""
    images = None
    if image_size is not None:
        # Must not take numbers away from the user's weights.
        generator = torch.Generator().manual_seed(0)
        shape = (3, 3, image_size, image_size)
        images = torch.randn(shape, generator=generator)
    return trace(
        model,
        run_map if maps else run_pooled,
        find_groups(model),
        images,
        opaque=tuple(get_notrace_modules()),
        wrapped=tuple(get_notrace_functions()),
    )


def _keep_equal(
    traced: Trace, ends: Sequence[int], images: torch.Tensor, whole: torch.Tensor
) -> tuple[int, ...]:
    """Keep those cuts with which the stages equal the whole."""
    cuts = traced.find_cuts()

    def equals(kept: Sequence[int]) -> bool:
        activation = images
        for stage in traced.split([cuts[end] for end in kept], ""):
            given = activation.clone()
            result = stage(activation)
            # A stage that overwrites what it is given would spoil kept activations.
            if not isinstance(result, torch.Tensor) or not _is_close(activation, given):
                return False
            activation = result
        return _is_close(activation, whole)

    if equals(ends):
        return tuple(ends)
    kept = [end for end in ends if equals([end])]
    return tuple(kept) if equals(kept) else ()


def _is_close(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether tensors are equal except for rounding."""
    return one.shape == other.shape and torch.allclose(
        one, other, rtol=1e-5, atol=1e-7, equal_nan=True
    )
