"""Ctrl-C: never within an import, and told from what a callback raises."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

# Seconds until a Ctrl-C within an import is tried again.
AGAIN_SECONDS = 0.05

Handler = Callable[[int, FrameType | None], object]


@contextmanager
def hear_interrupts() -> Iterator[list[int]]:
    """Record each SIGINT that arrives in the block, in addition to its usual effect.

    Python delivers signals to the main thread only; in other threads nothing is heard.
    """
    heard: list[int] = []
    before = _find_handler()
    if before is None:
        yield heard
        return

    def note(number: int, frame: FrameType | None) -> None:
        heard.append(number)
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield heard
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def finish_imports() -> Iterator[None]:
    """Let a SIGINT that arrives within an import of the block wait until its end.

    torch registers what it consists of in C++, once for all: if Ctrl-C left it half
    imported, every later fit of the process would fail. Imports that enclose the block
    do not count, nor are those of other threads ever interrupted.
    """
    before = _find_handler()
    if before is None:
        yield
        return
    n_around = _count_imports(sys._getframe())
    waiting: list[threading.Timer] = []

    def wait_or_pass(number: int, frame: FrameType | None) -> None:
        while waiting:
            waiting.pop().cancel()
        if _count_imports(frame) <= n_around:
            before(number, frame)
            return
        waiting.append(threading.Timer(AGAIN_SECONDS, _interrupt_main_thread))
        waiting[0].daemon = True
        waiting[0].start()

    signal.signal(signal.SIGINT, wait_or_pass)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if waiting:
            waiting.pop().cancel()
            before(signal.SIGINT, sys._getframe())


def _interrupt_main_thread() -> None:
    """Send SIGINT to the main thread; on Windows, once it returns from C."""
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:  # wakes it from waiting
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _find_handler() -> Handler | None:
    """Return what handles SIGINT here; None in a thread, or if nothing of Python's."""
    handler = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    return handler if in_main and callable(handler) else None


def _count_imports(frame: FrameType | None) -> int:
    """Count the modules that are being imported at a place in a program."""
    count = 0
    while frame is not None:
        is_import = frame.f_code.co_name == "_find_and_load"
        count += is_import and "importlib._bootstrap" in frame.f_code.co_filename
        frame = frame.f_back
    return count
