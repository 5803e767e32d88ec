"""Parts of an open weight file: bytes, numbers, and the entries of an archive."""

from __future__ import annotations

import struct
import sys
import zlib
from io import FileIO
from typing import NamedTuple
from zipfile import ZIP_STORED, ZipFile

import torch

from sktransfer._files.headers import HeaderError, read_exactly

# Bytes of the directory of an archive: some 50,000 entries.
MOST_DIRECTORY = 2**22

# What stands before the name of an entry, and its last two numbers: the lengths of the
# name and of what follows it.
LOCAL_HEADER = struct.Struct("<4s22xHH")


DAMAGED = "it is damaged, or torch did not write it."


class RefusedError(ValueError):
    """A file is not read; the text says why, as the end of a sentence."""


class Part(NamedTuple):
    """Where some bytes of a file are, and their CRC-32 if it is known."""

    start: int
    size: int
    crc: int | None = None


def read_part(file: FileIO, part: Part) -> bytearray:
    """Read some bytes of a file.

    Raises
    ------
    RefusedError
        If the file ends earlier, or the bytes have another checksum.
    """
    file.seek(part.start)
    try:
        content = read_exactly(file, part.size)
    except HeaderError:
        raise RefusedError("it ends too early; it is damaged.") from None
    if part.crc is not None and zlib.crc32(content) != part.crc:
        raise RefusedError("it is damaged: a part of it does not match its checksum.")
    return content


def read_numbers(
    file: FileIO, part: Part, dtype: torch.dtype, byte_order: str = "little"
) -> torch.Tensor:
    """Read the numbers in a part of a file, as a flat tensor."""
    if part.size < dtype.itemsize:
        return torch.empty(0, dtype=dtype)
    count = part.size // dtype.itemsize
    numbers = torch.frombuffer(read_part(file, part), dtype=dtype, count=count)
    if byte_order != sys.byteorder:
        numbers.untyped_storage().byteswap(dtype)  # type: ignore[no-untyped-call]
    return numbers


class _Bounded:
    """An open file of which no more than a directory is read at a time."""

    def __init__(self, file: FileIO) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes; all of them may be no more than a directory."""
        if size > MOST_DIRECTORY:
            raise RefusedError(
                f"its directory has {size:,} bytes, of at most {MOST_DIRECTORY:,}."
            )
        return self.file.read(size if size >= 0 else MOST_DIRECTORY) or b""


def list_entries(file: FileIO, size: int) -> dict[str, Part]:
    """List the entries of a zip archive, as torch writes it: nothing is compressed.

    Parameters
    ----------
    file : FileIO
        The archive.

    size : int
        Its size in bytes.

    Returns
    -------
    dict of str to Part
        `start` is that of the header of an entry: see :func:`read_entry`.

    Raises
    ------
    RefusedError
        If an entry is compressed or encrypted, a name is there twice, or all together
        are larger than the file.
    """
    entries: dict[str, Part] = {}
    with ZipFile(_Bounded(file)) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise RefusedError(
                "beside tensors it holds a TorchScript program, and reading that would "
                "run code. Load the file once where it was trained, and save the "
                "state_dict() only."
            )
        for info in archive.infolist():
            if info.compress_type != ZIP_STORED or info.file_size != info.compress_size:
                raise RefusedError(
                    "it is compressed, which torch never does; unpack it."
                )
            if info.flag_bits & 1:
                raise RefusedError("it is encrypted.")
            if info.filename in entries:
                raise RefusedError(
                    f"it holds two entries named {info.filename[:99]!r}."
                )
            # torch.serialization.set_crc32_options(False) writes 0.
            crc = info.CRC or None
            entries[info.filename] = Part(info.header_offset, info.file_size, crc)
    claimed = sum(entry.size for entry in entries.values())
    if claimed > size:
        raise RefusedError(f"it claims {claimed:,} bytes, but has {size:,}.")
    return entries


def find_data(file: FileIO, entry: Part) -> Part:
    """Find the bytes of an entry, which follow its header."""
    header = bytes(read_part(file, Part(entry.start, LOCAL_HEADER.size)))
    magic, n_name, n_extra = LOCAL_HEADER.unpack(header)
    if magic != b"PK\3\4":
        raise RefusedError("it is damaged: an entry is not where it should be.")
    return entry._replace(start=entry.start + LOCAL_HEADER.size + n_name + n_extra)
