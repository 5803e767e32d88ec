"""With which releases a model was saved, and whether others may matter."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

# Of these, other releases may compute other predictions.
THAT_COMPUTE = ("sktransfer", "torch", "torchvision", "timm", "pillow")
OTHERS = ("numpy", "scikit-learn", "skorch", "safetensors")


def list_versions() -> dict[str, str]:
    """List the releases of Python and of the packages that matter here."""
    found = {"python": platform.python_version()}
    for name in (*THAT_COMPUTE, *OTHERS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found


def compare_versions(saved: Mapping[str, Any]) -> str:
    """Say which packages differ from those that a model was saved with."""
    now = list_versions()
    # A file may hold anything.
    then = {
        name: found if isinstance(found := saved.get(name), str) else "unknown"
        for name in THAT_COMPUTE
    }
    differ = [
        f"{name} {then[name]!a:.30} (here {now[name]})".replace("'", "")
        for name in THAT_COMPUTE
        # Builds of one release differ behind the plus sign: +cpu, +cu130.
        if then[name].split("+")[0] != now[name].split("+")[0]
    ]
    return ", ".join(differ)
