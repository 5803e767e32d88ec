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
from torchvision.models import get_model_weights

from sktransfer._networks.backbones.checkpoints import (
    NO_ENDING,
    has_weight_ending,
    read_state,
)
from sktransfer._networks.backbones.naming import State, fit_names, restore_name
from sktransfer._networks.stages import Stages

BUNDLED_FOLDER = Path(__file__).parent / "bundled"
BUNDLED = {"mini_resnet18": "TINYIMAGENET32_V1"}

# torchvision's second ImageNet weights were trained with label smoothing as well, which
# makes frozen features worse (Kornblith et al. 2019).
DEFAULT_WEIGHTS = "IMAGENET1K_V1"

# The coarsest clock of a common file system (FAT) ticks every 2 seconds.
SETTLED_SECONDS = 2


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
        return read_state(self.path) if self.entry is None else _download(self)


def find_weights(backbone: str, weights: str | os.PathLike[str]) -> Source:
    """Find the file that a name or a path stands for.

    Parameters
    ----------
    backbone : str
        Name of the architecture.

    weights : str or path-like
        ``"auto"``, a torchvision name, the bundled name, or a weight file.

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
    if has_weight_ending(weights):
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
        raise ValueError(f"weights={name!r} is a file, but {NO_ENDING}")
    if name not in (*known, "DEFAULT"):
        raise ValueError(
            f"weights={weights!r} is unknown for backbone={backbone!r}; pass 'auto', "
            f"one of {known}, a weight file (.safetensors, .pth), a fitted "
            "ResNetTransferClassifier, or None."
        )
    entry: Any = get_model_weights(backbone)[name]
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    return Source(folder / Path(entry.url).name, backbone, entry)


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


def load_backbone(
    stages: Stages,
    state: State,
    source: str,
    rename: Mapping[str, str] | None = None,
    head: str | None = None,
) -> None:
    """Copy pretrained weights into every stage but the head.

    Batch counts that old files lack are set to 0.

    Parameters
    ----------
    stages : Stages
        Changed in place.

    state : mapping of str to tensor
        Names as in the original network (``conv1.weight``) or in stages
        (``stem.conv1.weight``), with any prefix; entries of a head are ignored.

    source : str
        What the user passed, for the error message.

    rename : mapping of str to str, default=None
        As ``list_names`` returns it. ``None``: the original network calls its children
        as the stages do theirs, or has a stage as a child.

    head : str, default=None
        Child of the original network that is ignored. Linear ones are anyway.

    Raises
    ------
    ValueError
        If names or shapes do not match the backbone, or its weights are not finite.
    """
    rename = _list_children(stages) if rename is None else rename
    own = {stages.names[-1], "preprocess"}
    wanted = {
        name: tensor
        for name, tensor in stages.state_dict().items()
        if name.split(".")[0] not in own
    }
    shapes = {name: tuple(tensor.shape) for name, tensor in wanted.items()}
    ignored = own if head is None else own | {head}
    fitted = fit_names(state, shapes, rename, ignored, source)
    parameters = {name for name, _ in stages.named_parameters(remove_duplicate=False)}
    by_path = {path: child for child, path in rename.items()}
    for name, tensor in fitted.items():
        fault = _find_fault(tensor, name in parameters)
        if fault:
            called = restore_name(name, by_path)
            raise ValueError(f"weights={source}: {called} holds {fault}")
    counts = {
        name: torch.zeros_like(wanted[name]) for name in shapes.keys() - fitted.keys()
    }
    stages.load_state_dict({**fitted, **counts}, strict=False)


def _list_children(stages: Stages) -> dict[str, str]:
    """List where each child of the original network is, going by names.

    Numbers are given by ``nn.Sequential``, which the original network had, too.
    """
    names = {}
    for name, stage in list(stages.items())[:-1]:
        children = [child for child, _ in stage.named_children()]
        if not children or any(child.isdigit() for child in children):
            names[name] = name
        else:
            names.update((child, f"{name}.{child}") for child in children)
    return names


def _find_fault(tensor: torch.Tensor, is_parameter: bool) -> str | None:
    """Say what is wrong with the numbers of a tensor, as the fault of the file."""
    if is_parameter and not tensor.is_floating_point():
        return (
            f"{str(tensor.dtype).removeprefix('torch.')} numbers, as a quantized "
            "network does; pass its weights before quantization."
        )
    # In float32 as they will be used, which is too narrow for some of float64.
    numbers = tensor.to(torch.float32)
    # A sum takes a tenth of the time. Not finite, it may also be too large.
    if numbers.sum().isfinite():
        return None
    wrong = ~numbers.isfinite()
    if not wrong.any():
        return None
    return (
        f"{int(wrong.sum())} NaN or infinite of {wrong.numel()} numbers. The file is "
        "at fault: it is damaged, or its training diverged."
    )
