"""Settings that every test needs before scipy and torch do any work, and fixtures."""

import os
import sys

# scipy reads this once, on import; without it scikit-learn skips its array API checks.
os.environ["SCIPY_ARRAY_API"] = "1"

import pytest
import torch

from sktransfer._images.streams import pictures

# The networks here are too small to gain from threads, sums in a fixed order repeat
# bit for bit, and several test runs can then share a machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


@pytest.fixture
def two_threads():
    """Let torch compute with two threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


@pytest.fixture
def decoded(monkeypatch):
    """List the rows that are decoded."""
    rows, read = [], pictures.read_picture

    def note(row, *args):
        rows.append(row)
        return read(row, *args)

    monkeypatch.setattr(pictures, "read_picture", note)
    return rows
