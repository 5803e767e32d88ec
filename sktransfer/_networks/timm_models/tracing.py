"""A network cut where one tensor crosses: its forward pass, read off as steps.

torch.fx follows the forward pass down to modules that lie in one group each, and no
further: what happens inside them, also in training, stays their own code.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from sktransfer._networks.timm_models.folding import fold_constants
from sktransfer._networks.timm_models.traced import TracedStage, make_step

Run = Callable[[nn.Module, torch.Tensor], torch.Tensor]


@dataclass(frozen=True)
class Trace:
    """The forward pass of a network as a graph.

    Attributes
    ----------
    network : torch.nn.Module
        What was traced.

    graph : torch.fx.Graph
        Nodes in the order in which they run; targets are names in the network.

    levels : mapping of torch.fx.Node to int
        For the nodes that depend on the images: the last group that they have passed.
    """

    network: nn.Module
    graph: fx.Graph
    levels: Mapping[fx.Node, int]

    @property
    def images(self) -> fx.Node:
        """The node that stands for the images."""
        node: fx.Node = next(iter(self.graph.nodes))
        return node

    @property
    def features(self) -> fx.Node:
        """The node that returns the features."""
        output: fx.Node = next(iter(reversed(self.graph.nodes)))
        return output.all_input_nodes[0]

    def level_after(self, module: str) -> int:
        """Return the last group that has been passed after a module."""
        levels = [
            level
            for node, level in self.levels.items()
            if node.op == "call_module" and _overlap(str(node.target), module)
        ]
        return max(levels, default=0)

    def find_cuts(self) -> dict[int, fx.Node]:
        """Find the groups after which one tensor crosses, and that tensor."""
        cuts = {}
        for level in range(self.levels[self.features]):
            crossing = self._find_crossing(level)
            if len(crossing) == 1 and not self._share_state(crossing[0]):
                cuts[level] = crossing[0]
        return cuts

    def split(self, cuts: Iterable[fx.Node], origin: str) -> list[TracedStage]:
        """Split the network at these tensors.

        Parameters
        ----------
        cuts : iterable of torch.fx.Node
            In order.

        origin : str
            Which network this is, as its stages print it.

        Returns
        -------
        list of TracedStage
            One more than `cuts`. They use the modules of the network, not copies.
        """
        ends = [self.images, *cuts, self.features]
        return [
            TracedStage(
                self.network,
                [make_step(node) for node in _find_between(start, end)],
                start.name,
                origin,
            )
            for start, end in itertools.pairwise(ends)
        ]

    def _find_crossing(self, level: int) -> list[fx.Node]:
        """List the nodes up to this level that later ones read."""
        return [
            node
            for node, passed in self.levels.items()
            if passed <= level and any(self.levels[u] > level for u in node.users)
        ]

    def _share_state(self, cut: fx.Node) -> bool:
        """Return whether both sides of a cut use the same weights."""
        before = self._find_state(_find_between(self.images, cut))
        return bool(before & self._find_state(_find_between(cut, self.features)))

    def _find_state(self, nodes: Iterable[fx.Node]) -> set[int]:
        """Find the weights that these nodes use: tied ones may have several names."""
        targets = {str(n.target) for n in nodes if n.op in ("call_module", "get_attr")}
        weights = self.network.state_dict(keep_vars=True)
        return {
            id(tensor)
            for name, tensor in weights.items()
            if any(_overlap(name, target) for target in targets)
        }


def trace(
    network: nn.Module,
    run: Run,
    groups: Mapping[str, int],
    images: torch.Tensor | None = None,
    opaque: tuple[type[nn.Module], ...] = (),
    wrapped: tuple[Callable[..., Any], ...] = (),
) -> Trace:
    """Follow the forward pass of a network in eval mode.

    Parameters
    ----------
    network : torch.nn.Module
        In eval mode.

    run : callable
        Maps the network and a batch of images to features.

    groups : mapping of str to int
        Group of each parameter, from 0 at the input. One that is missing belongs to
        the group of what it is applied to.

    images : tensor of shape (3, 3, height, width) or None, default=None
        If all images have this size: what is the same for all of them becomes part of
        the network.

    opaque, wrapped : tuple of type, tuple of callable
        Modules and functions into which torch.fx must not look.

    Returns
    -------
    Trace

    Raises
    ------
    Exception
        Of many kinds, if torch.fx cannot follow, because the way depends on the
        images, for instance.
    """
    root = _Runner(network, run)
    graph = _Tracer(groups, opaque, wrapped).trace(root)
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))
    for node in graph.nodes:
        if node.op in ("call_module", "get_attr"):
            name = str(node.target)
            node.target = name.removeprefix("network.")
            if node.target == name:
                network.register_buffer(name, getattr(root, name), persistent=False)
    if images is not None:
        fold_constants(network, graph, images)
    return Trace(network, graph, _find_levels(graph, groups))


class _Runner(nn.Module):
    """A network with the forward pass that is traced."""

    def __init__(self, network: nn.Module, run: Run) -> None:
        super().__init__()
        self.network = network
        self.run = run

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Map images to features."""
        return self.run(self.network, images)


class _Tracer(fx.Tracer):
    """Looks only into modules whose parameters are in several groups."""

    def __init__(
        self,
        groups: Mapping[str, int],
        opaque: tuple[type[nn.Module], ...],
        wrapped: tuple[Callable[..., Any], ...],
    ) -> None:
        super().__init__((math,), wrapped)
        self.opaque = opaque
        self.groups_in: dict[str, set[int]] = defaultdict(set)
        for name, group in groups.items():
            folders = name.split(".")
            for depth in range(len(folders)):
                self.groups_in[".".join(["network", *folders[:depth]])].add(group)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """Return whether this module is one step."""
        if module_qualified_name == "network":
            return False
        several = len(self.groups_in[module_qualified_name]) > 1
        return isinstance(m, self.opaque) or not several


def _find_levels(graph: fx.Graph, groups: Mapping[str, int]) -> dict[fx.Node, int]:
    """Find the last group that each node has passed, if it depends on the images."""
    levels: dict[fx.Node, int] = {}
    for node in graph.nodes:
        before = [levels[n] for n in node.all_input_nodes if n in levels]
        own = [
            group
            for name, group in groups.items()
            if node.op == "call_module" and _overlap(name, str(node.target))
        ]
        if before or node.op == "placeholder":
            levels[node] = max([0, *before, *own])
    return levels


def _find_between(start: fx.Node, end: fx.Node) -> list[fx.Node]:
    """List what has to run to get from one tensor to another, in order."""
    wanted, found = [end], {start, end}
    while wanted:
        for node in wanted.pop().all_input_nodes:
            if node not in found:
                found.add(node)
                wanted.append(node)
    return [node for node in start.graph.nodes if node in found and node is not start]


def _overlap(one: str, other: str) -> bool:
    """Return whether one name with dots is the other, or inside it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")
