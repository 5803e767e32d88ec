"""Too little memory, by one name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

# What torch says if cuDNN tries every way to compute a convolution, and none of them
# finds room (https://github.com/pytorch/pytorch/issues/108645).
OF_CUDNN = "unable to find an engine to execute this computation"


@contextmanager
def name_shortage() -> Iterator[None]:
    """Raise what stands for too little memory in the block as what it is.

    Raises
    ------
    torch.OutOfMemoryError
        In place of the error of a convolution that finds no memory to compute in.
    """
    try:
        yield
    except RuntimeError as error:
        if OF_CUDNN in str(error) and not isinstance(error, torch.OutOfMemoryError):
            raise torch.OutOfMemoryError(
                f"{error} (said if memory is short, or if cuDNN does not work here)"
            ) from error
        raise
