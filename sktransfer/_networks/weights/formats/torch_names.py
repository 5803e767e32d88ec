"""What the pickles of ``torch.save`` may name, and the tensors that they describe."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch

from sktransfer._networks.weights.formats.parts import DAMAGED, RefusedError
from sktransfer._networks.weights.formats.pickles import Call

MOST_DIMENSIONS = 16

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


def find_storage(identity: Any) -> Storage:
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
