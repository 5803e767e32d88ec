"""What estimators take along to other processes, and what is looked at there."""

import copy
import multiprocessing
import os
import pickle
import threading
import warnings
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.backend.reduction import dumps
from joblib.parallel import get_active_backend
from sklearn.base import clone
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from sktransfer import ActivationCache, FeatureExtractor
from sktransfer._activations.storage import identity
from sktransfer._activations.storage.folder import MARK, MARKER, Folder
from sktransfer._estimators.workers import travelling
from tests.estimators.workers.clusters import KillOnce, quick
from tests.helpers import pictures

spawn = multiprocessing.get_context("spawn")


def other_versions():
    return {**travelling.list_versions(), "torch": "1.0"}


@pytest.fixture
def sent():
    """An estimator as a process with another torch has sent it."""
    with pytest.MonkeyPatch.context() as there:
        there.setattr(travelling, "_list_that_compute", other_versions)
        return pickle.dumps(quick(max_epochs=1))


def test_a_worker_refuses_an_estimator_of_other_versions(monkeypatch):
    X, y = pictures(12)
    monkeypatch.setattr(travelling, "_list_that_compute", other_versions)
    with (
        parallel_config("loky", n_jobs=2, inner_max_num_threads=1),
        pytest.raises(RuntimeError, match=r"torch 1\.0 \(here \d.*same versions every"),
    ):
        cross_val_score(quick(max_epochs=1), X, y, cv=2, error_score="raise")


def test_a_clone_in_a_worker_is_refused_as_well(sent, monkeypatch):
    monkeypatch.setattr(travelling, "is_worker", lambda: True)
    for estimator in (pickle.loads(sent), clone(pickle.loads(sent))):
        with pytest.raises(RuntimeError, match="other versions"):
            estimator.fit(*pictures(12))


def test_the_main_process_fits_an_estimator_of_other_versions(sent):
    estimator = pickle.loads(sent).fit(*pictures(12))
    assert travelling.DIFFERENCE not in pickle.loads(pickle.dumps(estimator)).__dict__


def test_a_pickle_of_an_earlier_release_is_read_and_fitted(monkeypatch):
    monkeypatch.setattr(travelling, "is_worker", lambda: True)
    with monkeypatch.context() as earlier:
        earlier.setattr(travelling, "LUGGAGE", "_unknown_then")
        old = quick()
        state = old.__getstate__()
        state.pop("_unknown_then")
    new = type(old).__new__(type(old))
    new.__setstate__(state)
    assert vars(new) == vars(old)


@pytest.mark.parametrize("make", [quick, lambda: FeatureExtractor("mini_resnet18")])
def test_what_travels_leaves_no_trace_in_the_estimator(make):
    estimator = make()
    again = pickle.loads(pickle.dumps(estimator))
    assert vars(again).keys() == vars(estimator).keys()
    assert pickle.dumps(again) == pickle.dumps(clone(estimator))
    assert travelling.LUGGAGE not in vars(copy.copy(estimator))


def count_bytes(cache, n):
    """Bytes of a task on n paths, and of the paths."""
    paths = [f"/data/pictures/of/class/{i:06d}.jpg" for i in range(n)]
    clf = quick(activation_cache=cache)
    task = (clf, paths, np.zeros(n, np.int8), np.arange(n, dtype=np.int32))
    return len(dumps(task)), len(dumps(paths))


@pytest.mark.parametrize("with_folder", [False, True])
def test_a_task_is_hardly_larger_than_its_paths(tmp_path, with_folder):
    X, y = pictures(24)
    cache = ActivationCache(path=tmp_path / "cache" if with_folder else None)
    quick(activation_cache=cache).fit(X, y)
    assert cache.info().n_bytes > 2**14
    task, paths = count_bytes(cache, 10_000)
    assert task - paths < 10_000 * 5 + 2**13


def fit_elsewhere(folder, sent, said):
    """Unpickle an estimator where its path means another folder; fit it twice."""
    os.chdir(folder)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always")
        for _ in range(2):
            pickle.loads(sent).set_params(device="cpu").fit(*pictures(12))
    said.put([str(some.message) for some in raised])


def run_elsewhere(folder, estimator):
    """Return the warnings of another process."""
    folder.mkdir(exist_ok=True)
    said = spawn.Queue()
    args = (folder, pickle.dumps(estimator), said)
    process = spawn.Process(target=fit_elsewhere, args=args, daemon=True)
    process.start()
    texts = said.get(timeout=120)
    process.join()
    return [text for text in texts if "is not shared" in text]


@pytest.mark.parametrize("make", [str, lambda path: ActivationCache(path=path)])
def test_a_folder_that_is_another_one_in_a_worker_is_said_once(
    tmp_path, monkeypatch, make
):
    monkeypatch.chdir(tmp_path)
    clf = quick(max_epochs=1, activation_cache=make("cache"))
    ActivationCache.get("cache")  # the folder is made by whatever uses it first
    (text,) = run_elsewhere(tmp_path / "there", clf)
    assert str(tmp_path / "there" / "cache") in text
    assert "every machine computes activations for itself" in text


