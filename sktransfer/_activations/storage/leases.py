"""Who computes what: locks on keys that processes share and that die with them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from sktransfer._activations.storage.ownership import share_as
from sktransfer._processes.locks import TAKEN, lock_byte, open_lock_file, unlock_byte

# One file for all keys, in which a key's lock is a single byte.
if sys.platform == "win32":

    def _offset(key: bytes) -> int:
        # Microsoft promises locks beyond the end of a file, but no range of positions:
        # 31 bits fit everywhere. Keys that share a byte only wait for each other.
        return int.from_bytes(key[:4], "big") >> 1

else:

    def _offset(key: bytes) -> int:
        # 7 bytes are the most that fit into a signed offset.
        return int.from_bytes(key[:7], "big")


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
        self.descriptor: int | None = None

    def take(self, key: bytes) -> bool:
        """Lock a key, unless another process has; True where there are no locks."""
        try:
            if self.descriptor is None:
                self.descriptor = open_lock_file(self.path)
                share_as(self.path.parent, self.path, 0o660)
            lock_byte(self.descriptor, _offset(key))
        except TAKEN:
            # A file that cannot be opened has no holder.
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
                unlock_byte(self.descriptor, _offset(key))
