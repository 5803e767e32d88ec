"""Pretrained backbone weights: found, read, and loaded into stages."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torchvision.models import get_model_weights

from sktransfer._networks.stages import Stages

BUNDLED_FOLDER = Path(__file__).parent / "bundled"
BUNDLED = {"mini_resnet18": "TINYIMAGENET32_V1"}

# torchvision's second ImageNet weights were trained with label smoothing as well, which
# makes frozen features worse (Kornblith et al. 2019).
DEFAULT_WEIGHTS = "IMAGENET1K_V1"

# The coarsest clock of a common file system (FAT) ticks every 2 seconds.
SETTLED_SECONDS = 2

State = Mapping[str, torch.Tensor]


class Source(NamedTuple):
    """A file of weights.

    Attributes
    ----------
    path : Path
        The file.

    backbone : str
        Name of the architecture.

    entry : torchvision weights or None
        For a file that is downloaded if it is missing.
    """

    path: Path
    backbone: str
    entry: Any = None

    def identity(self) -> tuple[Any, ...]:
        """Identify this file in its present state.

        A file that was written a moment ago equals no other, not even itself: the next
        change may carry the same time.
        """
        path = self.path.absolute()
        try:
            found = path.stat()
        except OSError:
            return (path,)
        if time.time() - found.st_mtime < SETTLED_SECONDS:
            return path, object()
        times = found.st_mtime_ns, found.st_ctime_ns
        return path, found.st_ino, found.st_size, *times

    def read(self) -> State:
        """Read the weights, or download them.

        Raises
        ------
        ValueError
            If the file does not hold weights.
        FileNotFoundError
            If the user's file does not exist.
        OSError
            If the weights are not on this machine and cannot be downloaded.
        """
        return _read_file(self.path) if self.entry is None else _download(self)


def find_weights(backbone: str, weights: str | os.PathLike[str]) -> Source:
    """Find the file that a name or a path stands for.

    Parameters
    ----------
    backbone : str
        Name of the architecture.

    weights : str or path-like
        ``"auto"``, a torchvision name, the bundled name, or a ``.pth``, ``.pt`` or
        ``.safetensors`` file.

    Returns
    -------
    Source
        Need not exist yet.

    Raises
    ------
    ValueError
        If `weights` is neither a known name nor a weight file.
    """
    name = str(weights)
    if Path(weights).suffix in (".pth", ".pt", ".safetensors"):
        return Source(Path(weights), backbone)
    if name == "auto":
        name = BUNDLED.get(backbone, DEFAULT_WEIGHTS)
    if backbone in BUNDLED and name in (BUNDLED[backbone], "DEFAULT"):
        return Source(BUNDLED_FOLDER / f"{backbone}.safetensors", backbone)
    known = (
        [BUNDLED[backbone]]
        if backbone in BUNDLED
        else [w.name for w in get_model_weights(backbone)]
    )
    if Path(name).is_file():
        raise ValueError(
            f"weights={name!r} is a file, but its name ends in none of .pth, .pt and "
            ".safetensors, which decide how it is read; rename it."
        )
    if name not in (*known, "DEFAULT"):
        raise ValueError(
            f"weights={weights!r} is unknown for backbone={backbone!r}; pass 'auto', "
            f"one of {known}, a .pth or .safetensors file, a fitted "
            "ResNetTransferClassifier, or None."
        )
    entry: Any = get_model_weights(backbone)[name]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return Source(folder / Path(entry.url).name, backbone, entry)


def _read_file(path: Path) -> State:
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


def _download(source: Source) -> State:
    """Get torchvision weights from its local cache, or else from the network."""
    was_there = source.path.exists()
    entry = source.entry
    what = f"weights={entry.name!r} of {source.backbone}"
    try:
        downloaded: State = entry.get_state_dict(progress=False, check_hash=True)
    except (OSError, RuntimeError, HTTPException, EOFError, UnpicklingError) as error:
        if was_there:
            raise OSError(
                f"{what}: {source.path} is damaged ({error}); delete it, and the "
                "next fit downloads it again."
            ) from None
        raise OSError(
            f"{what} are not on this machine and could not be downloaded ({error}). "
            "Ways out: use backbone='mini_resnet18', whose weights are bundled; "
            f"download {entry.url} elsewhere and put it at {source.path}; pass its "
            "path as weights='...pth'; or pass weights=None for random weights."
        ) from None
    return downloaded


def load_backbone(stages: Stages, state: State, source: str) -> None:
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
    for name in optional - renamed.keys():
        renamed[name] = torch.zeros_like(wanted[name])
    stages.load_state_dict(renamed, strict=False)
