"""Where and in which number format the network computes."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import torch

Module = TypeVar("Module", bound=torch.nn.Module)


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
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
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
    return resolved


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


def still_native(computed: str, asked: str, device: torch.device) -> str:
    """Number format for a network that another machine may have trained.

    What ``precision="auto"`` took there may be slow here: then float32.
    """
    if asked == "auto" and resolve_precision("auto", device) == "float32":
        return "float32"
    return computed


def cpu_capabilities() -> dict[str, Any]:
    """What the processor can, by name; empty where torch does not tell."""
    told: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return told


def moved(module: Module, device: torch.device) -> Module:
    """Move a network to a device, its weights laid out as the device multiplies them.

    Images are ``channels_last`` as they come. CUDA wants weights like that too; a CPU
    lays them out anew for each product, whatever they are.
    """
    module = module.to(device)
    if device.type == "cuda":
        return module.to(memory_format=torch.channels_last)
    return module


def autocast(precision: str, device: torch.device) -> AbstractContextManager[Any]:
    """Context in which matrix products run at `precision`, whatever is set outside."""
    if precision == "float32" and not torch.is_autocast_enabled(device.type):
        return nullcontext()  # entered in every step
    # Inside a context of the user's, cached casts of weights would outlive a step.
    return torch.autocast(
        device.type,
        dtype=torch.bfloat16,
        enabled=precision == "bfloat16",
        cache_enabled=False,
    )
