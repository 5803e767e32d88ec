"""The header of a safetensors file, parsed within bounds.

The header is parsed here rather than by the library, which maps the file and takes
whatever time and memory a header asks for. What it claims is compared with the size of
the file before anything is read by it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from io import FileIO
from typing import Any, NamedTuple

# Networks of a thousand layers need less. A header of this size is parsed in a tenth of
# a second.
MOST_HEADER_BYTES = 4 * 2**20
MOST_TENSORS = 20_000
MOST_DIMENSIONS = 32
LENGTH_BYTES = 8

# What there is to say of a tensor.
IN_ENTRY = ("dtype", "shape", "data_offsets")

# Every list and object of a text takes some fifty times the memory of its brackets. The
# tensors above need three each.
MOST_CONTAINERS, MOST_ITEMS = 70_000, 400_000

# torch counts numbers in 64 bits.
MOST_NUMBERS = 2**63 - 1

# Bytes of one number.
ITEM_BYTES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "U16": 2,
    "I16": 2,
    "F16": 2,
    "BF16": 2,
    "U32": 4,
    "I32": 4,
    "F32": 4,
    "U64": 8,
    "I64": 8,
    "F64": 8,
    "C64": 8,
}


class HeaderError(ValueError):
    """A header that no safetensors file has, or one beyond the bounds."""


class Entry(NamedTuple):
    """Where a tensor is, and in which form.

    Attributes
    ----------
    dtype : str
        One of `ITEM_BYTES`.

    shape : tuple of int
        Of the tensor.

    begin, n_bytes : int
        Its first byte in the file, and how many there are.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    n_bytes: int


class Header(NamedTuple):
    """What a file says of itself.

    Attributes
    ----------
    metadata : dict of str to str
        Whatever its writer added.

    tensors : dict of str to Entry
        In the order of their bytes. They fill the file without a gap.
    """

    metadata: dict[str, str]
    tensors: dict[str, Entry]


def read_header(
    file: FileIO,
    most_tensors: int = MOST_TENSORS,
    most_bytes: int = MOST_HEADER_BYTES,
) -> Header:
    """Read the header of an open safetensors file.

    Parameters
    ----------
    file : FileIO
        At any position.

    most_tensors : int, default=MOST_TENSORS
        More are refused.

    most_bytes : int, default=MOST_HEADER_BYTES
        A longer header is refused.

    Returns
    -------
    Header

    Raises
    ------
    HeaderError
        If the file is none, is cut off, or claims more than it holds.
    OSError
        If it cannot be read.
    """
    size = os.fstat(file.fileno()).st_size
    file.seek(0)
    length = int.from_bytes(file.read(LENGTH_BYTES), "little")
    first = LENGTH_BYTES + length
    if not length >= 2 or first > size:
        raise HeaderError("it is not a safetensors file, or is cut off")
    if length > most_bytes:
        raise HeaderError(
            f"its header takes {length:,} bytes, more than {most_bytes:,}"
        )
    content = parse_json(read_exactly(file, length))
    if not isinstance(content, dict):
        raise HeaderError("its header is not a JSON object")
    metadata = content.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not _are_texts(metadata):
        raise HeaderError("its metadata are not texts")
    if len(content) > most_tensors:
        raise HeaderError(
            f"it lists {len(content):,} tensors, more than {most_tensors:,}"
        )
    tensors = {name: _parse_entry(name, item) for name, item in content.items()}
    return Header(metadata, _place(tensors, first, size))


def parse_json(text: bytes | bytearray) -> Any:
    """Parse JSON strictly: no name twice, no NaN, no nesting without end.

    Raises
    ------
    HeaderError
        If it is not such JSON, or has more parts than a description needs.
    """
    # Those within texts count as well, since only a parser can tell.
    n_containers = text.count(b"[") + text.count(b"{")
    if n_containers > MOST_CONTAINERS or text.count(b",") > MOST_ITEMS:
        raise HeaderError("its JSON has too many parts")
    try:
        return json.loads(
            text.decode("utf-8"),
            object_pairs_hook=_refuse_twice,
            parse_constant=_refuse_constant,
        )
    except HeaderError:
        raise
    except RecursionError:
        raise HeaderError("its JSON is nested too deeply") from None
    except (ValueError, MemoryError) as error:
        raise HeaderError(f"its JSON cannot be read ({error})") from None


def read_exactly(file: FileIO, n_bytes: int) -> bytearray:
    """Read so many bytes.

    Raises
    ------
    HeaderError
        If there are fewer.
    """
    try:
        content = bytearray(n_bytes)
    except MemoryError:
        raise HeaderError(f"{n_bytes:,} bytes of it do not fit into memory") from None
    view, done = memoryview(content), 0
    while done < n_bytes:
        n_read = file.readinto(view[done:])
        if not n_read:
            raise HeaderError("it became shorter while it was read")
        done += n_read
    return content


def _refuse_twice(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise HeaderError("its JSON has one name twice")
    return found


def _refuse_constant(name: str) -> None:
    raise HeaderError(f"its JSON holds {name}")


def _are_texts(metadata: dict[str, Any]) -> bool:
    return all(isinstance(value, str) for value in metadata.values())


def _parse_entry(name: str, item: Any) -> Entry:
    """Check what a header says of one tensor; `begin` is counted from the first."""
    try:
        dtype, shape, offsets = (item[part] for part in IN_ENTRY)
        begin, end = offsets
        has_more = len(item) > len(IN_ENTRY)
    except (TypeError, ValueError, KeyError):
        has_more = True
    if has_more:
        raise HeaderError(f"its header says too little or too much of {name!r:.80}")
    if not isinstance(dtype, str) or dtype not in ITEM_BYTES:
        raise HeaderError(f"{name!r:.80} has numbers of an unknown kind")
    if not _are_counts(shape) or not _are_counts(offsets):
        raise HeaderError(f"{name!r:.80} has an impossible shape or place")
    if math.prod(n for n in shape if n) > MOST_NUMBERS:
        raise HeaderError(f"{name!r:.80} has an impossible shape")
    if math.prod(shape) * ITEM_BYTES[dtype] != end - begin:
        raise HeaderError(f"{name!r:.80} has a shape of other than its bytes")
    return Entry(dtype, tuple(shape), begin, end - begin)


def _are_counts(numbers: Any) -> bool:
    """Return whether this is a list of a few counts."""
    if not isinstance(numbers, list) or len(numbers) > MOST_DIMENSIONS:
        return False
    # A bool is an int, and would do as one.
    return all(type(n) is int and n >= 0 for n in numbers)


def _place(tensors: dict[str, Entry], first: int, size: int) -> dict[str, Entry]:
    """Order tensors by their bytes, which must fill the file from `first` on."""
    placed = {}
    at = 0
    for name, entry in sorted(tensors.items(), key=lambda item: item[1][2:]):
        if entry.begin != at:
            raise HeaderError("its tensors overlap, or leave gaps")
        placed[name] = entry._replace(begin=first + at)
        at += entry.n_bytes
    if first + at != size:
        raise HeaderError(
            f"it has {size:,} bytes, but its header describes {first + at:,}"
        )
    return placed
