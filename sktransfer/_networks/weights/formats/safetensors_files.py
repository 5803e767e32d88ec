"""Files of safetensors: a header that says what they hold, and numbers."""

from __future__ import annotations

import json
import math
import os
from io import FileIO
from typing import Any, NamedTuple

import torch

from sktransfer._networks.weights.formats.parts import (
    Part,
    RefusedError,
    read_numbers,
    read_part,
)

# Bytes; 20,000 tensors with names of 50 characters take 3 million.
MOST_HEADER = 2**22

MOST_TENSORS = 20_000
MOST_DIMENSIONS = 16

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "C64": torch.complex64,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U64": torch.uint64,
    "U32": torch.uint32,
    "U16": torch.uint16,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


class Entry(NamedTuple):
    """What a header says of a tensor, and where in the file its numbers are."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    part: Part


def read_safetensors(file: FileIO) -> dict[str, torch.Tensor]:
    """Read every tensor of a file of safetensors."""
    return {
        name: read_numbers(file, entry.part, entry.dtype).reshape(entry.shape)
        for name, entry in check_safetensors_header(file).items()
    }


def check_safetensors_header(file: FileIO) -> dict[str, Entry]:
    """Read the header of a file of safetensors; no numbers are read.

    Parameters
    ----------
    file : FileIO
        Open for reading.

    Returns
    -------
    dict of str to Entry
        In the order of the header. Together they have every byte after it, once.

    Raises
    ------
    RefusedError
        If the header is too large, or claims what is not there.
    """
    size = os.fstat(file.fileno()).st_size
    n_header = int.from_bytes(read_part(file, Part(0, 8)), "little")
    if n_header > size - 8:
        raise RefusedError("its header ends after the file; it is damaged.")
    if n_header > MOST_HEADER:
        raise RefusedError(
            f"its header has {n_header:,} bytes, of at most {MOST_HEADER:,}."
        )
    header = _parse(bytes(read_part(file, Part(8, n_header))))
    if len(header) > MOST_TENSORS:
        raise RefusedError(
            f"it has {len(header):,} tensors, of at most {MOST_TENSORS:,}."
        )
    entries = {
        name: _make_entry(name, entry, 8 + n_header) for name, entry in header.items()
    }
    position = 8 + n_header
    for part in sorted(entry.part for entry in entries.values()):
        if part.start != position:
            raise RefusedError("its tensors overlap, or bytes are between them.")
        position += part.size
    if position != size:
        raise RefusedError(f"it has {size:,} bytes, but claims {position:,}.")
    return entries


def _parse(content: bytes) -> dict[str, Any]:
    """Parse a header, without its metadata."""
    try:
        header = json.loads(content.decode(), object_pairs_hook=_make_dict)
    except RefusedError:
        raise
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise RefusedError("its header is damaged, or it is no file of safetensors.")
    header.pop("__metadata__", None)
    return header


def _make_dict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make a dict; what is there twice would be read differently by others."""
    made = dict(pairs)
    if len(made) != len(pairs):
        raise RefusedError("its header has a name twice.")
    return made


def _make_entry(name: str, entry: Any, start: int) -> Entry:
    """Check what a header says of a tensor."""
    wrong = RefusedError(f"its header is damaged: {name[:99]!r} has no valid entry.")
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise wrong
    kind, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not (_are_sizes(shape) and _are_sizes(offsets) and len(offsets) == 2):
        raise wrong
    if not isinstance(kind, str) or kind not in DTYPES:
        raise RefusedError(f"{name[:99]!r} holds numbers of type {str(kind)[:20]!r}.")
    dtype, (begin, end) = DTYPES[kind], offsets
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise RefusedError(
            f"{name[:99]!r} has shape {tuple(shape)}, but {end - begin:,} bytes."
        )
    return Entry(dtype, tuple(shape), Part(start + begin, end - begin))


def _are_sizes(values: Any) -> bool:
    """Return whether these are a few sizes."""
    if not isinstance(values, list) or len(values) > MOST_DIMENSIONS:
        return False
    return all(type(n) is int and 0 <= n < 2**62 for n in values)
