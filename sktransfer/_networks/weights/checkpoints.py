"""Weight files as they are found, read without running code.

What such a file can cost is bounded by its size: its header or pickle is limited, and
so are the tensors in it, and nothing is larger than what the file holds.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import FileIO
from pathlib import Path
from typing import Any

import torch

from sktransfer._files.headers import MOST_TENSORS
from sktransfer._files.opening import NotAFileError, open_regular
from sktransfer._networks.weights.formats.parts import DAMAGED, RefusedError
from sktransfer._networks.weights.formats.safetensors_files import read_safetensors
from sktransfer._networks.weights.formats.torch_files import TorchFile, read_torch
from sktransfer._networks.weights.formats.torch_names import (
    StoredTensor,
    UnusableTensor,
)

ENDINGS = (".safetensors", ".pth", ".pt", ".pth.tar", ".ckpt", ".bin")
NO_ENDING = f"its name ends in none of {', '.join(ENDINGS)}; rename it."

# Checkpoints keep their weights at most so deep. A pickle can hold itself.
MAX_NESTING = 6

# Entries of all dicts that are looked at; a few shared ones can make up billions.
MOST_ENTRIES = 1_000_000

# Letters and dots in the name of a tensor.
MOST_NAME, MOST_DOTS = 500, 50

Keys = tuple[str, ...]


def has_weight_ending(path: str | os.PathLike[str]) -> bool:
    """Return whether the name of a file says that it holds weights."""
    return os.fspath(path).lower().endswith(ENDINGS)


@contextmanager
def open_weights(path: Path) -> Iterator[FileIO]:
    """Open a weight file, and nothing that is not a file.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or it is a folder, a pipe or a device.
    OSError
        If it cannot be opened.
    """
    called = f"weights={str(path)!r}"
    try:
        file = open_regular(path)
    except NotAFileError as error:
        raise FileNotFoundError(f"{called}: {error.strerror}.") from None
    except FileNotFoundError:
        raise FileNotFoundError(f"{called}: no such file.") from None
    except OSError as error:
        raise type(error)(f"{called} cannot be opened: {error.strerror}.") from None
    with file:
        yield file


def read_state(path: Path, file: FileIO | None = None) -> dict[str, torch.Tensor]:
    """Read every tensor of a weight file; nothing in it is executed.

    Parameters
    ----------
    path : Path
        With one of `ENDINGS`.

    file : FileIO or None, default=None
        The file, if it is already open; it is not opened again.

    Returns
    -------
    dict of str to tensor
        Named by the keys that lead to it, joined by dots: a tensor inside the entry
        ``"state_dict"`` begins with ``state_dict.``. What is no tensor is left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file, or it is a folder, a pipe or a device.
    OSError
        If it cannot be read.
    ValueError
        If it does not hold tensors under names, or other objects than torch reads
        without running code, or claims more than it holds.
    """
    if file is None:
        with open_weights(path) as opened:
            return read_state(path, opened)
    return {".".join(keys): tensor for keys, tensor in _read_tensors(path, file)}


def read_nested(path: Path, file: FileIO) -> dict[str, Any]:
    """Read every tensor of an open weight file, inside the dicts in which they are.

    Parameters and errors are those of :func:`read_state`.
    """
    nested: dict[str, Any] = {}
    for keys, tensor in _read_tensors(path, file):
        inside = nested
        for key in keys[:-1]:
            inside = inside.setdefault(key, {})
        inside[keys[-1]] = tensor
    return nested


def _read_tensors(path: Path, file: FileIO) -> list[tuple[Keys, torch.Tensor]]:
    """Read the tensors of an open file, with the keys that lead to them."""
    called = f"weights={str(path)!r}"
    if not has_weight_ending(path):
        raise ValueError(f"{called} cannot be read: {NO_ENDING}")
    try:
        content, tensors = _read_content(path, file)
    except (MemoryError, OSError) as error:
        raise type(error)(f"{called} could not be read: {error}.") from None
    except Exception as error:
        raise ValueError(
            f"{called} could not be read as a state dict, as "
            "torch.save(net.state_dict(), 'weights.pth') writes one: "
            f"{_tell_kind(path, file) or _explain(error)}"
        ) from None
    if not tensors:
        raise ValueError(
            f"{called} does not hold a state dict, but a {_name_kind(content)} "
            "without named tensors."
        )
    return tensors


def _read_content(
    path: Path, file: FileIO
) -> tuple[Any, list[tuple[Keys, torch.Tensor]]]:
    """Read a file by its ending: all that it holds, and its tensors."""
    if path.name.lower().endswith(".safetensors"):
        state = read_safetensors(file)
        for name in state:
            _check_name(name)
        return state, [((name,), tensor) for name, tensor in state.items()]
    found = read_torch(file, os.fstat(file.fileno()).st_size)
    return found.content, _read_found(found)


def _check_name(name: str) -> None:
    """Refuse a name that no network has: prefixes are searched in names."""
    if len(name) > MOST_NAME or name.count(".") > MOST_DOTS:
        raise RefusedError(
            f"a tensor has a name of {len(name):,} letters and {name.count('.'):,} "
            f"dots, of at most {MOST_NAME} and {MOST_DOTS}."
        )


def _read_found(found: TorchFile) -> list[tuple[Keys, torch.Tensor]]:
    """Read the numbers of all tensors under names."""
    if not isinstance(found.content, Mapping):
        return []
    tensors: list[tuple[Keys, torch.Tensor]] = []
    for keys, value in _walk(found.content):
        _check_name(".".join(keys))
        if isinstance(value, UnusableTensor):
            raise RefusedError(
                f"{'.'.join(keys)} is {value.kind}. Save ordinary tensors, as the "
                "network had them before."
            )
        if len(tensors) == MOST_TENSORS:
            raise RefusedError(f"it has more than {MOST_TENSORS:,} tensors.")
        tensors.append((keys, found.read_tensor(value)))
    return tensors


def _walk(content: Any) -> Iterator[tuple[Keys, StoredTensor | UnusableTensor]]:
    """Yield every tensor, with the keys that lead to it, in the order of the file."""
    n_entries = 0
    inside: list[tuple[Keys, Iterator[tuple[str, Any]]]] = [((), iter(content.items()))]
    while inside:
        before, items = inside[-1]
        for key, value in items:
            n_entries += 1
            keys = (*before, key)
            if n_entries > MOST_ENTRIES:
                raise RefusedError(f"it has more than {MOST_ENTRIES:,} entries.")
            if isinstance(value, dict) and len(keys) <= MAX_NESTING:
                inside.append((keys, iter(value.items())))
                break
            if isinstance(value, (StoredTensor, UnusableTensor)):
                yield keys, value
        else:
            inside.pop()


def _name_kind(content: Any) -> str:
    """Name what a file holds, as torch would."""
    if isinstance(content, (StoredTensor, UnusableTensor)):
        return "Tensor"
    return type(content).__name__


def _tell_kind(path: Path, file: FileIO) -> str | None:
    """Tell what a file really is, if it is a well-known kind of wrong file."""
    file.seek(0)
    start = file.read(64) or b""
    is_safetensors = path.name.lower().endswith(".safetensors")
    if not start:
        return "it is empty."
    if start.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the weights; `git lfs pull` gets them."
    if start.lstrip().startswith(b"<"):
        return "it is a web page, not the weights; download the file itself."
    if start[8:9] == b"{" and not is_safetensors:
        return "its format is that of a .safetensors file; rename it."
    if start.startswith(b"PK") and is_safetensors:
        return "its format is that of a .pth file; rename it."
    return None


def _explain(error: Exception) -> str:
    """Return what an error says, if it was written to be read."""
    return str(error) if isinstance(error, RefusedError) else DAMAGED
