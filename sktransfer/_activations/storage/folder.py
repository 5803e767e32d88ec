"""Activations in a folder, shared by processes and runs, within a size limit."""

from __future__ import annotations

import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch

from sktransfer._activations.storage.claims import MOST_ROW_BYTES, DamagedError
from sktransfer._activations.storage.identity import give_identity
from sktransfer._activations.storage.leases import Leases
from sktransfer._activations.storage.ownership import (
    check_trusted,
    is_real_file,
    is_real_folder,
    share_as,
)
from sktransfer._activations.storage.segments import (
    Segment,
    pack,
    read_rows,
    read_segment,
)
from sktransfer._files.opening import open_regular

# https://bford.info/cachedir/: backup programs skip a folder with such a file.
MARKER = "CACHEDIR.TAG"
MARK = (
    "Signature: 8a477f597d28d172789f06886806bc55\n"
    "# Activations kept by sktransfer. The folder may be deleted at any time.\n"
)
SUFFIX = ".safetensors"
TEMPORARY = ".writing-"
# A temporary file of this age belongs to a process that died while writing.
ABANDONED_SECONDS = 3600
SHARE_OF_FREE_DISK = 0.5

_AGAIN = "its activations are computed again"

Row = tuple[Path, int]


class Folder:
    """Rows of activations in immutable files, one sub-folder per namespace.

    Files are written under another name and then renamed, so that every process sees
    only whole ones. Each row has a checksum; a row that does not match it counts as
    absent. Only :meth:`prepare` raises errors: other failures of the disk warn once.
    Links inside the folder are not followed: what they point to is not of this class.

    Parameters
    ----------
    path : Path
        The folder.

    max_bytes : int or "auto"
        The most bytes that files may take. ``"auto"``: half of what is free or taken by
        these files.

    warn : callable
        Receives the text of a warning.
    """

    def __init__(
        self, path: Path, max_bytes: int | str, warn: Callable[[str], None]
    ) -> None:
        self.path, self.max_bytes = path, max_bytes
        self.leases = Leases(path / "leases")
        self.can_write = True
        self._warn = warn
        self._warned: set[str] = set()
        self._limit: int | None = None
        self._n_bytes = 0
        self._segments: dict[Path, Segment] = {}
        self._rows: dict[str, dict[bytes, Row]] = {}
        self._touched: set[Path] = set()

    def prepare(self) -> None:
        """Make the folder, or check that it is a folder of activations.

        Raises
        ------
        ValueError
            If the path is a file, or a folder that holds something else, belongs to
            another user or may be written to by everybody.
        """
        refuse_file("activation_cache", self.path)
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            shared = check_trusted("activation_cache", self.path)
            inside = [p for p in os.listdir(self.path) if not p.startswith(TEMPORARY)]
            if shared is not None:
                self._warn_once("shared", shared)
            if not inside:
                self._write(self.path / MARKER, MARK.encode())
        except OSError as error:
            self._give_up_writing(f"cannot be made or written to ({error})")
            return
        if inside and not self._is_ours():
            raise ValueError(
                f"activation_cache={str(self.path)!r} holds other things (it has no "
                f"{MARKER} of this package); pass an empty or a new folder."
            )
        with suppress(OSError):  # it may be read-only
            give_identity(self.path, self._name_temporary(self.path))

    def _is_ours(self) -> bool:
        try:
            with open_regular(self.path / MARKER) as file:
                return file.read(len(MARK) + 1) == MARK.encode()
        except OSError:
            return False

    def find(self, namespace: str, keys: Sequence[bytes]) -> np.ndarray:
        """Tell which keys are there, (n_keys,) bool; look for new files if needed."""
        rows = self._rows.setdefault(namespace, {})
        if any(key not in rows for key in keys):
            self._scan(namespace)
        return np.array([key in rows for key in keys], bool)

    def read(
        self, namespace: str, keys: Sequence[bytes]
    ) -> tuple[torch.Tensor | None, np.ndarray]:
        """Read the rows of keys; also return which were found, and whole.

        The other rows may hold anything. None in place of the rows if none was found.
        """
        is_right = np.zeros(len(keys), bool)
        places: dict[Path, list[int]] = {}
        index = self._rows.setdefault(namespace, {})
        for i, key in enumerate(keys):
            if key in index:
                places.setdefault(index[key][0], []).append(i)
        out: torch.Tensor | None = None
        for path, at in places.items():
            rows, right = self._read_from(path, [index[keys[i]][1] for i in at])
            for i in np.flatnonzero(~right).tolist():
                index.pop(keys[at[i]], None)
            if rows is None:
                continue
            if out is None:
                out = rows.new_zeros((len(keys), *rows.shape[1:]))
            if rows.dtype == out.dtype and rows.shape[1:] == out.shape[1:]:
                out[at] = rows
                is_right[at] = right
        return (out if is_right.any() else None), is_right

    def _read_from(
        self, path: Path, numbers: Sequence[int]
    ) -> tuple[torch.Tensor | None, np.ndarray]:
        """Read rows of one file, and mark the file as used now."""
        try:
            rows, is_right = read_rows(path, self._segments[path], numbers)
        except FileNotFoundError:  # another process made room
            return None, np.zeros(len(numbers), bool)
        except OSError as error:
            self._warn_once("damaged", f"{path} could not be read ({error})")
            return None, np.zeros(len(numbers), bool)
        if not is_right.all():
            self._warn_once("damaged", f"{path} is damaged; {_AGAIN}")
        if path not in self._touched:
            self._touched.add(path)
            with suppress(OSError):  # another user's file, or a read-only disk
                os.utime(path)
        return rows, is_right

    def write(self, namespace: str, keys: Sequence[bytes], rows: torch.Tensor) -> bool:
        """Publish rows in a new file; return whether that worked."""
        row_bytes = rows[:1].numel() * rows.element_size()
        if not self.can_write or not 0 < row_bytes <= MOST_ROW_BYTES:
            return False
        # Names sort by time: if two files hold one key, the later one counts.
        name = f"{time.time_ns():020d}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        path = self.path / namespace / name
        try:
            content = pack(keys, rows)
            if len(content) > self.limit():
                self._warn_of_limit(len(content), len(rows))
                return False
            self._make_folder(path.parent)
            self._write(path, content)
        except OSError as error:
            self._give_up_writing(f"cannot be written to ({error})")
            return False
        self._n_bytes += len(content)
        self._note(namespace, path)
        if self._n_bytes > self.limit():
            self._make_room(path)
        return True

    def _make_folder(self, folder: Path) -> None:
        """Make the sub-folder of a namespace, unless it is there."""
        if is_real_folder(folder):
            return
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            if not is_real_folder(folder):  # and no other process has made it just now
                raise
        share_as(self.path, folder, 0o770)

    def _write(self, path: Path, content: bytes) -> None:
        """Write a file under a temporary name, then rename it.

        It is not forced onto the disk, which takes longer than computing some rows: of
        those that a power failure cuts short, the checksums tell.
        """
        temporary = self._name_temporary(path.parent)
        try:
            temporary.write_bytes(content)
            share_as(self.path, temporary, 0o640)
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise

    def _name_temporary(self, folder: Path) -> Path:
        return folder / f"{TEMPORARY}{secrets.token_hex(8)}"

    def limit(self) -> int:
        """Return the most bytes that files may take."""
        if self._limit is None:
            self._n_bytes = sum(size for _, size, _ in self._files())
            if isinstance(self.max_bytes, str):
                free = shutil.disk_usage(self.path).free
                self._limit = int(SHARE_OF_FREE_DISK * (free + self._n_bytes))
            else:
                self._limit = int(self.max_bytes)
        return self._limit

    def n_bytes(self, namespace: str | None = None) -> int:
        """Count the bytes of all files, or of those of a namespace."""
        return sum(
            size
            for _, size, path in self._files()
            if namespace in (None, path.parent.name)
        )

    def clear(self) -> None:
        """Delete the files that this class has written, and nothing else."""
        if not self._is_ours():
            return
        for path in self._own_paths():
            with suppress(OSError):
                path.unlink()
        for folder in self._folders():
            with suppress(OSError):
                folder.rmdir()
        self._segments.clear()
        self._rows.clear()
        self._n_bytes = 0

    def _make_room(self, newest: Path) -> None:
        """Delete the least recently used files until the rest is within the limit."""
        files = sorted(self._files())
        self._n_bytes = sum(size for _, size, _ in files)
        for _, size, path in files:
            if self._n_bytes <= self.limit():
                return
            if path != newest:
                with suppress(OSError):
                    path.unlink()
                self._n_bytes -= size

    def _files(self) -> Iterator[tuple[float, int, Path]]:
        """Yield when each file was last used, its bytes and its path."""
        for path in self._own_paths():
            with suppress(OSError):
                status = path.stat()
                abandoned = time.time() - status.st_mtime > ABANDONED_SECONDS
                if path.suffix == SUFFIX:
                    yield status.st_mtime, status.st_size, path
                elif abandoned:
                    path.unlink()

    def _own_paths(self) -> list[Path]:
        """List every file with a name of this class, half-written ones included."""
        return [
            path
            for folder in self._folders()
            for path in _list_folder(folder)
            if _is_own_name(path.name) and is_real_file(path)
        ]

    def _folders(self) -> list[Path]:
        inside = _list_folder(self.path)
        return [p for p in inside if _is_hex(p.name, 32) and is_real_folder(p)]

    def _scan(self, namespace: str) -> None:
        """Note the files that are new in a namespace."""
        folder = self.path / namespace
        if not is_real_folder(folder):
            return
        for path in sorted(_list_folder(folder)):
            is_one = path.suffix == SUFFIX and _is_own_name(path.name)
            if is_one and path not in self._segments and not path.is_symlink():
                self._note(namespace, path)

    def _note(self, namespace: str, path: Path) -> None:
        """Note a file and what it holds; delete it if it is damaged."""
        try:
            segment = read_segment(path)
        except FileNotFoundError:
            return
        except (OSError, DamagedError) as error:
            self._warn_once("damaged", f"{path} is damaged ({error}); {_AGAIN}")
            if isinstance(error, DamagedError):
                with suppress(OSError):
                    path.unlink()
            return
        self._segments[path] = segment
        rows = self._rows.setdefault(namespace, {})
        rows.update({key: (path, i) for i, key in enumerate(segment.keys)})

    def _give_up_writing(self, why: str) -> None:
        self.can_write = False
        self._warn_once(
            "write",
            f"activation_cache={str(self.path)!r} {why}; activations are kept in "
            "memory alone from now on",
        )

    def _warn_of_limit(self, n_bytes: int, n_rows: int) -> None:
        if self.limit() > 0:  # a limit of 0 is intended
            self._warn_once(
                "limit",
                f"max_disk_bytes={self.limit()} of {self.path} is less than the "
                f"{n_bytes} bytes of {n_rows} activations; they are not kept there",
            )

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn(message + ".")


def refuse_file(name: str, path: str | os.PathLike[str]) -> None:
    """Raise a ValueError if a file is in the place of a folder."""
    if Path(path).exists() and not Path(path).is_dir():
        raise ValueError(
            f"{name}={str(path)!r} is a file; pass a folder. It is created if it does "
            "not exist."
        )


def _list_folder(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_hex(text: str, n: int) -> bool:
    return len(text) == n and set(text) <= set("0123456789abcdef")


def _is_own_name(name: str) -> bool:
    """Return whether a file in a namespace has a name of this class."""
    if name.startswith(TEMPORARY):
        return _is_hex(name.removeprefix(TEMPORARY), 16)
    parts = name.removesuffix(SUFFIX).split("-")
    return (
        name.endswith(SUFFIX)
        and len(parts) == 3
        and parts[0].isdigit()
        and parts[1].isdigit()
        and _is_hex(parts[2], 8)
    )
