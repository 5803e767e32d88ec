"""Chance that is seeded and leaves no trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

# torch's generator belongs to the process: a thread that drew from it inside another's
# block would change both, and what is put back afterwards.
_one_at_a_time = threading.RLock()


@contextmanager
def forked_rng(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch inside the block and leave the global state as it was.

    Threads pass through such blocks one after another.
    """
    devices = [device] if device.type == "cuda" else []
    with _one_at_a_time, torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if device.type == "cuda":
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
