"""Which processes are ranks of a job, and which are alone."""

import multiprocessing
import os
import threading

import pytest

from sktransfer._processes.ranks import ALONE, Rank, find_rank

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "somewhere",
    "MASTER_PORT": "29500",
}


@pytest.fixture
def surroundings(monkeypatch):
    """The environment that torchrun makes."""
    for name, value in TORCHRUN.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def test_torchrun_tells_the_rank(surroundings):
    assert find_rank() == Rank(number=3, n_ranks=4, local=1)
    assert not find_rank().is_first


def test_without_torchrun_a_process_is_alone_and_first():
    assert find_rank() == ALONE
    assert find_rank().is_first


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"])
def test_who_cannot_find_the_others_is_alone(surroundings, name):
    surroundings.delenv(name)
    assert find_rank() == ALONE


def test_a_number_that_is_none_counts_as_not_there(surroundings):
    surroundings.setenv("RANK", "first")
    assert find_rank() == ALONE


def test_on_one_machine_the_local_number_may_be_missing(surroundings):
    surroundings.delenv("LOCAL_RANK")
    assert find_rank().local == 3


def test_the_worker_of_a_rank_is_no_rank(surroundings):
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        assert pool.apply(find_rank) == ALONE


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_the_fork_of_a_rank_is_no_rank(surroundings):
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(find_rank) == ALONE


def test_a_thread_of_a_rank_is_no_rank(surroundings):
    found = []
    thread = threading.Thread(target=lambda: found.append(find_rank()))
    thread.start()
    thread.join()
    assert found == [ALONE]
