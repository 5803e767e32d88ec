"""What users see during a run: warnings at their own line, and progress bars."""

from __future__ import annotations

import inspect
import sys
import threading
import warnings
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TextIO

from sktransfer._processes.ranks import find_rank
from sktransfer._processes.workers import forward_warning, is_worker

# The shortest time between two drawings. Work that takes less shows no bar. A note may
# have to wait for the device, so this is longer than tqdm's own default.
EVERY_SECONDS = 0.5

LAYOUT = (
    "{desc}: {percentage:3.0f}%|{bar}| {n}/{total}, {rate_noinv_fmt}{postfix}, "
    "{remaining} left"
)


def warn(message: str | Warning, *, of_rank: bool = False) -> None:
    """Issue a UserWarning at the line of the user's code that called this package.

    The package may be on the stack more than once, as when it is called back by
    scikit-learn; the outermost call counts. The client of a Dask worker warns too. Of
    processes that train together the first one warns.

    Parameters
    ----------
    message : str or Warning
        A text, or a warning of another kind.

    of_rank : bool, default=False
        Whether it concerns this process alone, so that every rank warns of its own.
    """
    if not (of_rank or find_rank().is_first):
        return
    # `skip_file_prefixes` of warnings.warn would stop at the innermost call, and needs
    # Python 3.12.
    level, outermost, frame = 1, 1, inspect.currentframe()
    while frame is not None:
        if frame.f_globals.get("__name__", "").split(".")[0] == __package__:
            outermost = level
        level, frame = level + 1, frame.f_back
    warnings.warn(message, UserWarning, stacklevel=outermost + 1)
    kind = type(message) if isinstance(message, Warning) else UserWarning
    forward_warning(message, kind)


class Bar:
    """A progress bar that counts images; it draws nothing if nobody would see it.

    Parameters
    ----------
    label : str
        What is being done.

    total : int
        Number of images in total.

    verbose : int
        Nothing is drawn if this is less than 1.
    """

    def __init__(self, label: str, total: int, verbose: int) -> None:
        self._bar = _start_tqdm(label, total) if is_shown(verbose) else None

    def advance(
        self, n_images: int, note: Callable[[], tuple[str, str]] | None = None
    ) -> None:
        """Count images that are done.

        Parameters
        ----------
        n_images : int
            Number of further images.

        note : callable, default=None
            Returns a new label and a text to put behind the speed. It is called only
            when the bar is drawn, because it may have to wait for the device.
        """
        if self._bar is not None:
            self._bar.note = note
            self._bar.update(n_images)
            # Others may have tqdm draw it too, when there is nothing new to note.
            self._bar.note = None

    def hide(self) -> None:
        """Clear the line, so that others can print there; the bar comes back later."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> None:
        """Clear the line for good."""
        if self._bar is not None:
            # A notebook would keep an incomplete bar, and paint it red.
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
    """Whether a bar was asked for and somebody would see it."""
    is_for_all = find_rank().is_first and not _is_worker()
    return verbose >= 1 and is_for_all and _is_watched()


def _is_worker() -> bool:
    """Whether this is one of several processes or threads that share the work."""
    return is_worker() or threading.current_thread() is not threading.main_thread()


def _is_watched() -> bool:
    """Whether what is drawn appears in a terminal or a notebook."""
    return _is_notebook() or _find_terminal() is not None


def _is_notebook() -> bool:
    """Whether IPython runs for a notebook: its shell then has a kernel."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return hasattr(shell, "kernel")


def _find_terminal() -> TextIO | None:
    """Return stderr or stdout, the first that is a terminal, or None."""
    for stream in (sys.stderr, sys.stdout):
        # None without a console; some programs replace it by a bare writer.
        is_open = not getattr(stream, "closed", False)
        if is_open and hasattr(stream, "isatty") and stream.isatty():
            return stream
    return None


def _start_tqdm(label: str, total: int) -> Any:
    """Return tqdm's bar for the terminal or the notebook, with the note it may get."""
    from tqdm import TqdmWarning

    with warnings.catch_warnings():
        # A notebook without ipywidgets gets a bar of text, which is no fault.
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm

    class NotedBar(tqdm):
        # tqdm watches slow bars from a thread that would outlive the bar.
        monitor_interval = 0
        note: Callable[[], tuple[str, str]] | None = None

        def refresh(self, *args: Any, **kwargs: Any) -> Any:
            """Draw the bar with its note; tqdm decides when."""
            if self.note is not None:
                text_before, text_behind = self.note()
                self.set_description_str(text_before, refresh=False)
                self.set_postfix_str(text_behind, refresh=False)
            return super().refresh(*args, **kwargs)

    return NotedBar(
        desc=label,
        total=total,
        unit=" images",
        unit_scale=True,
        bar_format=LAYOUT,
        file=None if _is_notebook() else _find_terminal(),
        leave=False,
        # In a terminal that claims to have no lines, as some do, tqdm draws nothing.
        nrows=20,
        delay=EVERY_SECONDS,
        mininterval=EVERY_SECONDS,
        # Ask the clock after every batch; tqdm's own guess needs its thread.
        miniters=1,
    )
