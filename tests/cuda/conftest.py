"""Where the tests that need a GPU run, and what their memory is.

    python -m pytest -m cuda tests/cuda
    SKTRANSFER_CUDA_TESTS=cpu python -m pytest -m cuda tests/cuda

The second command rehearses them on a CPU, where memory has no limit.
"""

import os
from contextlib import contextmanager

import pytest
import torch

DEVICE = os.environ.get("SKTRANSFER_CUDA_TESTS", "cuda")


@pytest.fixture(scope="session", autouse=True)
def device():
    """The device; an error if there is none, so that nothing passes in silence."""
    if DEVICE == "cuda" and not torch.cuda.is_available():
        pytest.fail("torch finds no GPU; SKTRANSFER_CUDA_TESTS=cpu is a rehearsal")
    return DEVICE


@pytest.fixture(autouse=True)
def _exact():
    """Let float32 be float32: by default, convolutions multiply as TF32 does."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


class Memory:
    """The memory of the GPU, in bytes."""

    @contextmanager
    def limit(self, n_bytes):
        """Let this process have no more than that beyond what it holds."""
        torch.cuda.empty_cache()
        whole = torch.cuda.get_device_properties(0).total_memory
        share = (torch.cuda.memory_reserved() + n_bytes) / whole
        torch.cuda.set_per_process_memory_fraction(share)
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)

    def peak(self, call):
        """Return the result of a call, and how much more it held at its peak."""
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        return result, torch.cuda.max_memory_allocated() - before

    def held(self):
        """Return how much tensors hold now."""
        return torch.cuda.memory_allocated()


class Endless(Memory):
    """What stands for it on a CPU: no limit, and a peak that nobody knows."""

    @contextmanager
    def limit(self, n_bytes):
        """Do nothing."""
        yield

    def peak(self, call):
        """Return the result of a call, and a peak beyond any limit."""
        return call(), float("inf")

    def held(self):
        """Return nothing."""
        return 0


@pytest.fixture
def memory(device):
    """The memory of the device."""
    return Memory() if device == "cuda" else Endless()
