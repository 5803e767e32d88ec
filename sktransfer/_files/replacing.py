"""Replacing a file: the old one stays until the new one is whole and on the disk."""

from __future__ import annotations

import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from sktransfer._files.opening import refuse

# A temporary file of this age belongs to a process that died while writing.
ABANDONED_SECONDS = 3600


@contextmanager
def replace_file(path: Path) -> Iterator[FileIO]:
    """Open a new file for writing that takes the place of `path` after the block.

    It has another name in the same folder until then. If the block raises an error, or
    the process ends, `path` is what it was before.

    Parameters
    ----------
    path : Path
        Need not exist. If it is a link, the file that it points to is replaced. The new
        file can be read by those who could read the old one.

    Yields
    ------
    FileIO
        Unbuffered.

    Raises
    ------
    NotAFileError
        If a folder, a pipe or a device is there.
    OSError
        If the folder does not exist, or cannot be written to, or the disk is full.
    """
    path = Path(os.path.realpath(path))
    mode = _find_mode(path)
    sweep(path)
    temporary = path.with_name(f"{_begin(path)}{secrets.token_hex(8)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    try:
        descriptor = os.open(temporary, flags | getattr(os, "O_CLOEXEC", 0), 0o666)
        with FileIO(descriptor, "wb") as file:
            yield file
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        names_none = getattr(error, "filename", "") in (None, str(temporary))
        if isinstance(error, OSError) and error.errno is not None and names_none:
            # That of a full disk names no file, and nobody knows the temporary one.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
    _sync_folder(path.parent)


def _find_mode(path: Path) -> int | None:
    """Return the mode of a file; None if there is none, an error if it is no file."""
    try:
        found = path.stat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(found):
        raise refuse(path)
    return stat.S_IMODE(found)


def write_all(file: FileIO, parts: Iterable[bytes | memoryview]) -> None:
    """Write parts one after another; a full disk writes a part of one first."""
    for part in parts:
        rest = memoryview(part).cast("B")
        while len(rest):
            rest = rest[file.write(rest) :]


def sweep(path: Path) -> None:
    """Delete what processes left that died while they wrote this file."""
    with suppress(OSError):
        for left in path.parent.glob(f"{_escape(_begin(path))}*"):
            age = time.time() - left.stat().st_mtime
            if len(left.name) == len(_begin(path)) + 16 and age > ABANDONED_SECONDS:
                left.unlink()


def _begin(path: Path) -> str:
    """Return how the temporary names of a file begin."""
    return f".{path.name}.writing-"


def _escape(name: str) -> str:
    """Escape what has a meaning in patterns of names."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _sync_folder(folder: Path) -> None:
    """Make the new name last, where a folder can be synchronised."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
