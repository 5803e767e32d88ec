"""A model that was loaded before: returned again exactly if it is the same."""

import os
import shutil
import threading
import time

import pytest

import sktransfer
from sktransfer._estimators.persistence import loading, reusing
from sktransfer._files.model_file import ModelFileError
from sktransfer._files.opening import hash_file, open_regular
from tests.estimators.persistence.fitted import fit
from tests.helpers import pictures


@pytest.fixture
def models(tmp_path):
    """Two files with other weights, of the same size and with the same times."""
    clf = fit("scratch")
    paths = [tmp_path / "a.sktransfer", tmp_path / "b.sktransfer"]
    clf.save(paths[0])
    other = sktransfer.load(paths[0])
    linear = other.net_.module_.get_submodule("head.linear")
    linear.bias.data += 1
    other.save(paths[1])
    assert paths[0].stat().st_size == paths[1].stat().st_size
    for path in paths:
        os.utime(path, (1e9, 1e9))
    return paths


def test_the_same_file_is_the_same_object(models):
    one = sktransfer.load(models[0], reuse=True)
    assert sktransfer.load(models[0], reuse=True) is one
    assert sktransfer.load(str(models[0]), reuse=True) is one
    assert sktransfer.load(models[0]) is not one
    assert sktransfer.load(models[1], reuse=True) is not one


def test_another_folder_to_work_in_is_another_file(models, tmp_path, monkeypatch):
    (tmp_path / "other").mkdir()
    shutil.copy2(models[1], tmp_path / "other" / "a.sktransfer")
    monkeypatch.chdir(tmp_path)
    one = sktransfer.load("a.sktransfer", reuse=True)
    monkeypatch.chdir(tmp_path / "other")
    assert sktransfer.load("a.sktransfer", reuse=True) is not one
    monkeypatch.chdir(tmp_path)
    assert sktransfer.load("a.sktransfer", reuse=True) is one


def test_a_file_that_was_overwritten_in_place_with_size_and_times_kept_is_another(
    models,
):
    X, _ = pictures(6)
    path = models[0]
    before = sktransfer.load(path, reuse=True)
    number = path.stat().st_ino
    path.write_bytes(models[1].read_bytes())
    os.utime(path, (1e9, 1e9))
    assert path.stat().st_ino == number
    after = sktransfer.load(path, reuse=True)
    assert after is not before
    assert (after.predict_proba(X) == sktransfer.load(path).predict_proba(X)).all()
    assert (after.predict_proba(X) != before.predict_proba(X)).any()


def test_other_parameters_are_another_object(models):
    given = (
        {},
        {"verbose": 0},
        {"verbose": False},
        {"device": "cpu"},
        {"net_params": {"iterator_train__num_workers": 0}},
        {"net_params": {}},
    )
    found = [sktransfer.load(models[0], params=p, reuse=True) for p in given]
    assert len(set(map(id, found))) == len(given)
    again = [sktransfer.load(models[0], params=p, reuse=True) for p in given]
    assert [id(one) for one in again] == [id(one) for one in found]


def test_no_more_than_a_few_models_are_kept_the_last_ones(models):
    sizes = [2**20 + i for i in range(reusing.MOST_KEPT + 1)]
    found = [
        sktransfer.load(models[0], params={"random_state": size}, reuse=True)
        for size in sizes
    ]
    assert len(reusing._kept) == reusing.MOST_KEPT
    last = {"random_state": sizes[-1]}
    assert sktransfer.load(models[0], params=last, reuse=True) is found[-1]
    first = {"random_state": sizes[0]}
    assert sktransfer.load(models[0], params=first, reuse=True) is not found[0]


def test_a_list_that_was_changed_since_is_another_parameter(models):
    callbacks = []
    one = sktransfer.load(models[0], params={"callbacks": callbacks}, reuse=True)
    callbacks.append(("nothing", None))
    other = sktransfer.load(models[0], params={"callbacks": callbacks}, reuse=True)
    assert one is not other


def test_a_parameter_that_cannot_be_compared_is_an_error_with_a_remedy(models):
    held = {"callbacks": [threading.Lock()]}
    with pytest.raises(TypeError, match=r"params\['callbacks'\].*reuse=False"):
        sktransfer.load(models[0], params=held, reuse=True)


def test_a_hash_that_is_not_that_of_the_file_is_an_error_though_it_is_loaded(models):
    path = models[0]
    one = sktransfer.load(path, reuse=True)
    with open_regular(path) as file:
        digest = hash_file(file)
    assert sktransfer.load(path, sha256=f" {digest.upper()}", reuse=True) is one
    with pytest.raises(ModelFileError, match="not the '0000"):
        sktransfer.load(path, sha256="0" * 64, reuse=True)


def test_a_folder_or_nothing_in_its_place_is_the_usual_error(models):
    with pytest.raises(ModelFileError, match="folder"):
        sktransfer.load(models[0].parent, reuse=True)
    sktransfer.load(models[0], reuse=True)
    models[0].unlink()
    with pytest.raises(FileNotFoundError):
        sktransfer.load(models[0], reuse=True)


def test_two_threads_load_once(models, monkeypatch):
    calls, build = [], loading._build

    def build_slowly(*args):
        calls.append(args)
        time.sleep(0.2)
        return build(*args)

    monkeypatch.setattr(loading, "_build", build_slowly)
    found, gate = [], threading.Barrier(4)

    def load():
        gate.wait()
        found.append(sktransfer.load(models[0], reuse=True))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1
    assert len(found) == 4
    assert len(set(map(id, found))) == 1


def test_a_file_replaced_between_hashing_and_loading_is_loaded_as_it_is_then(
    models, monkeypatch
):
    path, build = models[0], loading._load

    def replace_first(*args):
        monkeypatch.setattr(loading, "_load", build)
        path.write_bytes(models[1].read_bytes())
        return build(*args)

    monkeypatch.setattr(loading, "_load", replace_first)
    X, _ = pictures(6)
    found = sktransfer.load(path, reuse=True)
    expected = sktransfer.load(models[1])
    assert (found.predict_proba(X) == expected.predict_proba(X)).all()
    assert sktransfer.load(path, reuse=True) is found


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_forked_process_has_loaded_nothing(models):
    sktransfer.load(models[0], reuse=True)
    child = os.fork()
    if not child:
        os._exit(len(reusing._kept))
    assert reusing._kept
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
