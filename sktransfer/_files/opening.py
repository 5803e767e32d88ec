"""Opening a file that somebody else may have put there."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from io import FileIO

HASHED_AT_A_TIME = 2**20


class NotAFileError(OSError):
    """A folder, a pipe or a device, where a file is expected."""


def open_regular(path: str | os.PathLike[str]) -> FileIO:
    """Open a file for reading, unbuffered, and nothing that is not a file.

    A pipe would wait for somebody to write into it, and a device never ends.

    Parameters
    ----------
    path : str or path-like
        Links are followed.

    Returns
    -------
    FileIO
        To be closed by the caller; its size is ``os.fstat(file.fileno()).st_size``.

    Raises
    ------
    NotAFileError
        If it is a folder, a pipe, a socket or a device.
    OSError
        If it cannot be opened.
    """
    # Windows has neither of the two; opening does not wait there.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(path, flags | getattr(os, "O_CLOEXEC", 0))
    except OSError as error:
        # What Linux says of a socket, and Windows of a folder.
        if error.errno == errno.ENXIO or os.path.isdir(path):
            raise refuse(path) from None
        raise
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise refuse(path)
    return FileIO(descriptor, "rb")


def refuse(path: str | os.PathLike[str]) -> NotAFileError:
    """Make the error that says what is in the place of a file."""
    kind = "this is a folder" if os.path.isdir(path) else "this is not a regular file"
    return NotAFileError(errno.EINVAL, kind, os.fspath(path))


def hash_file(file: FileIO) -> str:
    """Compute the SHA-256 of a whole open file, as hexadecimal digits.

    Afterwards the file is at its beginning.
    """
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(HASHED_AT_A_TIME):
        digest.update(chunk)
    file.seek(0)
    return digest.hexdigest()
