"""Files of ``torch.save``, in both of its formats, read without running code.

Their pickle says of each tensor where its numbers are. Only the numbers of tensors that
are asked for are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from io import FileIO
from typing import Any, NamedTuple

import torch

from sktransfer._networks.weights.parts import (
    DAMAGED,
    Part,
    RefusedError,
    find_data,
    list_entries,
    read_numbers,
    read_part,
)
from sktransfer._networks.weights.pickles import Call, read_pickle

# Bytes; a checkpoint of 20,000 tensors takes 4 million.
MOST_PICKLE = 2**25

MOST_DIMENSIONS = 16

# What the older format begins with.
MAGIC, PROTOCOL = 0x1950A86A20F9469CFC6C, 1001

STORAGES = {
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "BFloat16": torch.bfloat16,
    "Long": torch.int64,
    "Int": torch.int32,
    "Short": torch.int16,
    "Char": torch.int8,
    "Byte": torch.uint8,
    "Bool": torch.bool,
    "ComplexFloat": torch.complex64,
    "ComplexDouble": torch.complex128,
}
QUANTIZED = {
    "QInt8": torch.qint8,
    "QInt32": torch.qint32,
    "QUInt8": torch.quint8,
    "QUInt4x2": torch.quint4x2,
    "QUInt2x4": torch.quint2x4,
}
DTYPES = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        *("float64", "float32", "float16", "bfloat16", "complex64", "complex128"),
        *("int64", "int32", "int16", "int8", "bool"),
        *("uint64", "uint32", "uint16", "uint8"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz"),
        *(str(dtype).removeprefix("torch.") for dtype in QUANTIZED.values()),
    )
}


class Storage(NamedTuple):
    """Where tensors have their numbers: under a key, from one number to another."""

    key: str
    dtype: torch.dtype
    start: int
    size: int


class StoredTensor(NamedTuple):
    """A tensor of a file, and which numbers of a storage it has."""

    key: str
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def find_end(self) -> int:
        """Return how many numbers the storage must have."""
        if not math.prod(self.shape):
            return 0
        steps = zip(self.shape, self.strides, strict=True)
        return self.offset + 1 + sum((n - 1) * stride for n, stride in steps)


class UnusableTensor(NamedTuple):
    """A tensor that no backbone can have, and what it is."""

    kind: str


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
    found.content, _ = read_pickle(read_part(file, part), 0, NAMES, _find_storage)
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

    def find_storage(identity: Any) -> Storage:
        storage = _find_storage(identity)
        storages.setdefault(storage.key, storage)
        return storage

    magic, position = read_pickle(start, 0, NAMES, find_storage)
    protocol, position = read_pickle(start, position, NAMES, find_storage)
    if (magic, protocol) != (MAGIC, PROTOCOL):
        raise RefusedError(DAMAGED)
    _, position = read_pickle(start, position, NAMES, find_storage)
    content, position = read_pickle(start, position, NAMES, find_storage)
    keys, position = read_pickle(start, position, NAMES, find_storage)
    parts: dict[str, Part] = {}
    for key in keys:
        n_numbers = int.from_bytes(read_part(file, Part(position, 8)), "little")
        parts[key] = Part(position + 8, n_numbers * storages[key].dtype.itemsize)
        position += 8 + parts[key].size
        if position > size:
            raise RefusedError("it ends too early; it is damaged.")
    return TorchFile(file, size, content, parts.__getitem__)


def _find_storage(identity: Any) -> Storage:
    """Return the storage that a persistent id stands for."""
    word, dtype, key, _, size, *view = identity
    if word != "storage" or not isinstance(dtype, torch.dtype) or type(key) is not str:
        raise RefusedError(DAMAGED)
    start = 0
    if view and view[0] is not None:
        _, start, size = view[0]
    return Storage(key, dtype, *_check_sizes((start, size)))


def _check_sizes(sizes: Any) -> tuple[int, ...]:
    """Return sizes, which are integers that torch can take, or raise an error."""
    if not isinstance(sizes, tuple) or len(sizes) > MOST_DIMENSIONS:
        raise RefusedError("a tensor in it has no valid shape.")
    if not all(type(n) is int and 0 <= n < 2**62 for n in sizes):
        raise RefusedError("a tensor in it has no valid shape.")
    return sizes


def _make_tensor(
    storage: Storage,
    offset: int,
    shape: Any,
    strides: Any,
    _requires_grad: Any = None,
    _hooks: Any = None,
    *more: Any,
) -> StoredTensor | UnusableTensor:
    """Describe a tensor by its storage and the numbers it has of it."""
    dtype = storage.dtype
    # Newer types of numbers have no storage of their own.
    if more and isinstance(more[0], torch.dtype):
        dtype, *more = more  # type: ignore[assignment]
    if more and more[0]:
        return UnusableTensor("a conjugate or negative view")
    if dtype in QUANTIZED.values():
        return UnusableTensor("a quantized tensor")
    (offset,) = _check_sizes((offset,))
    shape, strides = _check_sizes(shape), _check_sizes(strides)
    stored = StoredTensor(storage.key, dtype, offset, shape, strides)
    if stored.find_end() * dtype.itemsize > storage.size * storage.dtype.itemsize:
        raise RefusedError(
            f"a tensor of shape {shape} claims more numbers than there are."
        )
    return stored._replace(offset=storage.start + offset)


def _rebuild_from_type(function: Any, kind: Any, arguments: Any, _state: Any) -> Any:
    """Describe a tensor with attributes; other classes than torch's have their own."""
    if kind not in ("Tensor", "Parameter"):
        return UnusableTensor("of a class of its own")
    return function.function(*arguments)


