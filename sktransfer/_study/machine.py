"""What a study ran on: versions, hardware, and the memory that a fit takes."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = (
    "numpy",
    "pillow",
    "scikit-learn",
    "torch",
    "torchvision",
    "skorch",
    "sktransfer",
)
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CPU_INFO = Path("/proc/cpuinfo")


def versions() -> dict[str, str]:
    """Version of Python and of each package that decides the numbers, by name."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Have torch compute with `n` threads inside the block; None leaves it alone."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if n is None else n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def hardware() -> dict[str, Any]:
    """Describe the machine.

    Returns
    -------
    dict
        ``processor``, ``gpu`` and ``system``: str, ``gpu`` being None where CUDA has
        none; ``n_cores``: int, those this process may use; ``n_threads``: int, those
        torch computes with; ``memory``: int, bytes, or None where it is not told.
    """
    import torch

    return {
        "processor": _processor(),
        "n_cores": _n_cores(),
        "n_threads": torch.get_num_threads(),
        "memory": _memory(),
        "gpu": _gpu(),
        "system": f"{platform.system()} {platform.release()}",
    }


class PeakMemory:
    """The most memory in use inside a ``with`` block.

    A GPU is asked for what torch allocated there. Without one, on Linux, it is the
    high-water mark of the whole process's resident memory, reset at the start: Python,
    libraries, the images and kept activations are in it. Elsewhere it is unknown.
    """

    def __enter__(self) -> PeakMemory:
        """Start to measure."""
        # What the last fit left in cycles would be counted for this one.
        gc.collect()
        self.process: int | None = None
        self.gpu: int | None = None
        self._counts_process = _reset_high_water_mark()
        self._cuda = _cuda()
        if self._cuda is not None:
            self._cuda.empty_cache()
            self._cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *error: object) -> None:
        """Set `process` and `gpu`, in bytes, None where unknown."""
        if self._counts_process:
            self.process = _high_water_mark()
        if self._cuda is not None:
            self.gpu = int(self._cuda.max_memory_allocated())

    def of(self, device: str) -> int | None:
        """Bytes of a fit on `device`, as in ``device_``; None where unknown."""
        if device.startswith("cuda"):
            return self.gpu
        return self.process if device == "cpu" else None


def _reset_high_water_mark() -> bool:
    """Set the process's high-water mark to what it uses now; whether that worked."""
    if not CLEAR_REFS.exists():
        return False
    # What the last fit freed may still be kept by the C library, for the next one:
    # without this, a small fit after a large one would look as large.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # the GNU library's alone
    if trim is not None:
        trim(0)
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return _high_water_mark() is not None


def _high_water_mark() -> int | None:
    """Most resident memory of this process since the reset, in bytes."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", _read(STATUS), re.MULTILINE)
    return None if found is None else 1024 * int(found[1])


def _cuda() -> Any:
    """The CUDA module of torch where there is such a device, else None."""
    import torch

    return torch.cuda if torch.cuda.is_available() else None


def _gpu() -> str | None:
    """Name of the GPU that a fit takes, None without one."""
    cuda = _cuda()
    return None if cuda is None else str(cuda.get_device_name())


def _processor() -> str:
    """Name of the processor, as well as the system tells it."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read(CPU_INFO), re.MULTILINE)
    if found is not None:
        return found[1].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        if told.stdout.strip():
            return told.stdout.strip()
    return platform.processor() or platform.machine()


def _n_cores() -> int:
    """How many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory() -> int | None:
    """Memory of the machine in bytes, None where it is not told."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _read(path: Path) -> str:
    """Text of a file that only some systems have, else nothing."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
