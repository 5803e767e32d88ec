"""Python values as JSON, and back: a closed list of kinds, none of which is code.

What JSON has not is an object with the kind under `KIND`. Numbers of arrays are put
beside the text, as arrays of bytes; those of a scalar are in the text.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

from sktransfer._files.arrays import (
    PLAIN_KINDS,
    check_shape,
    make_array,
)
from sktransfer._files.arrays import EncodingError as EncodingError

KIND, VALUE = "$", "v"
MOST_NESTING = 32

# Texts without characters, which arrays do not have.
EMPTY = {"<U0": np.str_, ">U0": np.str_, "|S0": np.bytes_}

# Of integers; Python neither writes nor reads much longer ones.
MOST_BITS = 4096

# A list that holds itself twice would have no end otherwise.
MOST_VALUES = 1_000_000

# Keys with one hash are compared with each other, and a file may hold nothing else.
MOST_COLLISIONS = 1_000


class Codec(NamedTuple):
    """How objects of one class, or a few known objects, become encodable values.

    Attributes
    ----------
    is_one : callable
        Whether a value is one.

    pack : callable
        Turns it into a value that can be encoded.

    unpack : callable
        The reverse; raises an error of any kind if that is impossible.
    """

    is_one: Callable[[Any], bool]
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]


Codecs = Mapping[str, Codec]


class Encoder:
    """Encodes values; collects the bytes of their arrays.

    Parameters
    ----------
    codecs : mapping of str to Codec
        Kinds of objects in addition to those below, by name.

    Attributes
    ----------
    arrays : list of ndarray of uint8
        The bytes of the arrays so far.
    """

    def __init__(self, codecs: Codecs) -> None:
        self.codecs = codecs
        self.arrays: list[np.ndarray] = []
        self._n_values = 0

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return a value as JSON has it.

        Raises
        ------
        EncodingError
            If it is, or holds, an object of a kind that is not on the list.
        """
        self._n_values += 1
        if depth > MOST_NESTING or self._n_values > MOST_VALUES:
            raise EncodingError("value that is nested so deeply, or is so large")
        for kind, codec in self.codecs.items():
            if codec.is_one(value):
                return _tag(kind, self.encode(codec.pack(value), depth + 1))
        if type(value) is int and value.bit_length() > MOST_BITS:
            raise EncodingError("integer of so many digits")
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else _tag("float", repr(value))
        if type(value) is list:
            return [self.encode(item, depth + 1) for item in value]
        if type(value) is tuple:
            return _tag("tuple", [self.encode(item, depth + 1) for item in value])
        if type(value) is dict:
            return self._encode_dict(value, depth)
        if type(value) is bytes:
            return _tag("bytes", value.hex())
        if isinstance(value, PurePath):
            return _tag("path", str(value))
        if isinstance(value, (np.ndarray, np.generic)):
            return self._encode_array(value, depth)
        found = type(value)
        raise EncodingError(f"{found.__module__}.{found.__qualname__}")

    def _encode_dict(self, value: dict[Any, Any], depth: int) -> Any:
        is_plain = all(type(name) is str for name in value) and KIND not in value
        if is_plain:
            return {name: self.encode(item, depth + 1) for name, item in value.items()}
        pairs = [
            [self.encode(key, depth + 1), self.encode(item, depth + 1)]
            for key, item in value.items()
        ]
        return _tag("dict", pairs)

    def _encode_array(self, value: Any, depth: int) -> Any:
        dtype, is_array = value.dtype, isinstance(value, np.ndarray)
        if is_array and type(value) is not np.ndarray:
            raise EncodingError(f"{type(value).__module__}.{type(value).__qualname__}")
        is_plain = dtype.kind in PLAIN_KINDS
        if is_plain and not is_array:
            return _tag("scalar", [dtype.str, value.tobytes().hex()])
        if is_plain and dtype.itemsize:
            self.arrays.append(np.frombuffer(value.tobytes(), np.uint8))
            place = len(self.arrays) - 1
            return _tag("array", [dtype.str, list(value.shape), place])
        # Missing strings would come back as other strings.
        are_strings = dtype.kind == "T" and not hasattr(dtype, "na_object")
        if is_array and (dtype.kind == "O" or are_strings):
            items = [self.encode(item, depth + 1) for item in value.ravel().tolist()]
            return _tag("objects", [are_strings, list(value.shape), items])
        raise EncodingError(f"numpy.{dtype!r}")


