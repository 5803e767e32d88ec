"""The tensors of a network, found in a state dict whatever they are called there."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import product

import torch

from sktransfer._networks.weights.misfits import Shapes, describe_misfit

State = Mapping[str, torch.Tensor]

# Of fewer names than this share of a network's it may be chance that they are there.
LEAST_SHARE = 0.1

# torch.compile, FSDP and activation checkpointing put these around any module.
TRANSPARENT = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

# Words in the names of networks that follow another one, as a moving average of it.
FOLLOWERS = {"ema", "k", "momentum", "target", "teacher"}


def list_names(stages: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """List where each child of a network is found in its stages.

    Parameters
    ----------
    stages : mapping of str to sequence of str
        As in a :class:`Backbone`.

    Returns
    -------
    dict of str to str
        From the child's name to its path in the stages: ``"conv1"`` to
        ``"stem.conv1"``, ``"blocks.0"`` to ``"stem.blocks_0"``. A stage with one child
        of the same name is that child: ``"layer1"`` to ``"layer1"``.
    """
    names = {}
    for stage, children in stages.items():
        for child in children:
            alone = list(children) == [stage]
            names[child] = stage if alone else f"{stage}.{child.replace('.', '_')}"
    return names


def fit_names(
    state: State,
    wanted: Shapes,
    rename: Mapping[str, str],
    ignored: Collection[str] = (),
    source: str = "these",
) -> dict[str, torch.Tensor]:
    """Find the tensors of a network in a state dict, whatever is around them.

    They may have the network's own names, those of its stages, or the numbers of its
    children, and any prefix: of all prefixes in the file, the one is removed under
    which most tensors are found. Of several networks of which that is true, those that
    are a moving average of another come last, and deeper ones.

    Parameters
    ----------
    state : mapping of str to tensor
        As :func:`read_state` returns it.

    wanted : mapping of str to tuple of int
        Shape of each tensor, by its name in the stages.

    rename : mapping of str to str
        As :func:`list_names` returns it.

    ignored : collection of str, default=()
        Children that need not fit, such as the head. Another child that is linear is a
        head, too.

    source : str, default="these"
        What the user passed, for the error message.

    Returns
    -------
    dict of str to tensor
        By the names of the stages. Counts of batches, ``num_batches_tracked``, may be
        missing.

    Raises
    ------
    ValueError
        If tensors are missing, unexpected, or of another shape.
    """
    part, names = find_network(state, wanted, _list_forms(wanted, rename))
    unexpected = list(_list_unexpected(part, names, ignored))
    expected = {
        name: tuple(wanted[path])
        for name, path in names.items()
        if name in part or not name.endswith("num_batches_tracked")
    }
    held = {name: tuple(tensor.shape) for name, tensor in part.items()}
    if unexpected or any(held.get(name) != shape for name, shape in expected.items()):
        raise ValueError(
            f"weights={source} do not fit the backbone: "
            f"{describe_misfit(expected, held, unexpected)}"
        )
    return {names[name]: part[name] for name in expected}


def _remove_wrappers(name: str) -> str:
    """Remove the parts of a name that a wrapper inserts anywhere."""
    return ".".join(part for part in name.split(".") if part not in TRANSPARENT)


def _list_forms(wanted: Shapes, rename: Mapping[str, str]) -> list[dict[str, str]]:
    """List the ways in which a file may name a network: its name to that of the stage.

    Those of the network, those of its stages, and the numbers of its children, which
    ``nn.Sequential(*net.children())`` gives.
    """
    by_path = {path: child for child, path in rename.items()}
    numbers = {path: str(i) for i, path in enumerate(rename.values())}
    return [
        {restore_name(path, by_path): path for path in wanted},
        {path: path for path in wanted},
        {restore_name(path, numbers): path for path in wanted},
    ]


def restore_name(name: str, by_path: Mapping[str, str]) -> str:
    """Replace the path of a child in the stages by the name that belongs to it."""
    for dot in re.finditer(r"\.", name):
        path = name[: dot.start()]
        if path in by_path:
            return f"{by_path[path]}{name[len(path) :]}"
    return name


def find_network(
    state: State, wanted: Shapes, forms: Sequence[Mapping[str, str]]
) -> tuple[State, Mapping[str, str]]:
    """Find the part of a state dict that holds a network.

    Parameters
    ----------
    state : mapping of str to tensor
        As :func:`read_state` returns it.

    wanted : mapping of str to tuple of int
        Shape of each tensor, by name.

    forms : sequence of mapping of str to str
        Ways of naming the network, each from such a name to one in `wanted`.

    Returns
    -------
    mapping of str to tensor
        The part of `state` whose names begin with one prefix, which is removed. All of
        it if little is found.

    mapping of str to str
        The form in which it is named.
    """
    state = {_remove_wrappers(name): tensor for name, tensor in state.items()}
    counts: Counter[tuple[str, int]] = Counter()
    for name, tensor in state.items():
        ends = [0, *(dot.end() for dot in re.finditer(r"\.", name))]
        for end, (i, form) in product(ends, enumerate(forms)):
            if (path := form.get(name[end:])) is not None:
                # Once more for the right shape: a teacher may be larger.
                fits = tuple(tensor.shape) == tuple(wanted[path])
                counts[name[:end], i] += 1 + fits

    def rank(candidate: tuple[str, int]) -> tuple[int, bool, int, int]:
        prefix, i = candidate
        follows = bool(FOLLOWERS.intersection(re.split(r"[._]", prefix)))
        return counts[candidate], not follows, -prefix.count("."), -i

    prefix, i = max(counts, key=rank, default=("", 0))
    if counts[prefix, i] < LEAST_SHARE * len(wanted):
        return state, forms[0]
    part = {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }
    return part, forms[i]


def _list_unexpected(
    part: State, names: Collection[str], ignored: Collection[str]
) -> Iterator[str]:
    """Yield the names of tensors that belong neither to the network nor to a head."""
    known = {name.partition(".")[0] for name in names}
    others: dict[str, list[str]] = {}
    for name in part:
        if name not in names and not _is_inside(name, ignored):
            others.setdefault(name.partition(".")[0], []).append(name)
    for child, found in others.items():
        n_dims = {part[name].ndim for name in found if name != child}
        if child in known or child in found or max(n_dims) != 2:
            yield from found


def _is_inside(name: str, children: Collection[str]) -> bool:
    """Return whether a name is that of one of the children, or of what they hold."""
    return any(name == child or name.startswith(f"{child}.") for child in children)
