"""Whose a folder is, and who else may write to it.

Checksums notice accidents, not forgeries: whoever can write to a folder of activations
decides what a network sees in place of its images.
"""

from __future__ import annotations

import os
import stat
import sys
from contextlib import suppress
from pathlib import Path


def check_trusted(name: str, path: Path) -> str | None:
    """Raise a ValueError unless a folder is ours to trust.

    It is if it belongs to this user, or to the administrator, and not everybody may
    write to it. A folder of another user is shared deliberately if a group that we
    belong to may write to it. Nothing is checked on Windows.

    Parameters
    ----------
    name : str
        The parameter that names the folder.

    path : Path
        A folder that exists.

    Returns
    -------
    str or None
        What to tell the user of a folder that is shared.

    Raises
    ------
    ValueError
        If everybody may write to it, or it belongs to another user.
    """
    if sys.platform == "win32":
        return None
    status = path.stat()
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        raise ValueError(
            f"{name}={str(path)!r} may be written to by everybody (mode {mode:03o}), "
            "and so may the numbers that replace your images; run "
            f"`chmod 700 {path}`, or pass a folder of your own."
        )
    if status.st_uid in (os.geteuid(), 0):
        return None
    owner = _name_user(status.st_uid)
    groups = {os.getegid(), *os.getgroups()}
    if mode & stat.S_IWGRP and status.st_gid in groups:
        return (
            f"{name}={str(path)!r} belongs to {owner} and is shared with a group (mode "
            f"{mode:03o}): its members can change what the network sees"
        )
    raise ValueError(
        f"{name}={str(path)!r} belongs to {owner} (mode {mode:03o}), who can change "
        "the numbers that replace your images; pass a folder of your own, with "
        "`chmod 700`, or one that a group of yours may write to."
    )


def is_real_folder(path: Path) -> bool:
    """Return whether this is a folder, and no link to one."""
    return path.is_dir() and not path.is_symlink()


def is_real_file(path: Path) -> bool:
    """Return whether this is a file, and no link, pipe or device."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def share_as(parent: Path, path: Path, bits: int) -> None:
    """Let a group use what was made in a folder that it may write to.

    `bits` is the mode for the owner and the group, such as 0o770.
    """
    with suppress(OSError):  # it is another user's, or this disk has no modes
        mode = stat.S_IMODE(parent.stat().st_mode)
        if mode & stat.S_IWGRP:
            # A folder passes its group on to what is made in it only with this bit.
            os.chmod(path, bits | (mode & stat.S_ISGID if path.is_dir() else 0))


def _name_user(number: int) -> str:
    """Return the name of a user, or the number of one without a name."""
    if sys.platform != "win32":
        import pwd

        try:
            return f"the user {pwd.getpwuid(number).pw_name!r}"
        except KeyError:
            pass
    return f"the user of number {number}"