class Decoder:
    """Decodes what :class:`Encoder` made.

    Parameters
    ----------
    codecs : mapping of str to Codec
        As in encoding.

    arrays : list of bytearray
        The bytes of the arrays, each of which is used once at most.
    """

    def __init__(self, codecs: Codecs, arrays: list[bytearray]) -> None:
        self.codecs = codecs
        self._arrays: dict[Any, bytearray] = dict(enumerate(arrays))

    def decode(self, item: Any, depth: int = 0) -> Any:
        """Return the value of an item of JSON.

        Raises
        ------
        EncodingError
            If it is of no known kind.
        """
        if depth > MOST_NESTING:
            raise EncodingError("it is nested too deeply")
        if isinstance(item, list):
            return [self.decode(some, depth + 1) for some in item]
        if not isinstance(item, dict):
            return item
        if KIND not in item:
            return {name: self.decode(some, depth + 1) for name, some in item.items()}
        if set(item) != {KIND, VALUE} or not isinstance(item[KIND], str):
            raise EncodingError("a value of no known kind")
        kind, value = item[KIND], item[VALUE]
        try:
            return self._decode_kind(kind, value, depth)
        except EncodingError:
            raise
        except Exception as error:
            raise EncodingError(
                f"a value of kind {kind[:40]!r} cannot be read ({error})"
            ) from None

    def _decode_kind(self, kind: str, value: Any, depth: int) -> Any:
        if kind in self.codecs:
            return self.codecs[kind].unpack(self.decode(value, depth + 1))
        if kind == "float":
            return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[value]
        if kind == "tuple":
            return tuple(self.decode(some, depth + 1) for some in list(value))
        if kind == "dict":
            keys = [self.decode(key, depth + 1) for key, _ in value]
            _check_keys(keys)
            values = (self.decode(some, depth + 1) for _, some in value)
            return dict(zip(keys, values, strict=True))
        if kind == "bytes":
            return bytes.fromhex(value)
        if kind == "path":
            return Path(value)
        if kind == "array":
            return self._decode_array(*value)
        if kind == "scalar":
            name, digits = value
            if name in EMPTY:
                return EMPTY[name]()
            return make_array(name, [1], bytes.fromhex(digits))[0]
        if kind == "objects":
            are_strings, shape, items = value
            return self._decode_objects(are_strings, shape, items, depth)
        raise EncodingError(f"a value of the unknown kind {kind[:40]!r}")

    def _decode_array(self, name: Any, shape: Any, place: Any) -> np.ndarray:
        """Decode numbers or texts of a fixed length."""
        # Many arrays of the same bytes would fill the memory.
        if type(place) is not int or place not in self._arrays:
            raise EncodingError("an array that is not there, or is used twice")
        return make_array(name, shape, self._arrays.pop(place))

    def _decode_objects(
        self, are_strings: bool, shape: list[int], items: list[Any], depth: int
    ) -> np.ndarray:
        """Decode an array of Python objects, or of strings of any length."""
        check_shape(shape)
        if math.prod(shape) != len(items):
            raise EncodingError("an array with a shape of other than its items")
        array = np.empty(len(items), object)
        for i, item in enumerate(items):
            array[i] = self.decode(item, depth + 1)
        array = array.reshape(shape)
        return array.astype(np.dtypes.StringDType()) if are_strings else array


def _tag(kind: str, value: Any) -> dict[str, Any]:
    return {KIND: kind, VALUE: value}


def _check_keys(keys: list[Any]) -> None:
    """Raise an EncodingError if a mapping cannot have such keys, or not in no time."""
    if len({hash(key) for key in keys}) < len(keys) - MOST_COLLISIONS:
        raise EncodingError("a mapping with keys of the same hash")
    if len(set(keys)) < len(keys):
        raise EncodingError("a mapping has one key twice")
