"""Pretrained backbone weights: found, read, and loaded into stages."""

from __future__ import annotations

import os
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors.torch import load_file
from torchvision.models import get_model_weights

from sktransfer._stages import Stages

BUNDLED_FOLDER = Path(__file__).parent / "weights"
BUNDLED = {"mini_resnet18": "TINYIMAGENET32_V1"}

# torchvision's second ImageNet weights were trained with label smoothing and mixup,
# which makes worse frozen features (Kornblith et al. 2019).
DEFAULT_WEIGHTS = "IMAGENET1K_V1"

State = Mapping[str, torch.Tensor]


def read_weights(backbone: str, weights: str | os.PathLike[str]) -> State:
    """Read the weights that a name or a path stands for.

    Parameters
    ----------
    backbone : str
        Name of the architecture.

    weights : str or path-like
        ``"auto"``, a torchvision name, the bundled name, or a ``.pth``, ``.pt`` or
        ``.safetensors`` file.

    Returns
    -------
    mapping of str to tensor

    Raises
    ------
    ValueError
        If `weights` is neither a known name nor a weight file.
    FileNotFoundError
        If the file does not exist.
    OSError
        If the weights are not on this machine and cannot be downloaded.
    """
    if Path(weights).suffix in (".pth", ".pt", ".safetensors"):
        return _read_file(Path(weights))
    name = str(weights)
    if name == "auto":
        name = BUNDLED.get(backbone, DEFAULT_WEIGHTS)
    if BUNDLED.get(backbone) == name:
        return _read_file(BUNDLED_FOLDER / f"{backbone}.safetensors")
    known = (
        [BUNDLED[backbone]]
        if backbone in BUNDLED
        else [w.name for w in get_model_weights(backbone)]
    )
    if Path(name).is_file():
        raise ValueError(
            f"weights={name!r} is a file with another ending than .pth, .pt or "
            ".safetensors, which say how it is read."
        )
    if name not in (*known, "DEFAULT"):
        raise ValueError(
            f"weights={weights!r} is unknown for backbone={backbone!r}; pass 'auto', "
            f"one of {known}, a .pth or .safetensors file, a fitted "
            "ResNetTransferClassifier, or None."
        )
    return _download(backbone, known[0] if backbone in BUNDLED else name)


def _read_file(path: Path) -> State:
    """Read a weight file; nothing in it is executed."""
    if not path.is_file():
        raise FileNotFoundError(f"weights={str(path)!r}: no such file.")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        # torch goes on for a page, with advice about options that nobody has here.
        why = str(error).partition("\n")[0][:200]
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


def _download(backbone: str, name: str) -> State:
    """Torchvision weights from its local cache, or else from the network."""
    entry: Any = get_model_weights(backbone)[name]
    target = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    was_there = target.exists()
    try:
        downloaded: State = entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, HTTPException, EOFError, UnpicklingError) as error:
        if was_there:
            raise OSError(
                f"weights={name!r} of {backbone}: {target} is damaged ({error}); "
                "delete it, and the next fit downloads it again."
            ) from None
        raise OSError(
            f"weights={name!r} of {backbone} are not on this machine and could not be "
            f"downloaded ({error}). Ways out: download {entry.url} elsewhere and put "
            f"it at {target}; pass its path as weights='...pth'; use "
            "backbone='mini_resnet18', whose weights are bundled; or weights=None for "
            "random weights."
        ) from None
    return downloaded


def load_backbone(stages: Stages, state: State, source: str) -> None:
    """Copy pretrained weights into every stage but the head.

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
    renamed = {}
    for name, tensor in state.items():
        name = name.removeprefix("module.")
        if name.split(".")[0] in ("fc", "head", "preprocess"):
            continue
        if name.split(".")[0] in ("conv1", "bn1"):
            name = f"stem.{name}"
        renamed[name] = tensor
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
    stages.load_state_dict(renamed, strict=False)
