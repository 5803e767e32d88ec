"""Arrays of numpy, made of a dtype, a shape and bytes that may not fit together."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

# Kinds of dtypes whose numbers are bytes: no pointers, no structures.
PLAIN_KINDS = "biufcSUMm"

# How numpy itself spells them. It reads much else, some of it with a warning.
SPELLING = re.compile(rf"[<>|][{PLAIN_KINDS}][0-9]{{1,9}}(\[[0-9a-zA-Z]{{1,20}}\])?")

LARGEST_CHARACTER = 0x10FFFF

# numpy has no more.
MOST_DIMENSIONS = 32


class EncodingError(ValueError):
    """A value of a kind that is not on the list, or a text that is no such value."""


def make_array(name: Any, shape: Any, content: bytes | bytearray) -> np.ndarray:
    """Make an array with memory of its own; an EncodingError if that is impossible."""
    if not isinstance(name, str) or not SPELLING.fullmatch(name):
        raise EncodingError(f"an array of {name!r:.40}")
    dtype = np.dtype(name)
    check_shape(shape)
    if not dtype.itemsize or math.prod(shape) * dtype.itemsize != len(content):
        raise EncodingError("an array with a shape of other than its bytes")
    _check_codes(dtype, content)
    return np.frombuffer(content, dtype).reshape(shape).copy()


def check_shape(shape: Any) -> None:
    """Raise an EncodingError unless this is a shape that an array can have."""
    is_list = isinstance(shape, list) and len(shape) <= MOST_DIMENSIONS
    if not is_list or any(type(n) is not int or n < 0 for n in shape):
        raise EncodingError("an array of an impossible shape")


def _check_codes(dtype: np.dtype[Any], content: bytes | bytearray) -> None:
    """Raise an EncodingError if bytes stand for no text, or for no truth value."""
    if dtype.kind == "U" and content:
        codes = np.frombuffer(content, f"{dtype.str[0]}u4")
        if codes.max() > LARGEST_CHARACTER:
            raise EncodingError("a text with impossible characters")
    if dtype.kind == "b" and content and max(content) > 1:
        raise EncodingError("truth values that are neither 0 nor 1")
