"""Models that this process has loaded, for those who ask for the same again."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Any

from sktransfer._files.model_file import ModelFileError
from sktransfer._files.opening import NotAFileError, hash_file, open_regular

Load = Callable[[Path, dict[str, Any], str | None], Any]

# Models that are kept; the one that was asked for longest ago goes first.
MOST_KEPT = 8

# By path and parameters: the hash of the file, and what it became. So a file that is
# replaced leaves nothing behind.
_kept: dict[Hashable, tuple[str, Any]] = {}
_lock = threading.RLock()


def load_once(path: Path, given: dict[str, Any], sha256: str | None, load: Load) -> Any:
    """Return what this process has made of a file; load it if there is no such thing.

    The file is hashed each time. Its time, its size and its number in the file system
    may all be those of another one that was in its place before.

    Parameters
    ----------
    path, given, sha256
        As for `load`.

    load : callable
        Loads the file at a path, with parameters, if it has a hash.
    """
    key = os.path.abspath(path), *_identify(given)
    while True:
        try:
            with open_regular(path) as file:
                digest = hash_file(file)
        except NotAFileError:
            return load(path, given, sha256)  # for its error
        if sha256 is not None and sha256.strip().lower() != digest:
            return load(path, given, sha256)  # for its error
        with _lock:
            known = _kept.pop(key, None)
            if known is not None and known[0] == digest:
                _kept[key] = known
                return known[1]
            try:
                _kept[key] = digest, load(path, given, digest)
            except ModelFileError:
                if _is_still(path, digest):
                    raise
                continue  # it was replaced since it was hashed
            while len(_kept) > MOST_KEPT:
                del _kept[next(iter(_kept))]
            return _kept[key][1]


def _is_still(path: Path, digest: str) -> bool:
    """Return whether a file still has this hash."""
    with open_regular(path) as file:
        return hash_file(file) == digest


def _identify(given: dict[str, Any]) -> list[Hashable]:
    """Return what tells parameters from all others; a TypeError if nothing does."""
    found: list[Hashable] = []
    for name, value in sorted(given.items()):
        try:
            hash(value)
        except TypeError:
            found.append((name, _pickle(name, value)))
        else:
            # 1 equals True and 1.0, which are not the same here.
            found.append((name, type(value), repr(value), value))
    return found


def _pickle(name: str, value: object) -> bytes:
    try:
        return pickle.dumps(value)
    except Exception as error:
        raise TypeError(
            f"params[{name!r}]={value!r:.100} cannot be compared with what was passed "
            f"before ({error!s:.200}), so that reuse=True does not know whether the "
            "model is the same; pass reuse=False, or set it afterwards."
        ) from error


def _forget() -> None:
    """Forget all models in a process that was forked: its GPU, if any, is gone."""
    global _lock
    _kept.clear()
    _lock = threading.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
