"""Values as texts that are the same in every process, and differ if the values do."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Mapping
from enum import Enum
from pathlib import PurePath
from typing import Any

import numpy as np
import torch

from sktransfer._files.model_file import take_bytes

MOST_NESTING = 20

# A longer description is hashed.
MOST_CHARACTERS = 200


def describe(value: Any) -> str:
    """Describe a value; a TypeError names what has no description.

    Functions are described by their name, their code and what they have enclosed, and
    objects by their class and attributes. Functions that these call are not.
    """
    text = _describe(value, 0)
    if len(text) <= MOST_CHARACTERS:
        return text
    return f"{text[:50]}... {hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _describe(value: Any, depth: int) -> str:
    if depth > MOST_NESTING:
        raise TypeError("values nested without end")

    def go(part: Any) -> str:
        return _describe(part, depth + 1)

    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(
        value, (bool, int, float, complex, str, bytes, PurePath, Enum)
    ):
        return repr(value)
    if isinstance(value, (np.ndarray, torch.Tensor)):
        return _describe_numbers(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{go(k)}: {go(v)}' for k, v in value.items())}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}({', '.join(map(go, value))})"
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}({', '.join(sorted(map(go, value)))})"
    if isinstance(value, (torch.dtype, torch.device, types.BuiltinFunctionType)):
        return repr(value) if not callable(value) else _name(value)
    if isinstance(value, type):
        return _name(value)
    if isinstance(value, functools.partial):
        return f"partial({go(value.func)}, {go(value.args)}, {go(value.keywords)})"
    if isinstance(value, types.MethodType):
        return f"{go(value.__func__)} of {go(value.__self__)}"
    if isinstance(value, types.FunctionType):
        return _describe_function(value, depth)
    if isinstance(value, types.ModuleType):
        return value.__name__
    if hasattr(value, "__dict__"):
        return f"{_name(type(value))}({go(vars(value))})"
    text = repr(value)
    if " at 0x" in text:
        raise TypeError(f"a {_name(type(value))}")
    return text


def _name(value: Any) -> str:
    """Return the full name of a class or a function."""
    return f"{value.__module__}.{value.__qualname__}"


def _describe_numbers(value: Any) -> str:
    """Describe an array or a tensor by the hash of its numbers."""
    is_tensor = isinstance(value, torch.Tensor)
    content = take_bytes(value) if is_tensor else value.tobytes()
    digest = hashlib.sha256(content).hexdigest()[:16]
    return f"{value.dtype} {tuple(value.shape)} {digest}"


def _describe_function(value: types.FunctionType, depth: int) -> str:
    """Describe a function by its name, its code and what it has enclosed."""
    enclosed = [cell.cell_contents for cell in value.__closure__ or ()]
    parts = [enclosed, value.__defaults__, value.__kwdefaults__]
    rest = ", ".join(_describe(part, depth + 1) for part in parts)
    return f"{_name(value)}({_hash_code(value.__code__)}, {rest})"


def _hash_code(code: types.CodeType) -> str:
    """Hash the instructions of a function, its constants and the names in it."""
    digest = hashlib.sha256(code.co_code)
    digest.update(repr(code.co_names).encode())
    for constant in code.co_consts:
        is_code = isinstance(constant, types.CodeType)
        text = _hash_code(constant) if is_code else repr(constant)
        digest.update(text.encode())
    return digest.hexdigest()[:16]
