"""How many pixels are decoded at the same time, whatever the size of the files."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Pixels that all threads together decode. Pillow keeps four bytes of each, and turning
# or converting a picture needs a copy.
MOST_PIXELS = 50_000_000


class Budget:
    """A number of pixels that threads share; a picture above it is decoded alone.

    Parameters
    ----------
    most : int
        How many pixels there are.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._used = 0
        self._turn = threading.Lock()
        self._change = threading.Condition()

    @contextmanager
    def hold(self, n_pixels: int) -> Iterator[None]:
        """Wait for so many pixels, and hold them within the block."""
        # One thread at a time waits for room. The others wait for their turn, so that a
        # large picture is not overtaken for ever.
        with self._turn, self._change:
            self._change.wait_for(
                lambda: not self._used or self._used + n_pixels <= self.most
            )
            self._used += n_pixels
        try:
            yield
        finally:
            with self._change:
                self._used -= n_pixels
                self._change.notify()


# Of this process: several fits in threads have one memory.
budget = Budget(MOST_PIXELS)
