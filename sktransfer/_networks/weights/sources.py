"""Where pretrained weights come from: a file, torchvision's download, or a package."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from io import FileIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import torch

from sktransfer._files.opening import hash_file, open_regular
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
        """Get the weights from torch's local folder, or else from the network.

        Before they are read, the SHA-256 of the whole file is compared with the digits
        of it that are known: the eight in the file's name. They tell damage, and any
        other file; whoever has the time to try four billion files can make one with the
        same eight digits, which is read, too, without running code.
        """
        what = f"weights={self.entry.name!r} of {self.backbone}"
        try:
            with open_download(self.entry.url, self.path) as file:
                return read_state(self.path, file)
        except DownloadError as error:
            raise OSError(
                f"{what} are not on this machine and could not be downloaded "
                f"({error}). Ways out: {WAYS_OUT}; download {self.entry.url} elsewhere "
                f"and put it at {self.path}; pass its path as weights='...pth'; or "
                f"pass weights=None for random weights. {WHAT_THEY_COST}"
            ) from None
        except (OSError, ValueError) as error:
            raise OSError(
                f"{what}: {self.path} cannot be used ({error}); delete it, and the "
                "next fit downloads it again."
            ) from None


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


class DownloadError(OSError):
    """A file is not on this machine, and could not be downloaded."""


@contextmanager
def open_download(url: str, path: Path) -> Iterator[FileIO]:
    """Open a file that is downloaded once, after its SHA-256 has been checked.

    Parameters
    ----------
    url : str
        Where it comes from. Its name holds the first digits of its SHA-256, as torch
        names files: ``resnet18-f37072fd.pth``. One without them is not checked.

    path : Path
        Where it is, or is to be. A new one is there only when it is whole.

    Yields
    ------
    FileIO
        At its beginning.

    Raises
    ------
    DownloadError
        If it is not there, and cannot be downloaded.
    OSError
        If what is there is not this file, or no file at all.
    """
    try:
        file = open_regular(path)
    except (FileNotFoundError, NotADirectoryError):
        try:
            _download(url, path)
        except (OSError, RuntimeError, HTTPException) as error:
            raise DownloadError(str(error)) from None
        file = open_regular(path)
    with file:
        _check_digits(file, url)
        yield file


def _download(url: str, path: Path) -> None:
    """Download a file, which is put into its place when it is whole and right."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".downloading-") as folder:
        new = Path(folder, path.name)
        torch.hub.download_url_to_file(url, str(new), progress=False)
        with open_regular(new) as file:
            _check_digits(file, url)
        os.replace(new, path)


def _check_digits(file: FileIO, url: str) -> None:
    """Compare the SHA-256 of an open file with the digits in the name at its source."""
    known = re.search(r"-([0-9a-f]{8,64})\.[^/]*$", url)
    found = hash_file(file)
    if known and not found.startswith(known[1]):
        raise OSError(f"its SHA-256 begins with {found[:12]}, not with {known[1]}")


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
    if name.endswith(".sktransfer"):
        raise ValueError(
            f"weights={name!r} is the name of a model; pass "
            f"weights=sktransfer.load({name!r})."
        )
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
