"""Where the ranks of a job meet when each of them has encoded its share."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import torch
from torch import distributed

from sktransfer._training.ranks.group import join_group

# One rank may have to wait for another for hours, where torch would give up after
# half an hour. torchrun notices a rank that dies, and ends the others.
PATIENCE = timedelta(days=30)


class Meeting:
    """A place for all ranks of this job, which take as long as they need to come.

    Making one waits until every rank has.

    Parameters
    ----------
    device : torch.device
        Where this rank computes.
    """

    def __init__(self, device: torch.device) -> None:
        join_group(device)
        self._group: Any = distributed.new_group(backend="gloo", timeout=PATIENCE)

    def collect(self, numbers: tuple[float, ...]) -> list[list[float]]:
        """Wait for all ranks; return the numbers that each of them passes."""
        mine = torch.tensor(numbers, dtype=torch.float64)
        every = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
        distributed.all_gather(every, mine, group=self._group)
        distributed.destroy_process_group(self._group)
        return [some.tolist() for some in every]
