"""Who computes what: locks on keys that processes share and that die with them."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sktransfer._activations.storage.ownership import share_as

# Not filelock or portalocker: they lock whole files, and this is one file for all
# keys, in which a key's lock is a single byte that need not exist.
if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int, key: bytes) -> None:
        """Lock a key's byte, or raise; only one thread at a time may call this."""
        os.lseek(descriptor, _offset(key), os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

    def _unlock(descriptor: int, key: bytes) -> None:
        os.lseek(descriptor, _offset(key), os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)

    def _offset(key: bytes) -> int:
        # Microsoft promises locks beyond the end of a file, but no range of positions:
        # 31 bits fit everywhere. Keys that share a byte only wait for each other.
        return int.from_bytes(key[:4], "big") >> 1

else:
    import fcntl

    def _lock(descriptor: int, key: bytes) -> None:
        """Lock a key's byte, or raise."""
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))

    def _unlock(descriptor: int, key: bytes) -> None:
        fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, _offset(key))

    def _offset(key: bytes) -> int:
        # 7 bytes are the most that fit into a signed offset.
        return int.from_bytes(key[:7], "big")


def _open_lock_file(path: Path) -> int:
    """Open the lock file; an OSError if it is a link, a pipe or a device."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    # A pipe or a device might wait to be opened; Windows has none of these flags.
    flags |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
    descriptor = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "this is not a regular file", str(path))
    share_as(path.parent, path, 0o660)
    return descriptor


class Leases:
    """Locks on keys, by byte ranges of one file.

    The system frees the locks of a process that dies. Threads of one process may all
    get the same key. Where the file system has no locks, every key is granted.

    Parameters
    ----------
    path : Path
        The lock file; made when it is first needed, never deleted.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        # Kept open: closing any descriptor of the file would free all its locks.
        self.descriptor: int | None = None

    def take(self, key: bytes) -> bool:
        """Lock a key, unless another process has; True where there are no locks."""
        try:
            if self.descriptor is None:
                self.descriptor = _open_lock_file(self.path)
            _lock(self.descriptor, key)
        except (BlockingIOError, PermissionError):
            # Two words for "taken"; a file that cannot be opened has no holder.
            return self.descriptor is None
        except OSError:
            return True
        return True

    def give_back(self, keys: Sequence[bytes]) -> None:
        """Unlock keys."""
        if self.descriptor is None:
            return
        for key in keys:
            with suppress(OSError):  # on Windows, a key that was granted without a lock
                _unlock(self.descriptor, key)
