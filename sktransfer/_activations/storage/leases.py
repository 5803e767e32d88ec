"""Who computes what: locks on keys that processes share and that die with them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: processes may compute the same, none waits
    fcntl = None  # type: ignore[assignment]

# A key's lock is the byte at this number of the lock file; 7 bytes fit into an offset.
OFFSET_BYTES = 7


class Leases:
    """Locks on keys, by byte ranges of one file.

    The system frees the locks of a process that dies. Threads of one process do not
    exclude each other. Where the file system has no locks, all are granted.

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
        if fcntl is None:
            return True
        try:
            if self.descriptor is None:
                self.descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _offset(key))
        except (BlockingIOError, PermissionError):
            # Two words for "taken"; a file that cannot be opened has no holder.
            return self.descriptor is None
        except OSError:
            return True
        return True

    def give_back(self, keys: Sequence[bytes]) -> None:
        """Unlock keys."""
        if fcntl is None or self.descriptor is None:
            return
        for key in keys:
            try:
                fcntl.lockf(self.descriptor, fcntl.LOCK_UN, 1, _offset(key))
            except OSError:
                return


def _offset(key: bytes) -> int:
    return int.from_bytes(key[:OFFSET_BYTES], "big")
