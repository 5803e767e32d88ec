"""A safetensors file in parts; the same content gives the same bytes.

The library writes metadata in an order of chance, and needs the whole file in memory.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from sktransfer._files.headers import ITEM_BYTES, LENGTH_BYTES

# Tensors begin at multiples of this, for those who map a file into memory.
ALIGNMENT = 8


class Packed(NamedTuple):
    """A tensor as a file has it.

    Attributes
    ----------
    dtype : str
        One of `ITEM_BYTES`.

    shape : tuple of int
        Of the tensor.

    content : memoryview
        Its bytes.
    """

    dtype: str
    shape: tuple[int, ...]
    content: memoryview


def pack(
    metadata: Mapping[str, str], tensors: Mapping[str, Packed]
) -> tuple[bytes, list[memoryview]]:
    """Return the beginning of a file, and the bytes that follow it.

    Parameters
    ----------
    metadata : mapping of str to str
        Any texts.

    tensors : mapping of str to Packed
        By name; wide numbers will come first, as with the library, then names in order.

    Returns
    -------
    header : bytes
        With its length.

    contents : list of memoryview
        Of the tensors that have any.
    """
    names = sorted(tensors, key=lambda name: (-ITEM_BYTES[tensors[name].dtype], name))
    entries: dict[str, Any] = {"__metadata__": dict(sorted(metadata.items()))}
    at = 0
    for name in names:
        dtype, shape, content = tensors[name]
        offsets = [at, at + content.nbytes]
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        at += content.nbytes
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    length = len(text).to_bytes(LENGTH_BYTES, "little")
    contents = (tensors[name].content for name in names)
    return length + text, [content for content in contents if content.nbytes]