def test_a_folder_that_is_shared_is_not_warned_of(tmp_path):
    clf = quick(max_epochs=1, activation_cache=tmp_path / "cache")
    assert run_elsewhere(tmp_path / "there", clf) == []


def test_the_identity_of_a_folder_stays(tmp_path):
    cache = ActivationCache(path=tmp_path / "cache")
    cache.info()
    token = identity.read_identity(tmp_path / "cache")
    assert len(token) == 32
    cache.clear()
    ActivationCache(path=tmp_path / "cache").info()
    assert identity.read_identity(tmp_path / "cache") == token


def test_a_folder_of_an_earlier_release_gets_an_identity(tmp_path):
    (tmp_path / MARKER).write_text(MARK)
    ActivationCache(path=tmp_path).info()
    assert identity.read_identity(tmp_path)


def test_of_two_processes_that_write_an_identity_the_first_wins(tmp_path, monkeypatch):
    monkeypatch.setattr(os.path, "lexists", lambda path: False)
    identity.give_identity(tmp_path, tmp_path / "a")
    token = identity.read_identity(tmp_path)
    identity.give_identity(tmp_path, tmp_path / "b")
    assert identity.read_identity(tmp_path) == token
    assert [path.name for path in tmp_path.iterdir()] == [identity.NAME]


def test_without_links_a_folder_has_no_identity_and_works(tmp_path, monkeypatch):
    def refuse(*args):
        raise PermissionError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    said = []
    store = Folder(tmp_path / "cache", "auto", said.append)
    store.prepare()
    assert identity.read_identity(tmp_path / "cache") is None
    assert store.can_write
    assert said == []


@pytest.mark.parametrize("content", [b"", b"x" * 32, b"\xff" * 32, b"0" * 33])
def test_what_is_no_token_is_no_identity(tmp_path, content):
    (tmp_path / identity.NAME).write_bytes(content)
    assert identity.read_identity(tmp_path) is None


def test_neither_pickles_nor_copies_make_a_folder(tmp_path):
    clf = quick(activation_cache=str(tmp_path / "cache"))
    for copied in (pickle.loads(pickle.dumps(clf)), copy.copy(clf), copy.deepcopy(clf)):
        assert copied.activation_cache == clf.activation_cache
    assert not list(tmp_path.iterdir())


def test_what_cannot_travel_can_be_copied():
    lock = threading.Lock()

    def augment(batch):
        with lock:
            return batch

    clf = quick(augment=augment)
    for copied in (copy.copy(clf), copy.deepcopy(clf)):
        assert copied.augment is augment


def test_pickling_does_not_fail_for_a_folder_that_cannot_be_used(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    clf = quick(activation_cache=str(tmp_path))
    assert pickle.loads(pickle.dumps(clf)).activation_cache == str(tmp_path)
    assert [path.name for path in Path(tmp_path).iterdir()] == ["thesis.txt"]


class Holding(Callback):
    """Makes a lock as soon as it is made."""

    def __init__(self):
        self.lock_ = threading.Lock()


def test_a_parameter_that_cannot_be_pickled_is_named():
    with pytest.raises(TypeError, match=r"callbacks of this ResNet.*_thread\.lock"):
        pickle.dumps(quick(callbacks=[Holding()]))


def test_a_parameter_that_cannot_be_cloned_is_named():
    with pytest.raises(TypeError, match=r"callbacks of this ResNet.*_thread\.lock"):
        clone(quick(callbacks=[KillOnce(threading.Lock())]))


def test_a_parameter_that_cannot_be_sent_is_named_by_loky():
    X, y = pictures(12)
    with (
        parallel_config("loky", n_jobs=2),
        pytest.raises(pickle.PicklingError) as raised,
    ):
        cross_val_score(make_pipeline(quick(callbacks=[Holding()])), X, y, cv=2)
    assert "callbacks of this ResNetTransferClassifier" in str(raised.value.__cause__)


def is_flipped(clf):
    return bool(clf.augment(np.array([1, 2]))[0] == 2)


def test_a_lambda_travels_to_workers_of_joblib():
    clf = quick(augment=lambda x: x[::-1])
    with parallel_config("loky", n_jobs=2):
        assert Parallel()([delayed(is_flipped)(clf)] * 2) == [True, True]


class Loop(Callback):
    """Holds the estimator that holds it."""

    def __init__(self, clf=None):
        self.clf = clf


def test_a_callback_that_holds_its_estimator_is_pickled():
    clf = quick()
    clf.callbacks = [Loop(clf)]
    again = pickle.loads(pickle.dumps(clf))
    assert again.callbacks[0].clf is again


class NoteBackend(Callback):
    """Notes how joblib would run what is called within a fit."""

    said: ClassVar[list] = []

    def on_epoch_end(self, net, **kwargs):
        self.said.append(type(get_active_backend()[0]).__name__)


def test_what_a_fit_runs_through_joblib_stays_in_its_thread():
    # On Dask it would wait behind the next fit, and that one for this.
    with parallel_config("threading", n_jobs=2):
        quick(callbacks=[NoteBackend()]).fit(*pictures(12))
    assert set(NoteBackend.said) == {"SequentialBackend"}
