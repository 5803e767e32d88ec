"""Activations in a file: a few rows, their keys and checksums, as safetensors.

The header is parsed here rather than by the library, which maps the file: if somebody
shortens a mapped file, the operating system ends the process. A file that is read only
gives fewer bytes.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import save

from sktransfer._activations.storage.claims import (
    CHECKSUM_BYTES,
    DamagedError,
    read_claims,
)
from sktransfer._files.headers import HeaderError, read_exactly
from sktransfer._files.opening import open_regular

DTYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


class Segment(NamedTuple):
    """What a file holds, and where.

    Attributes
    ----------
    keys : list of bytes
        One per row, all of one length.

    checksums : list of int
        CRC-32 of the key, the form and the bytes of each row.

    dtype : torch.dtype
        Of a row.

    shape : tuple of int
        Of a row.

    offset : int
        Where the first row begins, in bytes.
    """

    keys: list[bytes]
    checksums: list[int]
    dtype: torch.dtype
    shape: tuple[int, ...]
    offset: int

    @property
    def row_bytes(self) -> int:
        """Number of bytes of a row."""
        return math.prod(self.shape) * self.dtype.itemsize


def _checksum(
    key: bytes, dtype: torch.dtype, shape: Sequence[int], row: np.ndarray
) -> int:
    """Compute the CRC-32 of a row, of its key, and of the form in which it is read."""
    form = f"{dtype} {tuple(shape)}".encode()
    return zlib.crc32(row.data, zlib.crc32(form, zlib.crc32(key)))


def pack(keys: Sequence[bytes], rows: torch.Tensor) -> bytes:
    """Make the content of a file with these rows.

    Parameters
    ----------
    keys : sequence of bytes
        One per row, all of one length.

    rows : tensor of shape (n_rows, *activation)
        float32, bfloat16 or float16.
    """
    rows = rows.detach().cpu().contiguous()
    n = len(rows)
    flat = rows.view(n, -1).view(torch.uint8).numpy()
    checksums = [
        _checksum(key, rows.dtype, rows.shape[1:], row)
        for key, row in zip(keys, flat, strict=True)
    ]
    tensors = {
        "activations": rows,
        "crc32": torch.tensor(checksums, dtype=torch.int64),
        "keys": torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8),
    }
    content: bytes = save(tensors, {"format": "sktransfer activations"})
    return content


def read_segment(path: Path) -> Segment:
    """Read what a file claims to hold; its rows are checked when they are read.

    Raises
    ------
    DamagedError
        If it is not a whole file of :func:`pack`.
    OSError
        If it cannot be read, or is a pipe or a device.
    """
    with open_regular(path) as file:
        claims = read_claims(file)
        n, *shape = claims.shape
        try:
            file.seek(claims.begins["crc32"])
            checksums = read_exactly(file, CHECKSUM_BYTES * n)
            file.seek(claims.begins["keys"])
            keys = bytes(read_exactly(file, claims.key_bytes * n))
        except HeaderError as error:
            raise DamagedError(str(error)) from None
    return Segment(
        [keys[i : i + claims.key_bytes] for i in range(0, len(keys), claims.key_bytes)],
        np.frombuffer(checksums, "<i8").tolist(),
        DTYPES[claims.format],
        tuple(shape),
        claims.begins["activations"],
    )


def read_rows(
    path: Path, segment: Segment, numbers: Sequence[int]
) -> tuple[torch.Tensor, np.ndarray]:
    """Read some rows of a file.

    Parameters
    ----------
    path : Path
        The file.

    segment : Segment
        As :func:`read_segment` returned it.

    numbers : sequence of int
        Which rows.

    Returns
    -------
    rows : tensor of shape (n, *activation)

    is_right : ndarray of shape (n,), bool
        Whether each row matches its checksum; the others may hold anything.
    """
    flat = np.zeros((len(numbers), segment.row_bytes), np.uint8)
    is_right = np.zeros(len(numbers), bool)
    with open_regular(path) as file:
        for i, number in enumerate(numbers):
            file.seek(segment.offset + number * segment.row_bytes)
            n_read = file.readinto(flat[i].data)
            is_right[i] = n_read == segment.row_bytes and (
                _checksum(segment.keys[number], segment.dtype, segment.shape, flat[i])
                == segment.checksums[number]
            )
    rows = torch.from_numpy(flat).view(segment.dtype)
    return rows.reshape(len(numbers), *segment.shape), is_right
