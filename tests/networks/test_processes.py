"""Forks that would hang are refused."""

import multiprocessing
import os
import subprocess
import sys

import pytest
import torch
from joblib import Parallel, delayed

from sktransfer._networks import processes
from sktransfer._networks.processes import enter_process

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

PROGRAM = """
import sys, warnings
import torch
from joblib import parallel_config
from sklearn.model_selection import cross_val_score
from tests.helpers import pictures, transfer

torch.set_num_threads(int(sys.argv[1]))
X, y = pictures(24)
clf = transfer(max_epochs=1)
if sys.argv[2] == "used":
    clf.fit(X, y)
with parallel_config("multiprocessing", n_jobs=2):
    print(len(cross_val_score(clf, X, y, cv=2, error_score="raise")))
"""


def run(n_threads, used):
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(n_threads), used],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


@needs_fork
def test_a_fork_without_inherited_threads_computes():
    done = run(2, "not used")
    assert done.stdout == "2\n", done.stderr[-1000:]


@needs_fork
@pytest.mark.skipif(not processes._has_gnu_threads(), reason="threads survive here")
def test_a_fork_that_would_wait_for_ever_is_an_error():
    done = run(2, "used")
    assert done.returncode == 1
    assert "RuntimeError: this process was forked from one in which" in done.stderr


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not computed yet."""
    monkeypatch.setattr(processes, "_threaded_in", None)


@pytest.fixture
def forked(fresh, two_threads, monkeypatch):
    """A process that another one with GNU's threads has become by a fork."""
    monkeypatch.setattr(processes, "_has_gnu_threads", lambda: True)
    enter_process()
    other = os.getpid() + 1
    monkeypatch.setattr(os, "getpid", lambda: other)


@pytest.mark.usefixtures("forked")
def test_the_error_of_a_fork_names_ways_out():
    with pytest.raises(RuntimeError, match=r"'loky'.*'spawn'.*set_num_threads\(1\)"):
        enter_process()


@pytest.mark.usefixtures("forked")
def test_a_fork_with_one_thread_may_compute():
    torch.set_num_threads(1)
    enter_process()


@pytest.mark.usefixtures("forked")
def test_threads_that_are_made_again_after_a_fork_are_no_reason_for_an_error(
    monkeypatch,
):
    monkeypatch.setattr(processes, "_has_gnu_threads", lambda: False)
    enter_process()


def test_workers_of_joblib_are_known_as_such():
    call = delayed(lambda: multiprocessing.parent_process() is not None)
    assert Parallel(n_jobs=2, backend="loky")([call(), call()]) == [True, True]
    assert multiprocessing.parent_process() is None
