"""What a study ran on: versions, hardware, and the peak memory of a fit."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

PACKAGES = (
    "numpy",
    "pillow",
    "scikit-learn",
    "torch",
    "torchvision",
    "skorch",
    "sktransfer",
)
# psutil has no peak that can be reset: on Windows its peak is that of the whole life of
# the process, elsewhere it has none. Linux lets a process reset its own.
STATUS, CLEAR_REFS = Path("/proc/self/status"), Path("/proc/self/clear_refs")
CPU_INFO = Path("/proc/cpuinfo")


def list_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that affect the numbers."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in PACKAGES},
    }


@contextmanager
def limit_torch_threads(n: int | None) -> Iterator[None]:
    """Let torch compute with `n` threads inside the block; None changes nothing."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(before if n is None else n)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def describe_hardware() -> dict[str, Any]:
    """Describe the machine.

    Returns
    -------
    dict
        ``processor``, ``gpu`` and ``system`` : str, ``gpu`` being None without CUDA;
        ``n_cores`` : int, the cores that this process may use; ``n_threads`` : int,
        the threads that torch computes with; ``memory`` : int, bytes of the machine.
    """
    import torch

    cuda = _find_cuda()
    return {
        "processor": _find_processor_name(),
        "n_cores": _count_cores(),
        "n_threads": torch.get_num_threads(),
        "memory": psutil.virtual_memory().total,
        "gpu": None if cuda is None else str(cuda.get_device_name()),
        "system": f"{platform.system()} {platform.release()}",
    }


class PeakMemory:
    """The most memory in use inside a ``with`` block.

    For a GPU it is what torch allocated there. For the CPU it is the resident memory of
    the whole process, which includes Python, the libraries, the images and cached
    activations; it is known on Linux only.
    """

    def __enter__(self) -> PeakMemory:
        """Start to measure."""
        # Cycles left by the last fit would be counted for this one.
        gc.collect()
        self.process: int | None = None
        self.gpu: int | None = None
        self._counts_process = _reset_high_water_mark()
        self._cuda = _find_cuda()
        if self._cuda is not None:
            self._cuda.empty_cache()
            self._cuda.reset_peak_memory_stats()
        return self

    def __exit__(self, *error: object) -> None:
        """Set `process` and `gpu`, in bytes; None if unknown."""
        if self._counts_process:
            self.process = _read_high_water_mark()
        if self._cuda is not None:
            self.gpu = int(self._cuda.max_memory_allocated())

    def get_peak(self, device: str) -> int | None:
        """Return the bytes of a fit on `device`, as in ``device_``; None if unknown."""
        if device.startswith("cuda"):
            return self.gpu
        return self.process if device == "cpu" else None


def _reset_high_water_mark() -> bool:
    """Set the high-water mark to the memory in use now; return whether it worked."""
    if not CLEAR_REFS.exists():
        return False
    # The C library may keep what the last fit freed, for later use. Without this call,
    # a small fit after a large one would look as large. Only the GNU library has it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
    try:
        CLEAR_REFS.write_text("5")
    except OSError:
        return False
    return _read_high_water_mark() is not None


def _read_high_water_mark() -> int | None:
    """Return the most resident memory since the reset, in bytes."""
    found = re.search(r"^VmHWM:\s+(\d+) kB", _read(STATUS), re.MULTILINE)
    return None if found is None else 1024 * int(found[1])


def _find_cuda() -> Any:
    """Return torch's CUDA module if there is such a device, else None."""
    import torch

    return torch.cuda if torch.cuda.is_available() else None


def _find_processor_name() -> str:
    """Return the name of the processor, as precisely as the system gives it."""
    found = re.search(r"^model name\s*:\s*(.+)$", _read(CPU_INFO), re.MULTILINE)
    if found is not None:
        return found[1].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        answer = subprocess.run(command, capture_output=True, text=True, check=False)
        if answer.stdout.strip():
            return answer.stdout.strip()
    return platform.processor() or platform.machine()


def _count_cores() -> int:
    """Return how many cores this process may use."""
    if hasattr(psutil.Process, "cpu_affinity"):  # not on macOS
        return len(psutil.Process().cpu_affinity())
    return psutil.cpu_count() or 1


def _read(path: Path) -> str:
    """Return the text of a file that only some systems have, else an empty string."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
