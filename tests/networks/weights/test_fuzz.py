"""Thousands of damaged weight files are read, or end with an error of ours."""

import collections
import resource
from pathlib import Path

import pytest
import torch

from sktransfer._networks.weights.checkpoints import read_state
from tests.networks.weights.mutants import make_mutants, make_seeds

N_MUTANTS = 5_000

# Bytes of memory beyond those that the process has before.
MOST_MEMORY = 2**28


@pytest.fixture
def little_memory():
    """Refuse more memory than a damaged file of a few kilobytes can need."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


def read_or_refuse(path):
    """Return what a file holds, and the text of the error if it is refused."""
    try:
        return read_state(path), ""
    except (OSError, ValueError) as error:
        return {}, str(error)


def test_the_whole_files_are_read(tmp_path):
    for ending, content in make_seeds():
        path = tmp_path / f"a{ending}"
        path.write_bytes(content)
        assert len(read_state(path)) == 5


@pytest.mark.filterwarnings("ignore::UserWarning:zipfile")  # a name is there twice
@pytest.mark.usefixtures("little_memory")
def test_damaged_files_are_read_or_end_with_an_error_of_ours(tmp_path):
    outcomes = collections.Counter()
    for i, (ending, content) in enumerate(make_mutants(N_MUTANTS, seed=18)):
        path = tmp_path / f"a{ending}"
        path.write_bytes(content)
        state, error = read_or_refuse(path)
        outcomes["read" if state else "refused"] += 1
        assert state or error.startswith(f"weights='{path}'"), (i, error)
        assert len(error) < 2000, i
        for tensor in state.values():
            assert type(tensor) is torch.Tensor
            assert tensor.nbytes <= len(content), i
            tensor.clone()  # every number can be reached
    assert outcomes["refused"] > N_MUTANTS / 2
    assert outcomes["read"] > N_MUTANTS / 50