def _nothing(*_: Any) -> None:
    """Stand for what is no tensor."""


def _first(thing: Any = None, *_: Any) -> Any:
    """Return what a call is about, without what it would add."""
    return thing


def _unusable(kind: str) -> Call:
    return Call(lambda *_: UnusableTensor(kind))


def _make_dict(pairs: Any = ()) -> dict[str, Any]:
    """Make an ordered dict; Python 2 wrote its items as a list of pairs."""
    made = {key: value for key, value in pairs if type(key) is str}
    # A list that is passed a thousand times would be copied as often.
    if pairs:
        pairs.clear()
    return made


# What torch allows itself to find, but for classes of tensors.
NAMES: dict[str, Any] = {
    **DTYPES,
    **{f"torch.{name}Storage": dtype for name, dtype in STORAGES.items()},
    **{f"torch.{name}Storage": dtype for name, dtype in QUANTIZED.items()},
    "torch.storage.UntypedStorage": torch.uint8,
    "torch.UntypedStorage": torch.uint8,
    "collections.OrderedDict": Call(_make_dict),
    "collections.Counter": Call(_first),
    "torch.Size": Call(_first),
    "torch.device": Call(_nothing),
    "torch.serialization._get_layout": Call(_nothing),
    "_codecs.encode": Call(_nothing),
    "builtins.bytearray": Call(_nothing),
    "builtins.set": Call(_nothing),
    "builtins.complex": Call(_nothing),
    # Training scripts often add their options: plain names and values.
    "argparse.Namespace": Call(_nothing),
    **{
        f"torch.per_{kind}": None
        for kind in (
            "tensor_affine",
            "tensor_symmetric",
            "channel_affine",
            "channel_symmetric",
            "channel_affine_float_qparams",
        )
    },
    "torch.Tensor": "Tensor",
    "torch._tensor.Tensor": "Tensor",
    "torch.nn.parameter.Parameter": "Parameter",
    "torch._utils._rebuild_tensor": Call(_make_tensor),
    "torch._utils._rebuild_tensor_v2": Call(_make_tensor),
    "torch._utils._rebuild_tensor_v3": Call(_make_tensor),
    "torch._utils._rebuild_parameter": Call(_first),
    "torch._utils._rebuild_parameter_with_state": Call(_first),
    "torch._tensor._rebuild_from_type_v2": Call(_rebuild_from_type),
    "torch._utils._rebuild_qtensor": _unusable("a quantized tensor"),
    "torch._utils._rebuild_sparse_tensor": _unusable("a sparse tensor"),
    "torch._utils._rebuild_meta_tensor_no_storage": _unusable(
        "a tensor without numbers"
    ),
    "torch._utils._rebuild_nested_tensor": _unusable("a nested tensor"),
    "torch._utils._rebuild_wrapper_subclass": _unusable("of a class of its own"),
    "torch._utils._rebuild_device_tensor_from_numpy": _unusable(
        "a tensor of another device"
    ),
    "torch._utils._rebuild_device_tensor_from_cpu_tensor": _unusable(
        "a tensor of another device"
    ),
}
