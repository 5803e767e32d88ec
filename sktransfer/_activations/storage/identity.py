"""Which folder a path means: here, and on the machine that sent the work."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from sktransfer._activations.storage.ownership import share_as
from sktransfer._files.opening import open_regular

NAME = "identity"
N_DIGITS = 32

# Of each path the folder that the sender of the work had there, and the folders that
# were compared with one here.
_expected: dict[Path, str] = {}
_compared: set[tuple[Path, str]] = set()


def give_identity(folder: Path, temporary: Path) -> None:
    """Write a token into a folder that has none; nobody ever writes another one.

    Parameters
    ----------
    folder : Path
        A folder that was prepared.

    temporary : Path
        A new name for what is half written.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    path = folder / NAME
    if os.path.lexists(path):
        return
    temporary.write_text(secrets.token_hex(N_DIGITS // 2), encoding="ascii")
    try:
        share_as(folder, temporary, 0o640)
        # Unlike a file that is renamed, a link does not replace what another process
        # has just written. Where there are no links, neither is there an identity.
        with suppress(OSError, NotImplementedError):
            os.link(temporary, path)
    finally:
        temporary.unlink()


def read_identity(folder: Path) -> str | None:
    """Read the token of a folder; None if it has none."""
    try:
        with open_regular(folder / NAME) as file:
            token = file.read(N_DIGITS + 1).decode("ascii")
    except (OSError, UnicodeDecodeError):
        return None
    is_one = len(token) == N_DIGITS and set(token) <= set("0123456789abcdef")
    return token if is_one else None


def expect_identity(path: Path, token: str) -> None:
    """Note what the sender of some work found at a path."""
    _expected[path] = token


def compare_identity(path: Path, warn: Callable[[str], object]) -> None:
    """Warn, once, if the folder at a path is not the one that the sender has there."""
    token = _expected.get(path)
    if token is None or (path, token) in _compared:
        return
    _compared.add((path, token))
    here = read_identity(path)
    if here is not None and here != token:
        warn(
            f"activation_cache={str(path)!r} is not shared: on {socket.gethostname()} "
            "this path means another folder than where the work was sent from, so that "
            "every machine computes activations for itself. Pass a folder on a disk "
            "that all machines have mounted."
        )
