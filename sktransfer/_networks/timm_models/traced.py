"""TracedStage: part of a network, run by steps that were read off its forward pass.

torch.fx's own GraphModule would do, but its repr hides its code, it is pickled as
source code, and it saves constants among the weights.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn


@dataclass(frozen=True)
class Value:
    """The result of an earlier step, as an argument of a later one."""

    name: str

    def __repr__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Step:
    """One operation of a forward pass.

    Attributes
    ----------
    result : str
        Name of what it returns.

    kind : {"call_module", "call_function", "call_method", "get_attr"}
        As torch.fx calls it.

    target : str or callable
        Name of the module, method or attribute, or the function.

    args, kwargs : tuple, dict
        With a `Value` wherever the result of an earlier step is passed.
    """

    result: str
    kind: str
    target: str | Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def __str__(self) -> str:
        target = self.target
        if callable(target):
            # Nothing that changes from one process to the next, such as an address.
            target = f"{target.__module__ or 'torch'}.{target.__name__}"
        arguments = [repr(arg) for arg in self.args]
        arguments += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.result} = {self.kind} {target}({', '.join(arguments)})"


def replace(argument: Any, change: Callable[[Any], Any]) -> Any:
    """Change everything in a nest of plain containers."""
    if isinstance(argument, (tuple, list)):
        items = [replace(item, change) for item in argument]
        return tuple(items) if isinstance(argument, tuple) else items
    if isinstance(argument, dict):
        return {key: replace(value, change) for key, value in argument.items()}
    if isinstance(argument, slice):
        parts = argument.start, argument.stop, argument.step
        return slice(*(replace(part, change) for part in parts))
    return change(argument)


def make_step(node: fx.Node) -> Step:
    """Describe a node without the graph around it."""
    args, kwargs = replace(
        (tuple(node.args), dict(node.kwargs)),
        lambda item: Value(item.name) if isinstance(item, fx.Node) else item,
    )
    return Step(node.name, node.op, node.target, args, kwargs)


def run_step(network: nn.Module, step: Step, values: Mapping[str, Any]) -> Any:
    """Run one step, given the results of those before."""
    args, kwargs = replace(
        (step.args, step.kwargs),
        lambda item: values[item.name] if isinstance(item, Value) else item,
    )
    if callable(step.target):
        return step.target(*args, **kwargs)
    if step.kind == "call_method":
        return getattr(args[0], step.target)(*args[1:], **kwargs)
    part: Any = network
    for name in step.target.split("."):
        part = getattr(part, name)
    return part(*args, **kwargs) if step.kind == "call_module" else part


class TracedStage(nn.Module):
    """Part of a network: the modules and tensors that its steps name, and the steps.

    Parameters
    ----------
    network : torch.nn.Module
        Where the modules and tensors are. They keep their names and are not copied.

    steps : sequence of Step
        In the order in which they run; the result of the last is returned.

    start : str
        Name of what the stage is given.

    origin : str
        Which network this is, for the repr: two networks may differ in what neither
        their modules print nor their weights say.
    """

    def __init__(
        self, network: nn.Module, steps: Sequence[Step], start: str, origin: str
    ) -> None:
        super().__init__()
        self.steps = tuple(steps)
        self.start = start
        self.origin = origin
        self.done_with = _find_last_uses(steps)
        for step in steps:
            if step.kind in ("call_module", "get_attr"):
                _adopt(self, network, str(step.target))

    def forward(self, activation: torch.Tensor) -> torch.Tensor:
        """Map the activation before this part of the network to the one after it."""
        values: dict[str, Any] = {self.start: activation}
        del activation
        for step, names in zip(self.steps, self.done_with, strict=True):
            values[step.result] = run_step(self, step, values)
            for name in names:
                del values[name]
        result: torch.Tensor = values.popitem()[1]
        return result

    def extra_repr(self) -> str:
        """Say everything that decides the result, other than modules and weights."""
        lines = [self.origin, *map(str, self.steps)]
        for name, tensor in self.named_buffers():
            if name not in self.state_dict():
                numbers = tensor.detach().cpu().flatten().view(torch.uint8)
                digest = hashlib.sha256(numbers.numpy().data).hexdigest()[:16]
                lines.append(f"{name}: {tuple(tensor.shape)}, {tensor.dtype}, {digest}")
        return "\n".join(lines)


def _find_last_uses(steps: Sequence[Step]) -> list[tuple[str, ...]]:
    """List for each step the values that no later step needs."""
    seen: set[str] = set()
    last_uses = []
    for step in reversed(steps):
        names: set[str] = set()

        def note(item: Any, names: set[str] = names) -> None:
            if isinstance(item, Value):
                names.add(item.name)

        replace((step.args, step.kwargs), note)
        last_uses.append(tuple(sorted(names - seen)))
        seen |= names
    return last_uses[::-1]


def _adopt(stage: nn.Module, network: nn.Module, path: str) -> None:
    """Give a stage a module or tensor of a network, under the same name."""
    *folders, name = path.split(".")
    owner, source = stage, network
    for folder in folders:
        source = source.get_submodule(folder)
        if folder not in dict(owner.named_children()):
            owner.add_module(folder, nn.Module())
        owner = owner.get_submodule(folder)
    part = getattr(source, name)
    if isinstance(part, nn.Module):
        owner.add_module(name, part)
    elif isinstance(part, nn.Parameter):
        owner.register_parameter(name, part)
    else:
        saved = name in source.state_dict(keep_vars=True)
        owner.register_buffer(name, part, persistent=saved)
