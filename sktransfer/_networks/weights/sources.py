"""Where pretrained weights come from: a file, torchvision's download, or a package."""

from __future__ import annotations

import os
import time
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Protocol

import torch

from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.weights.checkpoints import (
    NO_ENDING,
    has_weight_ending,
    read_state,
)
from sktransfer._networks.weights.naming import State

# The coarsest clock of a common file system (FAT) ticks every 2 seconds.
SETTLED_SECONDS = 2


class Source(Protocol):
    """Weights that may have to be fetched first."""

    def identity(self) -> Hashable:
        """Identify these weights in their present state."""

    def is_local(self) -> bool:
        """Return whether the weights are on this machine."""

    def read(self) -> State:
        """Read the weights.

        Raises
        ------
        ValueError
            If the file does not hold weights.
        FileNotFoundError
            If the user's file does not exist.
        OSError
            If the weights are not on this machine and cannot be had.
        """


@dataclass(frozen=True)
class WeightFile:
    """Weights in a file."""

    path: Path

    def identity(self) -> Hashable:
        """Identify this file in its present state."""
        return identify_file(self.path)

    def is_local(self) -> bool:
        """Return whether there is such a file."""
        return self.path.is_file()

    def read(self) -> State:
        """Read the weights."""
        return read_state(self.path)


@dataclass(frozen=True)
class DownloadedFile:
    """Weights that torchvision downloads once."""

    backbone: str
    entry: Any

    @property
    def path(self) -> Path:
        """Return where torch keeps the file."""
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        return folder / Path(self.entry.url).name

    def identity(self) -> Hashable:
        """Identify the downloaded file in its present state."""
        return identify_file(self.path)

    def is_local(self) -> bool:
        """Return whether the file was downloaded."""
        return self.path.is_file()

    def read(self) -> State:
        """Get the weights from torch's local folder, or else from the network."""
        was_there = self.path.exists()
        entry = self.entry
        what = f"weights={entry.name!r} of {self.backbone}"
        try:
            state: State = entry.get_state_dict(progress=False, check_hash=True)
        except (
            OSError,
            RuntimeError,
            HTTPException,
            EOFError,
            UnpicklingError,
        ) as error:
            if was_there:
                raise OSError(
                    f"{what}: {self.path} is damaged ({error}); delete it, and the "
                    "next fit downloads it again."
                ) from None
            raise OSError(
                f"{what} are not on this machine and could not be downloaded "
                f"({error}). Ways out: {WAYS_OUT}; download {entry.url} elsewhere and "
                f"put it at {self.path}; pass its path as weights='...pth'; or pass "
                f"weights=None for random weights. {WHAT_THEY_COST}"
            ) from None
        return state


WAYS_OUT = (
    "use backbone='efficientnet_lite0', whose ImageNet weights are installed with this "
    "package, or backbone='mini_resnet18' for images of about 32 pixels"
)

# benchmarks/photographs.py.
WHAT_THEY_COST = (
    "What they cost in accuracy: with 244 photographs of ants and bees, "
    "efficientnet_lite0 gets 96 % right, mini_resnet18 80 %, and a small network from "
    "random weights 75 %."
)


def identify_file(path: Path) -> Hashable:
    """Identify a file in its present state.

    A file that was written a moment ago equals no other, not even itself: the next
    change may carry the same time.
    """
    path = path.absolute()
    try:
        found = path.stat()
    except OSError:
        return (path,)
    if time.time() - found.st_mtime < SETTLED_SECONDS:
        return path, object()
    times = found.st_mtime_ns, found.st_ctime_ns
    return path, found.st_ino, found.st_size, *times


def find_weights(backbone: Backbone, weights: str | os.PathLike[str]) -> Source:
    """Find the file that a name or a path stands for.

    Parameters
    ----------
    backbone : Backbone
        What the weights are for.

    weights : str or path-like
        ``"auto"``, a name that the backbone knows, or a file of weights.

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
        return WeightFile(Path(weights))
    known = list_sources(backbone)
    if name in known:
        return known[name]
    if name in ("auto", "DEFAULT") and known:
        return next(iter(known.values()))
    if Path(name).is_file():
        raise ValueError(f"weights={name!r} is a file, but {NO_ENDING}")
    if name == "auto":
        raise ValueError(
            f"weights='auto': backbone={backbone.name!r} names no weights; pass a file "
            "as weights=, or None for random weights."
        )
    raise ValueError(
        f"weights={weights!r} is unknown for backbone={backbone.name!r}; pass 'auto', "
        f"{f'one of {list(known)}, ' if known else ''}a weight file "
        "(.safetensors, .pth), a fitted TransferClassifier, or None."
    )


def list_sources(backbone: Backbone) -> dict[str, Source]:
    """List the weights that the description of a backbone names, the default first."""
    weights = backbone.weights
    if weights is None:
        return {}
    named: Mapping[str, Any] = (
        weights if isinstance(weights, Mapping) else {"auto": weights}
    )
    return {
        name: source if hasattr(source, "read") else WeightFile(Path(source))
        for name, source in named.items()
    }
