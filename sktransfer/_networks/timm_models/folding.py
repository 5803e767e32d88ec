"""Values that are the same for all images of a size: computed once, not per batch.

Rotary tables and the numbers of patches would otherwise have to cross a cut.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import fx, nn

from sktransfer._networks.timm_models.traced import make_step, run_step

# What can be said of a tensor without its numbers.
_SHAPES = ("shape", "size", "dim", "ndim")


def fold_constants(network: nn.Module, graph: fx.Graph, images: torch.Tensor) -> None:
    """Replace what depends neither on the images nor on weights by its value.

    Parameters
    ----------
    network : torch.nn.Module
        Is given the tensors among the values, as buffers that are not saved.

    graph : torch.fx.Graph
        Its forward pass, changed in place.

    images : tensor of shape (3, 3, height, width)
        Of the size for which the values hold. Two batches of them, of different
        lengths, tell what is the same for all.
    """
    candidates = _find_candidates(network, graph)
    needed = _add_inputs(candidates)
    one = _run(network, graph, images[:2], needed)
    other = _run(network, graph, images[2:], needed)
    for node, blind in candidates.items():
        value = one[node.name]
        if not _is_same(value, other[node.name]):
            continue
        if not isinstance(value, torch.Tensor):
            _replace_by_literal(node, value)
        elif blind:
            name = f"_constant_{node.name}"
            network.register_buffer(name, value, persistent=False)
            with graph.inserting_before(node):
                node.replace_all_uses_with(graph.get_attr(name))
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))


def _find_candidates(network: nn.Module, graph: fx.Graph) -> dict[fx.Node, bool]:
    """Find nodes that may be the same for all images.

    True for those that are blind: they see neither pixels nor weights, only shapes.
    """
    state = network.state_dict().keys()
    sees: dict[fx.Node, bool] = {}
    candidates = {}
    for node in graph.nodes:
        target = str(node.target)
        if node.op == "get_attr":
            sees[node] = target in state
        elif node.op == "placeholder" or node.op == "call_module":
            sees[node] = True
        elif _asks_for_shape(node):
            sees[node] = False
        else:
            sees[node] = any(sees[n] for n in node.all_input_nodes)
        # A module may return a size beside its activation.
        beside = node.target is operator.getitem and node.args[0].op == "call_module"
        if node.op in ("call_function", "call_method") and (beside or not sees[node]):
            candidates[node] = not sees[node]
    return candidates


def _asks_for_shape(node: fx.Node) -> bool:
    """Return whether a node returns the shape of its input."""
    if node.op == "call_method":
        return node.target in _SHAPES
    return node.target is getattr and node.args[1] in _SHAPES


def _add_inputs(nodes: Iterable[fx.Node]) -> set[fx.Node]:
    """Return nodes and everything that has to run before them."""
    found = set(nodes)
    waiting = list(found)
    while waiting:
        for node in waiting.pop().all_input_nodes:
            if node not in found:
                found.add(node)
                waiting.append(node)
    return found


def _run(
    network: nn.Module, graph: fx.Graph, images: torch.Tensor, needed: set[fx.Node]
) -> Mapping[str, Any]:
    """Compute the values of the nodes that are needed."""
    values: dict[str, Any] = {}
    for node in graph.nodes:
        if node.op == "placeholder":
            values[node.name] = images
        elif node in needed:
            values[node.name] = run_step(network, make_step(node), values)
    return values


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values are equal, and of a kind that can be kept."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        return one.dtype == other.dtype and torch.equal(one, other)
    if isinstance(one, (tuple, list)) and isinstance(other, (tuple, list)):
        plain = all(x is None or isinstance(x, (bool, int, float)) for x in one)
        return plain and list(one) == list(other)
    plain = one is None or isinstance(one, (bool, int, float))
    return plain and one == other


def _replace_by_literal(node: fx.Node, value: Any) -> None:
    """Write a number, or a tuple of numbers, where a node was used."""
    literal = tuple(value) if isinstance(value, (tuple, list)) else value
    for user in list(node.users):

        def change(item: fx.Node) -> Any:
            return literal if item is node else item

        user.args = fx.map_arg(user.args, change)
        user.kwargs = fx.map_arg(user.kwargs, change)
