"""Locks on single bytes of a file, which the system frees when their process dies."""

from __future__ import annotations

import errno
import os
import stat
import sys
from pathlib import Path

# Not filelock or portalocker: they lock whole files. A byte need not exist to be
# locked, so that one file has room for many locks.
if sys.platform == "win32":
    import msvcrt

    def lock_byte(descriptor: int, position: int) -> None:
        """Lock a byte, or raise; only one thread at a time may call this."""
        os.lseek(descriptor, position, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def unlock_byte(descriptor: int, position: int) -> None:
        """Unlock a byte that this process has locked, or raise."""
        os.lseek(descriptor, position, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

else:
    import fcntl

    def lock_byte(descriptor: int, position: int) -> None:
        """Lock a byte, or raise."""
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, position)

    def unlock_byte(descriptor: int, position: int) -> None:
        """Unlock a byte that this process has locked, or raise."""
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, position)


# What locking a byte raises that another process has locked: systems differ.
TAKEN = (BlockingIOError, PermissionError)


def open_lock_file(path: Path) -> int:
    """Open a lock file, which is made if need be.

    Closing any descriptor of the file would free all locks that this process has on it.

    Parameters
    ----------
    path : Path
        The file, in a folder that exists.

    Returns
    -------
    int
        A descriptor.

    Raises
    ------
    OSError
        If it cannot be opened, or is a link, a pipe or a device.
    """
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    # A pipe or a device might wait to be opened; Windows has none of these flags.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is not a regular file", str(path))
    return descriptor
