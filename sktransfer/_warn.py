"""Warnings that point at the user's line."""

from __future__ import annotations

import inspect
import warnings


def warn(message: str) -> None:
    """Warn at the line that called this package, however often it is called back."""
    level, outermost, frame = 1, 1, inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] == __package__:
            outermost = level
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=outermost + 1)
