"""Where the ranks of a job wait for one another, and add up what they did."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from sktransfer._activations.cache import CacheInfo

# A rank may have to wait for hours. One that died is noticed by torchrun, which ends
# the others.
PATIENCE = timedelta(days=30)


def meet(info: CacheInfo) -> Sequence[CacheInfo]:
    """Wait for all ranks of this job; return what each of them passed here."""
    was_there = distributed.is_initialized()
    if not was_there:
        distributed.init_process_group("gloo", timeout=PATIENCE)
    try:
        # A group of its own: that of the user may be for GPUs alone.
        group: Any = distributed.new_group(backend="gloo", timeout=PATIENCE)
        mine = torch.tensor(info, dtype=torch.float64)
        every = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, mine, group=group)
        distributed.destroy_process_group(group)
    finally:
        if not was_there:
            distributed.destroy_process_group()
    return [_read(numbers.tolist()) for numbers in every]


def _read(numbers: Sequence[float]) -> CacheInfo:
    hits, misses, n_bytes, seconds_saved, on_disk = numbers
    return CacheInfo(int(hits), int(misses), int(n_bytes), seconds_saved, int(on_disk))
