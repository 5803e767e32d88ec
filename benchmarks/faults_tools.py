"""What injections of faults share: children that may die, words for what was seen."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

N_KILLS = 20

# Wait so long for what might wait for ever.
PATIENCE = 10


def fork(work: Callable[[], object]) -> int:
    """Run work in a child, quietly; return its process number.

    Nothing may compute with several threads before, or the child would hang.
    """
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        with open(os.devnull, "w") as nothing:
            os.dup2(nothing.fileno(), 1)
            os.dup2(nothing.fileno(), 2)
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def kill(pid: int) -> None:
    """Kill a child with a signal that it cannot hear, and wait for its end."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def observe(
    work: Callable[[], Any], folder: Path, seconds: float = 120
) -> dict[str, Any]:
    """Run work in a child and tell its value, error, or end, time and memory.

    Returns
    -------
    dict
        ``value``, ``error`` (a text), ``hangs`` or ``signal``; ``warned`` (texts),
        ``seconds``, ``cpu_seconds``, and ``grown_mb`` beyond the memory at first.
    """
    answer = folder / "answer.json"
    answer.unlink(missing_ok=True)
    started = time.perf_counter()
    pid = fork(lambda: answer.write_text(json.dumps(_try(work, folder))))
    while True:
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        waited = time.perf_counter() - started
        if ended:
            break
        if waited > seconds:
            kill(pid)
            return {"hangs": True, "seconds": seconds}
        time.sleep(0.002)
    computed = round(usage.ru_utime + usage.ru_stime, 2)
    found = {"seconds": round(waited, 2), "cpu_seconds": computed}
    if not answer.exists():
        return {"signal": os.waitstatus_to_exitcode(status), **found}
    seen = json.loads(answer.read_text())
    answer.unlink()
    return {**seen, **found}


def _try(work: Callable[[], Any], folder: Path) -> dict[str, Any]:
    before = _peak_mb()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            seen = {"value": work()}
        except BaseException as error:
            seen = {"error": tell(error, folder)}
    texts = list(dict.fromkeys(str(w.message)[:300] for w in caught))
    return {**seen, "warned": texts[:5], "grown_mb": round(_peak_mb() - before)}


def _peak_mb() -> float:
    """Return the most memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def tell(error: BaseException, folder: Path) -> str:
    """Return kind and text of an error in one line, without folders of this machine."""
    text = " ".join(str(error).replace(str(folder), "FOLDER").split())
    text = text.replace(os.path.expanduser("~"), "~")
    return f"{type(error).__name__}: {text}"[:300]


def word(seen: dict[str, Any], of_value: str = "silent") -> str:
    """Return the outcome of what was observed, in a few words."""
    if "hangs" in seen:
        return "hangs"
    if "signal" in seen:
        return f"process ended, {seen['signal']}"
    if "error" in seen:
        return f"error: {seen['error']}"
    return of_value


def cost(seen: dict[str, Any]) -> str:
    """Return the seconds of processor time, and the memory, of what was observed."""
    if "hangs" in seen:
        return f"more than {seen['seconds']:.0f} s"
    return f"{seen['cpu_seconds']:.1f} s, {seen.get('grown_mb', '?')} MB"


def limit_files(n_bytes: int) -> None:
    """Let every write beyond so many bytes of a file fail, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, resource.RLIM_INFINITY))


def list_folder(folder: Path) -> set[tuple[str, int, int]]:
    """List the files of a folder with what changes when they are written."""
    found = set()
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):
            about = entry.stat()
            found.add((entry.name, about.st_size, about.st_mtime_ns))
    return found


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> bool:
    """Return whether two networks have equal weights, bit for bit."""
    return one.keys() == other.keys() and all(
        np.array_equal(one[name], other[name]) for name in one
    )


class Hostile:
    """Makes a folder when a pickle of it is read."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.marker),)


def write_hostile(form: str, marker: Path, path: Path) -> None:
    """Write a hostile file: as pickle does, or torch, or torch of long ago."""
    import torch

    path.unlink(missing_ok=True)
    if form == "raw":
        path.write_bytes(pickle.dumps(Hostile(marker)))
    else:
        is_new = form == "zip"
        torch.save(Hostile(marker), path, _use_new_zipfile_serialization=is_new)


FORMS = ("raw", "zip", "legacy")


def write_claims(path: Path, n: int, shape: list[int]) -> None:
    """Write a .safetensors whose header names n tensors; a large shape is a lie."""
    size = 4 * int(np.prod(shape, dtype=object))
    entries = {
        f"t{i}": {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [i * size, (i + 1) * size],
        }
        for i in range(n)
    }
    header = json.dumps(entries).encode()
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(bytes(min(n * size, 4_000_000)))


def make_data(n: int = 60, size: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Make noisy pictures of three colours, float32 (n, size, size, 3) in [0, 1]."""
    rng = np.random.default_rng(0)
    y = np.arange(n) % 3
    X = rng.uniform(0, 0.6, (n, size, size, 3))
    X[np.arange(n), :, :, y] += 0.4
    return X.astype(np.float32), y
