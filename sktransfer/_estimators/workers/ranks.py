"""What a rank of torchrun owes the others if it fails, and when it is done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sktransfer._processes.ranks import find_rank

if TYPE_CHECKING:
    import torch


@contextmanager
def telling_ranks() -> Iterator[None]:
    """Let other ranks of this job know of an error in the block; they wait otherwise.

    Whoever catches it, as a search does, would leave them waiting.
    """
    try:
        yield
    except BaseException as error:
        if find_rank().n_ranks > 1:
            from sktransfer._training.ranks.group import tell_ranks

            tell_ranks(error)
        raise


def end_together(seconds: float, device: torch.device) -> float:
    """End a fit that all ranks share; return the seconds that the first one took."""
    from sktransfer._training.ranks.group import join_group

    group = join_group(device)
    if group is None:
        return seconds
    first = float(group.share(seconds))
    group.is_training = False
    return first
