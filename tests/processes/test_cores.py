"""How many threads may read images, as the environment of a process says."""

import multiprocessing
import os

import pytest

from sktransfer._processes import cores
from sktransfer._processes.cores import count_threads

RANK = {"RANK": "0", "WORLD_SIZE": "4", "MASTER_ADDR": "here", "MASTER_PORT": "1"}


@pytest.fixture
def worker(monkeypatch):
    """Let this process look like one that joblib has started."""
    monkeypatch.setattr(multiprocessing, "parent_process", os.getpid)


def test_a_process_that_is_no_worker_leaves_it_to_python(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert count_threads() is None


@pytest.mark.parametrize(
    ("told", "n"), [("3", 3), ("0", None), ("", None), ("many", None)]
)
@pytest.mark.usefixtures("worker")
def test_a_worker_has_as_many_as_openmp_was_told(told, n, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", told)
    assert count_threads() == n


def test_a_worker_of_spark_has_as_many_as_openmp_was_told(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    monkeypatch.setenv("SPARK_REUSE_WORKER", "1")
    assert count_threads() == 3


@pytest.mark.parametrize(("n_cores", "n"), [(64, 32), (3, 1), (1, 1)])
def test_ranks_share_cores_whatever_openmp_was_told(n_cores, n, monkeypatch):
    for name, value in RANK.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.setattr(cores, "_count_cores", lambda: n_cores)
    assert count_threads() == n
    monkeypatch.delenv("LOCAL_WORLD_SIZE")
    assert count_threads() is None
