"""Ctrl-C, distinguished from a KeyboardInterrupt that a callback raises."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def hear_interrupts() -> Iterator[list[int]]:
    """Record each SIGINT that arrives in the block, in addition to its usual effect.

    Python delivers signals to the main thread only; in other threads nothing is heard.
    """
    heard: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or not callable(before):
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
