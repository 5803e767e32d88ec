"""Weight files as they are found, read without running code."""

from __future__ import annotations

import argparse
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

ENDINGS = (".safetensors", ".pth", ".pt", ".pth.tar", ".ckpt", ".bin")
NO_ENDING = f"its name ends in none of {', '.join(ENDINGS)}; rename it."

# Checkpoints keep their weights at most so deep. A pickle can hold itself.
MAX_NESTING = 6

# torch keeps one list of allowed classes for all threads.
_allowing = threading.Lock()


def has_weight_ending(path: str | os.PathLike[str]) -> bool:
    """Return whether the name of a file says that it holds weights."""
    return os.fspath(path).lower().endswith(ENDINGS)


def read_state(path: Path) -> dict[str, torch.Tensor]:
    """Read every tensor of a weight file; nothing in it is executed.

    Parameters
    ----------
    path : Path
        With one of `ENDINGS`.

    Returns
    -------
    dict of str to tensor
        Named by the keys that lead to it, joined by dots: a tensor inside the entry
        ``"state_dict"`` begins with ``state_dict.``. What is no tensor is left out.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it does not hold tensors under names, or other objects than torch reads
        without running code.
    """
    called = f"weights={str(path)!r}"
    if not path.is_file():
        kind = "this is a folder" if path.is_dir() else "no such file"
        raise FileNotFoundError(f"{called}: {kind}.")
    if not has_weight_ending(path):
        raise ValueError(f"{called} cannot be read: {NO_ENDING}")
    try:
        content = _read_content(path)
    except Exception as error:
        raise ValueError(
            f"{called} could not be read as a state dict, as "
            "torch.save(net.state_dict(), 'weights.pth') writes one: "
            f"{_tell_kind(path) or _explain(error)}"
        ) from None
    state = dict(_flatten(content)) if isinstance(content, Mapping) else {}
    if not state:
        raise ValueError(
            f"{called} does not hold a state dict, but a {type(content).__name__} "
            "without named tensors."
        )
    return state


def _read_content(path: Path) -> Any:
    """Read a file by its ending."""
    if path.name.lower().endswith(".safetensors"):
        return load_file(path)
    # Training scripts often add their options, a Namespace: plain names and values.
    with _allowing, torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _flatten(
    content: Mapping[Any, Any], before: str = "", depth: int = 0
) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor under a name. Optimizers number theirs, which are left out."""
    for key, value in content.items():
        if not isinstance(key, str):
            continue
        if isinstance(value, torch.Tensor):
            yield f"{before}{key}", value
        elif isinstance(value, Mapping) and depth < MAX_NESTING:
            yield from _flatten(value, f"{before}{key}.", depth + 1)


def _tell_kind(path: Path) -> str | None:
    """Tell what a file really is, if it is a well-known kind of wrong file."""
    with path.open("rb") as file:
        start = file.read(64)
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
    """Say why torch refused a file, without its advice on options nobody has here."""
    message = str(error)
    refused = re.search(r"GLOBAL (\S+)", message)
    if refused or "TorchScript" in message:
        kind = refused[1] if refused else "a TorchScript program"
        return (
            f"beside tensors it holds {kind}, and reading that would run code. Load "
            "the file once where it was trained, and save the state_dict() only."
        )
    if "weights_only" in message or not message:
        return "it is damaged, or torch did not write it."
    first_line = message.partition("\n")[0][:200]
    return f"{type(error).__name__}, {first_line}"
