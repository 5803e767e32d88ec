"""Searches on Dask: as on one machine, whatever happens to its workers."""

import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score
from skorch.callbacks import Callback

from sktransfer import ActivationCache
from sktransfer._activations.storage.segments import read_segment
from sktransfer._feedback import warn
from sktransfer._processes.workers import is_worker
from tests.estimators.workers.clusters import (
    ENVIRONMENT,
    GRID,
    KillOnce,
    assert_same,
    quick,
    save_pictures,
    search_in_three_ways,
    started_by_commands,
)
from tests.helpers import files, pictures

distributed = pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def client():
    """A client of a cluster of two processes on this machine."""
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


@pytest.fixture
def forwarded(client):
    """What the client says on behalf of its workers."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        yield lambda: [str(some.message) for some in flushed(client, said)]


def flushed(client, said):
    """The warnings so far; a task that warns last ends once all are there."""
    last = f"the last of {id(said)}"
    client.submit(warn, last, pure=False).result()
    for _ in range(500):
        if any(str(some.message) == last for some in said):
            break
        client.sync(_pause)
    return [some for some in said if str(some.message) != last]


async def _pause():
    import asyncio

    await asyncio.sleep(0.02)


@pytest.mark.usefixtures("client")
def test_searches_find_bit_for_bit_what_they_find_on_one_machine():
    X, y = pictures(24)
    expected = search_in_three_ways(quick(), X, y)
    with parallel_config("dask"):
        assert_same(search_in_three_ways(quick(), X, y), expected)


@pytest.mark.usefixtures("client")
def test_what_workers_train_predicts_bit_for_bit_the_same():
    X, y = pictures(24)
    proba = cross_val_predict(quick(), X, y, cv=2, method="predict_proba")
    with parallel_config("dask"):
        found = cross_val_predict(quick(), X, y, cv=2, method="predict_proba", n_jobs=2)
    np.testing.assert_array_equal(found, proba)


def test_workers_that_were_started_by_commands_find_the_same(tmp_path):
    paths, y = save_pictures(tmp_path / "pictures")
    expected = GridSearchCV(quick(), GRID, cv=2, error_score="raise").fit(paths, y)
    with (
        started_by_commands(tmp_path) as address,
        distributed.Client(scheduler_file=address, set_as_default=True),
        parallel_config("dask", wait_for_workers_timeout=60),
    ):
        found = GridSearchCV(quick(), GRID, cv=2, error_score="raise").fit(paths, y)
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(
            found.cv_results_[name], expected.cv_results_[name]
        )
    np.testing.assert_array_equal(
        found.predict_proba(paths), expected.predict_proba(paths)
    )


def count_misses(path):
    return ActivationCache.get(path).info().misses


def test_workers_that_share_a_folder_encode_each_image_once(client, tmp_path):
    paths, y = save_pictures(tmp_path / "pictures")
    folder = str(tmp_path / "cache")
    clf = quick(activation_cache=folder, head_init="random", max_epochs=1)
    with parallel_config("dask"):
        GridSearchCV(clf, GRID, cv=3, refit=False, error_score="raise").fit(paths, y)
    kept = [key for file in files(folder) for key in read_segment(file).keys]
    assert len(kept) == len(set(kept)) == len(paths)
    assert sum(client.run(count_misses, folder).values()) == len(paths)


@pytest.mark.skipif(os.name == "nt", reason="nothing kills without notice here")
@pytest.mark.usefixtures("client")
def test_a_search_on_files_outlives_the_kill_of_a_worker(tmp_path):
    paths, y = save_pictures(tmp_path / "pictures")
    expected = GridSearchCV(quick(), GRID, cv=2, refit=False).fit(paths, y)
    clf = quick(callbacks=[KillOnce(str(tmp_path / "mark"))])
    with parallel_config("dask"):
        found = GridSearchCV(clf, GRID, cv=2, refit=False, error_score="raise")
        found.fit(paths, y)
    assert (tmp_path / "mark").exists()
    for name in ("split0_test_score", "split1_test_score"):
        np.testing.assert_array_equal(
            found.cv_results_[name], expected.cv_results_[name]
        )


def test_tasks_know_that_they_run_in_a_worker(client):
    assert client.submit(is_worker, pure=False).result()
    assert not is_worker()


def warn_twice(number):
    warn("the same for all tasks")
    warn("the same for all tasks")


def test_a_warning_reaches_the_client_once_for_each_worker(client, forwarded):
    client.gather(client.map(warn_twice, range(8), pure=False))
    assert 1 <= forwarded().count("the same for all tasks") <= 2


def test_a_folder_that_machines_do_not_share_is_said_once(client, forwarded, tmp_path):
    X, y = pictures(24)
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    before = os.getcwd()
    client.run(os.chdir, there)
    os.chdir(here)
    try:
        with parallel_config("dask"):
            cross_val_score(quick(activation_cache="cache"), X, y, cv=4)
        said = [text for text in forwarded() if "is not shared" in text]
    finally:
        os.chdir(before)
        client.run(os.chdir, before)
    assert 1 <= len(said) <= 2
    assert str(there / "cache") in said[0]


class Holding(Callback):
    """Makes a lock as soon as it is made."""

    def __init__(self):
        self.lock_ = threading.Lock()


@pytest.mark.usefixtures("client")
def test_a_callback_that_cannot_be_sent_is_an_error_and_no_endless_wait():
    X, y = pictures(24)
    clf = quick(callbacks=[Holding()])
    with (
        parallel_config("dask"),
        pytest.raises(TypeError, match=r"^callbacks of this .* sent to another"),
    ):
        cross_val_score(clf, X, y, cv=2)


def test_without_a_scheduler_the_error_says_how_to_get_one():
    code = "import joblib; joblib.parallel_config('dask')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT
    )
    assert done.returncode == 1
    assert "To use Joblib with Dask first create a Dask Client" in done.stderr
