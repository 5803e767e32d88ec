"""Where, in which number format and from which seed torch computes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch

from sktransfer._networks.convolution import SafeConvolutions
from sktransfer._processes.ranks import find_rank

Module = TypeVar("Module", bound=torch.nn.Module)

# torch's generator belongs to the process. A thread that drew from it inside another
# thread's block would change both the results and the state that is restored.
_one_at_a_time = threading.RLock()


def resolve_device(device: str) -> torch.device:
    """Turn the ``device`` parameter into a device that exists.

    Raises
    ------
    ValueError
        If `device` is neither a CPU nor a CUDA device.
    RuntimeError
        If `device` is not available on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        resolved = torch.device(device)
    except (RuntimeError, TypeError) as error:
        raise ValueError(
            f"device={device!r} is unknown; pass 'auto', 'cpu' or 'cuda'."
        ) from error
    if resolved.type not in ("cpu", "cuda"):
        raise ValueError(
            f"device={device!r} is not supported; pass 'auto', 'cpu' or 'cuda'."
        )
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise RuntimeError(
            f"device={device!r} was requested but no CUDA device is available; "
            "pass device='cpu' or 'auto'."
        )
    return _take_own_gpu(resolved)


def _take_own_gpu(device: torch.device) -> torch.device:
    """Give each of several ranks on a machine a GPU of its own, if none was named."""
    rank = find_rank()
    if device.type != "cuda" or device.index is not None or rank.n_ranks == 1:
        return device
    # A rank may be shown its own GPU alone.
    return torch.device("cuda", rank.local % torch.cuda.device_count())


def resolve_precision(precision: str, device: torch.device) -> str:
    """Turn the ``precision`` parameter into ``"float32"`` or ``"bfloat16"``.

    ``"auto"`` takes bfloat16 where the hardware multiplies it natively, CUDA devices
    or CPUs with AVX512-BF16 or AMX, and float32 elsewhere.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        with torch.cuda.device(device):
            is_native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        able = cpu_capabilities()
        is_native = bool(able.get("avx512_bf16") or able.get("amx_bf16"))
    return "bfloat16" if is_native else "float32"


def recheck_precision(computed: str, asked: str, device: torch.device) -> str:
    """Return the number format for a network that another machine may have trained.

    The format that ``precision="auto"`` chose there may be slow here: then float32.
    """
    if asked == "auto" and resolve_precision("auto", device) == "float32":
        return "float32"
    return computed


def cpu_capabilities() -> dict[str, Any]:
    """Return what the processor can do, by name; empty if torch cannot say."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return capabilities


def move_to(module: Module, device: torch.device) -> Module:
    """Move a network to a device, with its weights in the layout that is fast there.

    Images arrive as ``channels_last``. CUDA wants weights in that layout too; a CPU
    rearranges them for every product, whatever their layout.
    """
    module = module.to(device)
    if device.type == "cuda":
        return module.to(memory_format=torch.channels_last)
    return module


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which matrix products run at `precision`.

    A setting of the caller's has no effect inside it. On a CPU, convolutions that would
    be wrong in bfloat16 run in float32.
    """
    if precision == "float32" and not torch.is_autocast_enabled(device.type):
        return nullcontext()  # entered in every step
    # Inside the user's own context, cached casts of weights would outlive a step.
    cast = torch.autocast(
        device.type,
        dtype=torch.bfloat16,
        enabled=precision == "bfloat16",
        cache_enabled=False,
    )
    is_safe = precision == "float32" or device.type != "cpu"
    return cast if is_safe else _enter_both(cast, SafeConvolutions())


@contextmanager
def _enter_both(
    outer: AbstractContextManager[Any], inner: AbstractContextManager[Any]
) -> Iterator[None]:
    with outer, inner:
        yield


@contextmanager
def fork_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside a block and restore its global state afterwards.

    Threads pass through such blocks one at a time.
    """
    devices = [device] if device.type == "cuda" else []
    with _one_at_a_time, torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
