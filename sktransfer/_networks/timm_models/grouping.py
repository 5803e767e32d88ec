"""Where a timm model is cut: what it says about its parts, as at most five stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from timm.models._manipulate import group_with_matcher

from sktransfer._networks.timm_models.tracing import Trace

# The stem and four stages, as in a ResNet; the head is the sixth.
MOST_STAGES = 5


def find_groups(model: Any) -> dict[str, int]:
    """Find the part of a timm model to which each parameter belongs, from 0.

    Parameters of which the model says nothing, such as the last norm, are left out.
    """
    names = [name for name, _ in model.named_parameters()]
    # MetaFormer and others have no matcher, but name the modules of their features.
    if hasattr(model, "group_matcher"):
        return _match(names, model.group_matcher(coarse=True))
    return {
        name: place
        for place, info in enumerate(_list_features(model), start=1)
        for name in names
        if name.startswith(f"{info['module']}.")
    }


def choose_ends(model: Any, trace: Trace, possible: Sequence[int]) -> list[int]:
    """Choose the groups after which the model is cut.

    Parameters
    ----------
    model : torch.nn.Module
        The timm model.

    trace : Trace
        Its forward pass.

    possible : sequence of int
        Groups after which it can be cut.

    Returns
    -------
    list of int
        At most four, in order.
    """
    most = MOST_STAGES - 1
    if len(possible) <= most:
        return list(possible)
    strides: dict[int, int] = {}
    for info in _list_features(model):
        group = trace.level_after(info["module"])
        strides[info["reduction"]] = max(group, strides.get(info["reduction"], 0))
    if len(strides) > 1:
        ends = {possible[0], *strides.values()} & set(possible)
        return sorted(ends)[-most:]
    # All blocks of a transformer have one stride: equal shares after the stem.
    first, last = possible[0], trace.levels[trace.features]
    shares = [round(first + i * (last - first) / most) for i in range(most)]
    return [group for group in shares if group in possible]


def _match(names: list[str], matcher: Any) -> dict[str, int]:
    """Number the parameters' groups, without those that match nothing."""
    # What matches nothing gets the last number, with nothing to tell it by: a name
    # that no parameter can have finds out which.
    nothing = "\n"
    found: Mapping[str, int] = group_with_matcher(
        ((name, None) for name in (*names, nothing)), matcher, reverse=True
    )
    return {name: found[name] for name in names if found[name] != found[nothing]}


def _list_features(model: Any) -> list[dict[str, Any]]:
    """List what the model says about its feature maps, from input to output."""
    info = getattr(model, "feature_info", None)
    return [dict(entry) for entry in info] if isinstance(info, list) else []
