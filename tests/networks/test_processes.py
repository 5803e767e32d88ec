"""Forks that would hang are refused; processes compute on one GPU in turn."""

import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager

import pytest
import torch
from joblib import Parallel, delayed

from sktransfer import ActivationCache, FeatureExtractor
from sktransfer._activations.storage.leases import Leases
from sktransfer._networks import processes
from sktransfer._networks.processes import enter_process, name_gpu, take_turn_on
from sktransfer._processes import turns
from tests.helpers import pictures, transfer

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


@pytest.fixture
def gpu(monkeypatch):
    """A CPU that goes by the name of a GPU; a list of the turns taken on it."""
    taken, inside = [], []

    @contextmanager
    def note(name, tell):
        if not inside:
            taken.append(name)
        inside.append(name)
        yield
        inside.pop()

    monkeypatch.setattr(processes, "name_gpu", lambda device: "GPU-of-nobody")
    monkeypatch.setattr(processes, "take_turn", note)
    lease = Leases.take

    def take(self, key):
        assert inside, "a lease is taken within a turn, or two processes may hang"
        return lease(self, key)

    monkeypatch.setattr(Leases, "take", take)
    return taken


def test_fits_and_predictions_take_a_turn_before_any_lease(gpu, tmp_path):
    X, y = pictures(24)
    clf = transfer(unfreeze_depth=1, augment=None, activation_cache=tmp_path / "cache")
    clf.fit(X, y)
    assert gpu == ["GPU-of-nobody"]
    clf.predict(pictures(12, seed=1)[0])
    assert len(gpu) == 2


def test_features_take_a_turn_before_any_lease(gpu, tmp_path):
    extractor = FeatureExtractor("mini_resnet18", activation_cache=tmp_path / "cache")
    extractor.fit(pictures(12)[0])
    extractor.transform(pictures(12)[0])
    assert len(gpu) == 2


def test_a_cache_is_warmed_in_a_turn(gpu, tmp_path):
    ActivationCache(path=tmp_path / "cache").warm(transfer(), pictures(12)[0])
    assert gpu


def test_a_cpu_has_no_turns():
    assert name_gpu(torch.device("cpu")) is None


def test_ranks_of_one_job_take_no_turns(gpu, monkeypatch):
    values = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "::1", "MASTER_PORT": "1"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    with take_turn_on(torch.device("cpu")):
        assert gpu == []


def fit_in_turn(folder):
    """Fit on a CPU that goes by the name of a GPU; leave signs of it."""
    torch.set_num_threads(1)
    processes.name_gpu = lambda device: "GPU-of-nobody"
    processes._tell_of_waiting = lambda device: (folder / "waits").touch()
    turns.LONG_SECONDS = 0.0
    transfer(max_epochs=1).fit(*pictures(12))
    (folder / "fitted").touch()


def test_a_fit_waits_for_another_process_on_the_same_gpu(tmp_path, monkeypatch):
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(processes, "name_gpu", lambda device: "GPU-of-nobody")
    with take_turn_on(torch.device("cpu")):
        spawn = multiprocessing.get_context("spawn")
        other = spawn.Process(target=fit_in_turn, args=(tmp_path,), daemon=True)
        other.start()
        while not (tmp_path / "waits").exists():
            assert other.is_alive()
            time.sleep(0.01)
        assert not (tmp_path / "fitted").exists()
    other.join(60)
    assert (tmp_path / "fitted").exists()


def test_a_long_wait_is_told_with_a_remedy():
    with pytest.warns(UserWarning, match=r"waits for another .* SKTRANSFER_FITS_PER"):
        processes._tell_of_waiting(torch.device("cuda:1"))
