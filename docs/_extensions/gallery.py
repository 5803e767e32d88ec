"""How the gallery runs its examples, and in which order it shows them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

# What a newcomer wants first; the others follow by name.
FIRST = ("plot_first_fit.py", "plot_own_folder.py")


def reset_warnings(gallery_conf: dict[str, Any], fname: str) -> None:
    """Forget the filters that an example set; called before each of them."""
    warnings.resetwarnings()
    warnings.simplefilter("default")
    # Deprecations inside libraries are of no use to a reader.
    for category in (DeprecationWarning, PendingDeprecationWarning):
        warnings.simplefilter("ignore", category)


class Order:
    """Key by which the examples of a folder are sorted."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"  # part of what Sphinx compares

    def __call__(self, filename: str) -> tuple[int, str]:
        """Sort the examples of `FIRST` first, the others by name."""
        name = Path(filename).name
        return FIRST.index(name) if name in FIRST else len(FIRST), name
