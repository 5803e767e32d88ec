"""Files of ``torch.save``, in both of its formats, read without running code.

Their pickle says of each tensor where its numbers are. Only the numbers of tensors that
are asked for are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from io import FileIO
from typing import Any

import torch

from sktransfer._networks.weights.formats.parts import (
    DAMAGED,
    Part,
    RefusedError,
    find_data,
    list_entries,
    read_numbers,
    read_part,
)
from sktransfer._networks.weights.formats.pickles import read_pickle
from sktransfer._networks.weights.formats.torch_names import (
    NAMES,
    Storage,
    StoredTensor,
    find_storage,
)

# Bytes; a checkpoint of 20,000 tensors takes 4 million.
MOST_PICKLE = 2**25

# What the older format begins with.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


@dataclass
class TorchFile:
    """What a file holds: dicts, in which tensors are still to be read."""

    file: FileIO
    size: int
    content: Any = None
    find: Callable[[str], Part] = field(default=lambda key: Part(0, 0))
    byte_order: str = "little"
    # By key: tensors that share their numbers in the file do so afterwards.
    numbers: dict[str, torch.Tensor] = field(default_factory=dict)

    def read_tensor(self, stored: StoredTensor) -> torch.Tensor:
        """Read the numbers of a tensor."""
        if math.prod(stored.shape) * stored.dtype.itemsize > self.size:
            raise RefusedError(
                f"it has {self.size:,} bytes, but claims a tensor of shape "
                f"{stored.shape}."
            )
        if stored.key not in self.numbers:
            self.numbers[stored.key] = read_numbers(
                self.file, self.find(stored.key), stored.dtype, self.byte_order
            )
        numbers = self.numbers[stored.key]
        if numbers.dtype != stored.dtype:
            raw = numbers.view(torch.uint8)
            numbers = raw[: len(raw) - len(raw) % stored.dtype.itemsize]
            numbers = numbers.view(stored.dtype)
        if stored.find_end() > len(numbers):
            raise RefusedError(
                f"a tensor of shape {stored.shape} claims more numbers than there are."
            )
        return numbers.as_strided(stored.shape, stored.strides, stored.offset)


def read_torch(file: FileIO, size: int) -> TorchFile:
    """Read a file of ``torch.save``, except the numbers of its tensors.

    Parameters
    ----------
    file : FileIO
        The file.

    size : int
        Its size in bytes.

    Returns
    -------
    TorchFile

    Raises
    ------
    RefusedError
        If it claims more than it has, or holds objects that torch would have to make.
    Exception
        Of any other kind, if it is damaged.
    """
    start = bytes(read_part(file, Part(0, min(size, 4))))
    return _read_zip(file, size) if start == b"PK\3\4" else _read_legacy(file, size)


def _read_zip(file: FileIO, size: int) -> TorchFile:
    """Read the newer format: an archive with a pickle, and one entry per storage."""
    entries = list_entries(file, size)
    folder = next(iter(entries), "").partition("/")[0]

    def find(name: str) -> Part:
        if f"{folder}/{name}" not in entries:
            raise RefusedError(f"it is damaged: it has no entry {name[:99]!r}.")
        return find_data(file, entries[f"{folder}/{name}"])

    part = find("data.pkl")
    _check_pickle_size(part.size)
    found = TorchFile(file, size, find=lambda key: find(f"data/{key}"))
    if f"{folder}/byteorder" in entries:
        order = find("byteorder")._replace(size=len("little"), crc=None)
        is_big = read_part(file, order).startswith(b"big")
        found.byte_order = "big" if is_big else "little"
    found.content, _ = read_pickle(read_part(file, part), 0, NAMES, find_storage)
    return found


def _check_pickle_size(size: int) -> None:
    if size > MOST_PICKLE:
        raise RefusedError(
            f"its pickle has {size:,} bytes, of at most {MOST_PICKLE:,}; save the "
            "state_dict() only."
        )


def _read_legacy(file: FileIO, size: int) -> TorchFile:
    """Read the older format: pickles one after another, and then the storages."""
    start = read_part(file, Part(0, min(size, MOST_PICKLE)))
    storages: dict[str, Storage] = {}

    def note_storage(identity: Any) -> Storage:
        storage = find_storage(identity)
        storages.setdefault(storage.key, storage)
        return storage

    magic, position = read_pickle(start, 0, NAMES, note_storage)
    protocol, position = read_pickle(start, position, NAMES, note_storage)
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise RefusedError(DAMAGED)
    _, position = read_pickle(start, position, NAMES, note_storage)
    content, position = read_pickle(start, position, NAMES, note_storage)
    keys, position = read_pickle(start, position, NAMES, note_storage)
    parts: dict[str, Part] = {}
    for key in keys:
        n_numbers = int.from_bytes(read_part(file, Part(position, 8)), "little")
        parts[key] = Part(position + 8, n_numbers * storages[key].dtype.itemsize)
        position += 8 + parts[key].size
        if position > size:
            raise RefusedError("it ends too early; it is damaged.")
    return TorchFile(file, size, content, parts.__getitem__)
