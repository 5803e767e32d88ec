"""What the header of a file of rows claims, refused unless its bytes bear it out."""

from __future__ import annotations

import math
from io import FileIO
from typing import NamedTuple

from sktransfer._files.headers import Entry, HeaderError, read_header

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


def read_claims(file: FileIO) -> Claims:
    """Read the header of an open file; DamagedError if it cannot be true."""
    try:
        parts = read_header(file, len(PARTS), MOST_HEADER_BYTES).tensors
    except HeaderError as error:
        raise DamagedError(str(error)) from None
    if parts.keys() != PARTS:
        raise DamagedError("its header names other parts")
    rows, checksums, keys = (parts[name] for name in sorted(PARTS))
    n = _count_rows(rows)
    key_bytes = keys.n_bytes // n
    agrees = (
        (checksums.dtype, checksums.shape) == ("I64", (n,))
        and (keys.dtype, keys.shape) == ("U8", (n * key_bytes,))
        and 1 <= key_bytes <= MOST_KEY_BYTES
    )
    if not agrees:
        raise DamagedError("its parts are not of the same number of rows")
    begins = {name: entry.begin for name, entry in parts.items()}
    return Claims(rows.dtype, rows.shape, begins, key_bytes)


def _count_rows(rows: Entry) -> int:
    """Return the number of rows, if there are some and none is empty or too large."""
    has_all = 1 <= len(rows.shape) <= MOST_DIMENSIONS and all(rows.shape)
    if rows.dtype not in ROW_FORMATS or not has_all or rows.shape[0] > MOST_ROWS:
        raise DamagedError("rows that nothing here writes")
    if math.prod(rows.shape[1:]) * ROW_FORMATS[rows.dtype] > MOST_ROW_BYTES:
        raise DamagedError(f"a row of more than {MOST_ROW_BYTES} bytes")
    return rows.shape[0]
