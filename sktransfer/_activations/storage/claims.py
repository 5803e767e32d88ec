"""What the header of a file of rows claims, refused unless its bytes bear it out."""

from __future__ import annotations

import json
import math
from io import FileIO
from typing import Any, NamedTuple, NoReturn

# A header takes about 300 bytes here; a flipped bit may claim any number.
MOST_HEADER_BYTES = 100_000
# Files hold some hundred rows with keys of 16 bytes. What a file of somebody else's
# making holds is bounded all the same: before it is read, and however large it is.
MOST_ROWS = 2**16
MOST_KEY_BYTES = 64
MOST_ROW_BYTES = 2**28
MOST_DIMENSIONS = 8

# Bytes of a number in a row, by the name of its format.
ROW_FORMATS = {"F32": 4, "BF16": 2, "F16": 2}
CHECKSUM_BYTES = 8

PARTS = {"activations", "crc32", "keys"}


class DamagedError(Exception):
    """A file that is not what was written."""


class Claims(NamedTuple):
    """Where the parts of a file are.

    Attributes
    ----------
    format : str
        Number format of the rows, a key of `ROW_FORMATS`.

    shape : tuple of int
        Of all rows; the first entry is their number.

    begins : dict of str to int
        Where each part begins, in bytes from the start of the file.

    key_bytes : int
        Length of a key.
    """

    format: str
    shape: tuple[int, ...]
    begins: dict[str, int]
    key_bytes: int


def read_claims(file: FileIO, n_bytes: int) -> Claims:
    """Read the header of a file of `n_bytes`; DamagedError if it cannot be true."""
    length = int.from_bytes(read_exactly(file, 8), "little")
    if not 2 <= length <= min(MOST_HEADER_BYTES, n_bytes - 8):
        raise DamagedError(f"a header of {length} bytes")
    header = _parse(read_exactly(file, length))
    if header.keys() - {"__metadata__"} != PARTS:
        raise DamagedError("its header names other parts")
    formats, shapes, spans = {}, {}, {}
    for name in PARTS:
        formats[name], shapes[name], spans[name] = _check_entry(header[name])
    _check_tiling(list(spans.values()), n_bytes - 8 - length)
    n = _check_rows(formats["activations"], shapes["activations"])
    sizes = {name: last - first for name, (first, last) in spans.items()}
    key_bytes = sizes["keys"] // n
    agrees = (
        sizes["activations"]
        == math.prod(shapes["activations"]) * ROW_FORMATS[formats["activations"]]
        and formats["crc32"] == "I64"
        and shapes["crc32"] == [n]
        and sizes["crc32"] == CHECKSUM_BYTES * n
        and formats["keys"] == "U8"
        and 1 <= key_bytes <= MOST_KEY_BYTES
        and shapes["keys"] == [n * key_bytes]
        and sizes["keys"] == n * key_bytes
    )
    if not agrees:
        raise DamagedError("its header and length do not agree")
    begins = {name: 8 + length + first for name, (first, _) in spans.items()}
    return Claims(
        formats["activations"], tuple(shapes["activations"]), begins, key_bytes
    )


def read_exactly(file: FileIO, n_bytes: int) -> bytes:
    """Read so many bytes; DamagedError if the file ends before."""
    content: bytes = file.read(n_bytes) or b""
    if len(content) != n_bytes:
        raise DamagedError("it ends too early")
    return content


def _parse(content: bytes) -> dict[str, Any]:
    """Parse a header: an object, in which no name occurs twice."""
    try:
        header = json.loads(
            content.decode(), object_pairs_hook=_no_doubles, parse_constant=_refuse
        )
    except (ValueError, RecursionError) as error:
        raise DamagedError("its header cannot be read") from error
    if not isinstance(header, dict):
        raise DamagedError("its header is no object")
    return header


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    named = dict(pairs)
    if len(named) < len(pairs):
        raise ValueError("a name occurs twice")
    return named


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _check_entry(entry: Any) -> tuple[str, list[int], tuple[int, int]]:
    """Return format, shape and place of a part, if the entry has just these."""
    if not isinstance(entry, dict) or entry.keys() != {
        "dtype",
        "shape",
        "data_offsets",
    }:
        raise DamagedError("its header cannot be read")
    form, shape, place = entry["dtype"], entry["shape"], entry["data_offsets"]
    is_plain = (
        isinstance(form, str)
        and _are_sizes(shape)
        and len(shape) <= MOST_DIMENSIONS
        and _are_sizes(place)
        and len(place) == 2
        and place[0] <= place[1]
    )
    if not is_plain:
        raise DamagedError("its header cannot be read")
    return form, shape, (place[0], place[1])


def _are_sizes(values: Any) -> bool:
    """Return whether this is a list of integers from 0 on; True is not one."""
    return isinstance(values, list) and all(type(v) is int and v >= 0 for v in values)


def _check_tiling(spans: list[tuple[int, int]], n_bytes: int) -> None:
    """Raise unless the parts fill all bytes, without gaps, one after another."""
    at = 0
    for first, last in sorted(spans):
        if first != at:
            raise DamagedError("its parts leave a gap or overlap")
        at = last
    if at != n_bytes:
        raise DamagedError("its header and length do not agree")


def _check_rows(form: str, shape: list[int]) -> int:
    """Return the number of rows, if there are some and none is empty or too large."""
    n_dimensions_ok = bool(shape) and all(shape)
    if form not in ROW_FORMATS or not n_dimensions_ok or shape[0] > MOST_ROWS:
        raise DamagedError("rows that nothing here writes")
    if math.prod(shape[1:]) * ROW_FORMATS[form] > MOST_ROW_BYTES:
        raise DamagedError(f"a row of more than {MOST_ROW_BYTES} bytes")
    return shape[0]
