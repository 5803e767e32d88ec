"""What the user sees while it runs: warnings at their own line, and progress bars."""

from __future__ import annotations

import inspect
import multiprocessing
import sys
import threading
import time
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

# Between two drawings, at least; work that is done sooner shows nothing. A note may
# have to wait for the device.
EVERY_SECONDS = 0.5

LAYOUT = (
    "{desc}: {percentage:3.0f}%|{bar}| {n}/{total}, {rate_noinv_fmt}{postfix}, "
    "{remaining} left"
)


def warn(message: str) -> None:
    """Warn at the line that called this package, however often it is called back."""
    level, outermost, frame = 1, 1, inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] == __package__:
            outermost = level
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=outermost + 1)


class Bar:
    """A count of images that grows, drawn now and then; nothing where none is shown.

    Parameters
    ----------
    label : str
        What is done.

    total : int
        Images, all told.

    verbose : int
        Below 1, nothing is shown.
    """

    def __init__(self, label: str, total: int, verbose: int) -> None:
        self._bar = _tqdm(label, total) if is_shown(verbose) else None
        self._n_new, self._drawn = 0, time.monotonic()

    def advance(
        self, n_images: int, note: Callable[[], tuple[str, str]] | None = None
    ) -> None:
        """Count images.

        Parameters
        ----------
        n_images : int
            How many more are done.

        note : callable, default=None
            Returns another label and what else to say; called when that is drawn.
        """
        if self._bar is None:
            return
        self._n_new += n_images
        now = time.monotonic()
        if now - self._drawn < EVERY_SECONDS:
            return
        if note is not None:
            label, said = note()
            self._bar.set_description_str(label, refresh=False)
            self._bar.set_postfix_str(said, refresh=False)
        self._bar.update(self._n_new)
        self._n_new, self._drawn = 0, now

    def hide(self) -> None:
        """Clear the line for what others print; the next drawing is elsewhere."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """Clear the line for good."""
        if self._bar is not None:
            # A notebook would keep what is not complete, and paint it red.
            self._bar.total = self._bar.n
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def is_shown(verbose: int) -> bool:
    """Whether a bar would be seen, and by one who asked for it."""
    return verbose >= 1 and not _is_worker() and _is_watched()


def _is_worker() -> bool:
    """Whether this is one of several processes or threads at work."""
    return (
        multiprocessing.parent_process() is not None
        or threading.current_thread() is not threading.main_thread()
    )


def _is_watched() -> bool:
    """Whether a person sees what is drawn."""
    return _is_notebook() or _terminal() is not None


def _is_notebook() -> bool:
    """Whether IPython runs for a notebook: its shell then has a kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _terminal() -> TextIO | None:
    """The stream of these two that is a terminal: the other may go to a file."""
    for stream in (sys.stderr, sys.stdout):
        # None without a console; some programs put a bare writer in its place.
        is_open = not getattr(stream, "closed", False)
        if is_open and hasattr(stream, "isatty") and stream.isatty():
            return stream
    return None


def _tqdm(label: str, total: int) -> Any:
    """A bar of tqdm, as the terminal or the notebook has them."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # A notebook without ipywidgets has a bar of text, which is no fault.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    class Unwatched(tqdm):
        # tqdm's watch over slow bars is a thread that would outlive the bar.
        monitor_interval = 0

    return Unwatched(
        desc=label,
        total=total,
        unit=" images",
        unit_scale=True,
        bar_format=LAYOUT,
        file=None if _is_notebook() else _terminal(),
        leave=False,
        # tqdm draws nothing in a terminal that says it has no lines, as some do.
        nrows=20,
        delay=EVERY_SECONDS,
        mininterval=0,
        miniters=1,
    )
