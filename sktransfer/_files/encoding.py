"""Python values as JSON, and back: a closed list of kinds, none of which is code.

What JSON has not is an object with the kind under `KIND`. Numbers of arrays are put
beside the text, as arrays of bytes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np

KIND, VALUE = "$", "v"
MOST_NESTING = 32

# Kinds of numpy's dtypes whose numbers are bytes: no pointers, no structures.
PLAIN_KINDS = "?biufcSUMm"
LARGEST_CHARACTER = 0x10FFFF


class EncodingError(ValueError):
    """A value of a kind that is not on the list, or a text that is no such value."""


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

    def encode(self, value: Any, depth: int = 0) -> Any:
        """Return a value as JSON has it.

        Raises
        ------
        EncodingError
            If it is, or holds, an object of a kind that is not on the list.
        """
        if depth > MOST_NESTING:
            raise EncodingError("it is nested too deeply")
        for kind, codec in self.codecs.items():
            if codec.is_one(value):
                return _tag(kind, self.encode(codec.pack(value), depth + 1))
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
        kind = "array" if isinstance(value, np.ndarray) else "scalar"
        if type(value) is not np.ndarray and kind == "array":
            raise EncodingError(f"numpy.{type(value).__name__}")
        if value.dtype.kind in PLAIN_KINDS and value.dtype.fields is None:
            contiguous = np.ascontiguousarray(value)
            content = np.frombuffer(contiguous.tobytes(), np.uint8)
            self.arrays.append(content)
            place = len(self.arrays) - 1
            return _tag(kind, [value.dtype.str, list(value.shape), place])
        if value.dtype.kind in "OT" and kind == "array":
            items = [self.encode(item, depth + 1) for item in value.ravel().tolist()]
            return _tag("objects", [value.dtype.kind == "T", list(value.shape), items])
        raise EncodingError(f"numpy.{value.dtype!r}")


class Decoder:
    """Decodes what :class:`Encoder` made.

    Parameters
    ----------
    codecs : mapping of str to Codec
        As in encoding.

    arrays : sequence of bytes-like
        The bytes of the arrays.
    """

    def __init__(self, codecs: Codecs, arrays: list[bytearray]) -> None:
        self.codecs, self.arrays = codecs, arrays

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
            pairs = [(self.decode(k, depth + 1), v) for k, v in value]
            found = {key: self.decode(some, depth + 1) for key, some in pairs}
            if len(found) < len(pairs):
                raise EncodingError("a mapping has one key twice")
            return found
        if kind == "bytes":
            return bytes.fromhex(value)
        if kind == "path":
            return Path(value)
        if kind == "array":
            return self._decode_array(*value)
        if kind == "scalar":
            return self._decode_array(*value)[()]
        if kind == "objects":
            are_strings, shape, items = value
            return self._decode_objects(are_strings, shape, items, depth)
        raise EncodingError(f"a value of the unknown kind {kind[:40]!r}")

    def _decode_array(self, name: str, shape: list[int], place: int) -> np.ndarray:
        """Decode numbers or texts of a fixed length."""
        dtype = np.dtype(name)
        if dtype.kind not in PLAIN_KINDS or dtype.fields or dtype.subdtype:
            raise EncodingError(f"an array of {dtype}")
        if type(place) is not int or not 0 <= place < len(self.arrays):
            raise EncodingError("an array that is not there")
        _check_shape(shape)
        content = self.arrays[place]
        if math.prod(shape) * dtype.itemsize != len(content):
            raise EncodingError("an array with a shape of other than its bytes")
        if not dtype.itemsize:
            return np.zeros(shape, dtype)
        array = np.frombuffer(bytes(content), dtype).reshape(shape).copy()
        _check_codes(array)
        return array

    def _decode_objects(
        self, are_strings: bool, shape: list[int], items: list[Any], depth: int
    ) -> np.ndarray:
        """Decode an array of Python objects, or of strings of any length."""
        _check_shape(shape)
        if math.prod(shape) != len(items):
            raise EncodingError("an array with a shape of other than its items")
        array = np.empty(len(items), object)
        for i, item in enumerate(items):
            array[i] = self.decode(item, depth + 1)
        array = array.reshape(shape)
        return array.astype(np.dtypes.StringDType()) if are_strings else array


def _tag(kind: str, value: Any) -> dict[str, Any]:
    return {KIND: kind, VALUE: value}


def _check_shape(shape: Any) -> None:
    if len(shape) > MOST_NESTING or any(type(n) is not int or n < 0 for n in shape):
        raise EncodingError("an array of an impossible shape")


def _check_codes(array: np.ndarray) -> None:
    """Raise an EncodingError if bytes stand for no text, or for no truth value."""
    if array.dtype.kind == "U" and array.size:
        codes = np.ascontiguousarray(array).view(f"{array.dtype.str[0]}u4")
        if codes.max() > LARGEST_CHARACTER:
            raise EncodingError("a text with impossible characters")
    if array.dtype.kind == "b" and array.size and array.view(np.uint8).max() > 1:
        raise EncodingError("truth values that are neither 0 nor 1")
