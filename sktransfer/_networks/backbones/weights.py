"""Pretrained backbone weights: found, read, and loaded into stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.stages import Stages

ENDINGS = (".safetensors", ".pth", ".pt")

State = Mapping[str, torch.Tensor]


def read_state(path: Path) -> State:
    """Read a weight file; nothing in it is executed."""
    if not path.is_file():
        kind = "this is a folder" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"weights={str(path)!r}: {kind}.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # The rest of torch's message advises on options that users do not have here.
        first_line = str(error).partition("\n")[0][:200]
        why = f"{type(error).__name__}, {first_line}"
        raise ValueError(
            f"weights={str(path)!r} could not be read as a state dict, as "
            f"torch.save(net.state_dict(), path) writes one: {why}"
        ) from None
    for wrapper in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(wrapper), Mapping):
            state = state[wrapper]
    if not isinstance(state, Mapping):
        raise ValueError(f"weights={str(path)!r} does not hold a state dict.")
    return state


def load_backbone(
    backbone: Backbone, stages: Stages, state: State, source: str
) -> None:
    """Copy pretrained weights into every stage but the head.

    Batch counts that old files lack are set to 0.

    Parameters
    ----------
    stages : Stages
        Changed in place.

    state : mapping of str to tensor
        Names as in torchvision (``conv1.weight``) or in stages (``stem.conv1.weight``);
        entries of the head are ignored.

    source : str
        What the user passed, for the error message.

    Raises
    ------
    ValueError
        If names or shapes do not match the backbone.
    """
    names = list_names(backbone)
    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        if name.split(".")[0] in (backbone.head, "head", "preprocess"):
            continue
        child = next((c for c in names if name.startswith(f"{c}.")), None)
        renamed[name if child is None else names[child] + name[len(child) :]] = tensor
    wanted = {
        name: tensor
        for name, tensor in stages.state_dict().items()
        if name.split(".")[0] not in ("head", "preprocess")
    }
    optional = {name for name in wanted if name.endswith("num_batches_tracked")}
    problems = [
        *(
            f"missing {name}"
            for name in sorted(wanted.keys() - renamed.keys() - optional)
        ),
        *(f"unexpected {name}" for name in sorted(renamed.keys() - wanted.keys())),
        *(
            f"{name} has shape {tuple(renamed[name].shape)}, not {tuple(t.shape)}"
            for name, t in wanted.items()
            if name in renamed and renamed[name].shape != t.shape
        ),
    ]
    if problems:
        raise ValueError(
            f"weights={source} do not fit the backbone: {'; '.join(problems[:5])}"
            f"{f' and {len(problems) - 5} more' if len(problems) > 5 else ''}."
        )
    for name in optional - renamed.keys():
        renamed[name] = torch.zeros_like(wanted[name])
    stages.load_state_dict(renamed, strict=False)


def list_names(backbone: Backbone) -> dict[str, str]:
    """List where each child of the network is in the stages."""
    return {
        child: stage if child == stage else f"{stage}.{child.replace('.', '_')}"
        for stage, children in backbone.stages.items()
        for child in children
    }
