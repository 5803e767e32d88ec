"""Fits, processes and runs share a folder of activations, and nothing else changes."""

import os
import shutil
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from joblib import parallel_config
from sklearn.model_selection import GridSearchCV

from sktransfer import ActivationCache, DrawnViews, ResNetFeatureExtractor
from sktransfer._activations.cache import CacheInfo, resolve_cache
from sktransfer._activations.prefix import Prefix
from sktransfer._activations.storage.segments import read_segment
from sktransfer._networks.backbones.resnet import MINI_WIDTH
from tests.helpers import files, fit_cached, pictures, transfer

try:
    import resource
except ImportError:  # Windows
    resource = None


@pytest.fixture
def no_computing(monkeypatch):
    """Nothing passes frozen stages any more."""

    def fail(*args):
        raise AssertionError("an image passed the frozen stages")

    return lambda: monkeypatch.setattr(Prefix, "encode", fail)


@pytest.mark.parametrize(
    "changes",
    [
        {"unfreeze_depth": 0, "augment": "flip"},
        {"unfreeze_depth": 2, "early_stopping": True},
        {"augment": DrawnViews(3)},
        {"precision": "bfloat16"},
    ],
)
def test_cold_or_warm_folder_memory_or_none_give_the_same_bits(tmp_path, changes):
    X, y = pictures(60)
    cold, warm, only_disk, no_room, off = (
        fit_cached(X, y, cache, **changes).predict_proba(X)
        for cache in (
            ActivationCache(path=tmp_path / "a"),
            ActivationCache(path=tmp_path / "a"),
            ActivationCache(0, path=tmp_path / "b"),
            ActivationCache(0, path=tmp_path / "c", max_disk_bytes=0),
            None,
        )
    )
    for proba in (warm, only_disk, no_room, off):
        np.testing.assert_array_equal(proba, cold)


def test_a_later_run_computes_nothing(tmp_path, no_computing):
    X, y = pictures(40)
    first = fit_cached(X, y, tmp_path / "cache")
    assert first.cache_info_.misses == 40
    layer3 = 4 * MINI_WIDTH * 2 * 2 * 4  # bytes of its activation
    assert first.cache_info_.n_bytes_on_disk > first.cache_info_.n_bytes == 40 * layer3
    no_computing()
    for max_bytes in ("auto", 0, 5000):
        again = fit_cached(X, y, ActivationCache(max_bytes, path=tmp_path / "cache"))
        np.testing.assert_array_equal(again.predict_proba(X), first.predict_proba(X))
        assert again.cache_info_.misses == 0
        assert again.cache_info_.hits > 40


def test_estimators_that_name_the_same_folder_share_its_memory(tmp_path):
    assert resolve_cache(tmp_path / "c") is resolve_cache(str(tmp_path / "c"))


PROGRAM = """
import sys, time, torch
torch.set_num_threads(1)
import sktransfer._activations.storage.tiers as _tiers
from sktransfer import ActivationCache
from sktransfer._activations.prefix import Prefix
from tests.helpers import fit_cached, pictures

encode = Prefix.encode

def slow(*args):
    time.sleep(0.03)
    return encode(*args)

Prefix.encode = slow
_tiers.BLOCK_ROWS = 32
fit_cached(*pictures(10), ActivationCache(), max_epochs=1)  # all is imported
X, y = pictures(300)
cache = ActivationCache(path=sys.argv[1])
sys.stdout.write("ready\\n"); sys.stdout.flush()
sys.stdin.readline()
clf = fit_cached(X, y, cache, max_epochs=1)
print(clf.cache_info_.misses, float(clf.predict_proba(X).sum(axis=0)[0]).hex())
"""


def test_two_processes_that_want_the_same_images_share_the_work(tmp_path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "cache")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0].split() for process in processes]
    misses = [int(n) for n, _ in said]
    assert sum(misses) == 300
    assert min(misses) > 0
    assert said[0][1] == said[1][1]


def test_a_parallel_search_computes_each_image_once_and_scores_the_same(
    tmp_path, no_computing
):
    X, y = pictures(30)
    grid = {"dropout": [0.0, 0.5]}
    clf = transfer(unfreeze_depth=1, augment=None, head_init="random")
    serial = GridSearchCV(clf, grid, cv=3, error_score="raise").fit(X, y)
    cache = ActivationCache(path=tmp_path / "cache")
    shared = clf.set_params(activation_cache=cache)
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = GridSearchCV(
            shared, grid, cv=3, error_score="raise", n_jobs=2, refit=False
        ).fit(X, y)
    np.testing.assert_array_equal(
        parallel.cv_results_["mean_test_score"], serial.cv_results_["mean_test_score"]
    )
    keys = set()
    for path in files(tmp_path):
        of_file = read_segment(path).keys
        assert not keys & set(of_file)
        keys |= set(of_file)
    assert len(keys) == 30
    no_computing()
    fit_cached(X, y, ActivationCache(path=tmp_path / "cache"))


def test_damaged_files_change_no_probability_and_warn_once(tmp_path):
    X, y = pictures(60)
    expected = fit_cached(X, y, tmp_path / "cache").predict_proba(X)
    for i, path in enumerate(files(tmp_path)):
        content = bytearray(path.read_bytes())
        if i % 2:
            content = content[: len(content) // 2]
        else:
            content[-5] ^= 16
        path.write_bytes(content)
    cache = ActivationCache(path=tmp_path / "cache")
    settings = {"unfreeze_depth": 1, "augment": None, "head_init": "random"}
    clf = transfer(activation_cache=cache, **settings)
    with pytest.warns(UserWarning, match="is damaged") as warned:
        again = clf.fit(X, y)
    assert len(warned) == 1
    assert warned[0].filename == __file__
    np.testing.assert_array_equal(again.predict_proba(X), expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mended = fit_cached(X, y, ActivationCache(path=tmp_path / "cache"))
    assert mended.cache_info_.misses == 0


@pytest.mark.skipif(resource is None, reason="no limit on files here")
def test_a_full_disk_changes_no_probability_and_warns_once(tmp_path):
    X, y = pictures(60)
    expected = fit_cached(X, y, None).predict_proba(X)
    cache = ActivationCache(path=tmp_path / "cache")
    cache.info()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.warns(UserWarning, match="cannot be written to") as warned:
            clf = fit_cached(X, y, cache)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(warned) == 1
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    assert not files(tmp_path)


def test_a_read_only_folder_serves_what_it_has_and_warns_once(tmp_path, monkeypatch):
    X, y = pictures(60)
    fit_cached(X[:30], y[:30], ActivationCache(path=tmp_path / "cache"))

    def refuse(*args, **kwargs):
        raise OSError(30, "Read-only file system")

    really_open = os.open

    def only_read(path, flags, *args, **kwargs):
        return (refuse if flags & os.O_RDWR else really_open)(path, flags, *args)

    for name in ("replace", "utime"):
        monkeypatch.setattr(os, name, refuse)
    monkeypatch.setattr(os, "open", only_read)
    monkeypatch.setattr("pathlib.Path.write_bytes", refuse)
    with pytest.warns(UserWarning, match="Read-only file system") as warned:
        clf = fit_cached(X, y, ActivationCache(path=tmp_path / "cache"))
    assert len(warned) == 1
    assert clf.cache_info_.misses == 30
    monkeypatch.undo()
    np.testing.assert_array_equal(
        clf.predict_proba(X), fit_cached(X, y, None).predict_proba(X)
    )


def test_a_folder_deleted_while_in_use_changes_nothing(tmp_path):
    X, y = pictures(40)
    cache = ActivationCache(0, path=tmp_path / "cache")
    expected = fit_cached(X, y, cache).predict_proba(X)
    shutil.rmtree(tmp_path / "cache")
    with pytest.warns(UserWarning, match="cannot be written to"):
        again = fit_cached(X, y, cache)
    np.testing.assert_array_equal(again.predict_proba(X), expected)


@pytest.mark.parametrize("estimator", ["classifier", "extractor"])
def test_a_wrong_folder_is_refused_before_training(tmp_path, estimator):
    (tmp_path / "thesis.txt").write_text("mine")
    X, y = pictures(12)
    for path in (tmp_path, tmp_path / "thesis.txt"):
        clf = transfer(activation_cache=path, weights="no/such/weights.pth")
        if estimator == "extractor":
            clf = ResNetFeatureExtractor("mini_resnet18", activation_cache=str(path))
        with pytest.raises(ValueError, match=r"activation_cache=.* (is a|holds)"):
            clf.fit(X, y)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_clear_empties_the_folder_for_every_process(tmp_path):
    X, y = pictures(30)
    cache = ActivationCache(path=tmp_path / "cache")
    fit_cached(X, y, cache)
    assert cache.info().n_bytes_on_disk > 0
    cache.clear()
    assert cache.info() == CacheInfo(0, 0, 0, 0.0, 0)
    assert (
        fit_cached(X, y, ActivationCache(path=tmp_path / "cache")).cache_info_.misses
        == 30
    )


def test_a_limit_on_disk_is_kept(tmp_path):
    X, y = pictures(200)
    cache = ActivationCache(0, path=tmp_path / "cache", max_disk_bytes=400_000)
    expected = fit_cached(X, y, None).predict_proba(X)
    np.testing.assert_array_equal(fit_cached(X, y, cache).predict_proba(X), expected)
    assert 0 < cache.info().n_bytes_on_disk <= 400_000


@pytest.mark.parametrize("augment", ["flip", DrawnViews(3), None])
def test_after_warming_a_fit_and_its_predictions_compute_nothing(
    tmp_path, no_computing, augment
):
    X, y = pictures(30)
    cache = ActivationCache(path=tmp_path / "cache")
    clf = transfer(activation_cache=cache, unfreeze_depth=1, augment=augment)
    n_views = {"flip": 2, None: 1}.get(augment, 3)
    # Behind the frozen stages, and pooled behind the last one.
    assert cache.warm(clf, X).misses == 2 * 30 * n_views
    assert cache.warm(clf, X).misses == 0
    assert not hasattr(clf, "net_")
    no_computing()
    clf.fit(X, y).predict(X)


def test_the_extractor_can_be_warmed_and_so_can_random_weights(no_computing):
    X, y = pictures(30)
    cache = ActivationCache()
    extractor = ResNetFeatureExtractor(
        "mini_resnet18", image_size=8, activation_cache=cache, device="cpu"
    )
    random = transfer(activation_cache=cache, weights=None, augment=None)
    assert cache.warm(extractor, X).misses == 30
    assert cache.warm(random, X).misses == 60
    no_computing()
    extractor.fit_transform(X)
    random.fit(X, y)


def test_warming_has_nothing_to_do_where_every_stage_learns():
    clf = transfer(unfreeze_depth=5, head_init="random")
    assert ActivationCache().warm(clf, pictures(12)[0]) == CacheInfo(0, 0, 0, 0.0)


def test_images_of_another_shape_that_are_not_resized_do_not_meet():
    cache = ActivationCache()
    X, y = pictures(20)
    for images in (X, np.repeat(X, 2, axis=1)):
        fit_cached(images, y, cache, image_size=None)
    assert cache.info().misses == 40


def test_a_budget_below_one_activation_warns_once_and_changes_nothing():
    X, y = pictures(30)
    cache = ActivationCache(100)
    with pytest.warns(UserWarning, match="max_bytes=100 is less than one"):
        clf = fit_cached(X, y, cache)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fit_cached(X, y, cache)
    np.testing.assert_array_equal(
        clf.predict_proba(X), fit_cached(X, y, None).predict_proba(X)
    )


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"augment": "flip_crop"},
            "augment='flip_crop' draws new views in",
        ),
        ({"augment": "advanced"}, "augment='advanced' draws new views in every epoch"),
        (
            {"mixup": 0.2},
            "not used: mixup=0.2 mixes new pairs of images in every epoch",
        ),
        ({"mixup": 0.2, "cutmix": 1}, "mixup=0.2 or cutmix=1.0 mixes new pairs"),
        (
            {"cutmix": 1, "activation_cache": None},
            "activation_cache=None: the frozen stages (stem, ",
        ),
        ({"unfreeze_depth": 5}, "not used: every stage learns"),
        (
            {"activation_cache": None},
            "activation_cache=None: the frozen stages (stem, ",
        ),
        ({"augment": None}, "30 activations computed, 38 found"),
    ],
)
def test_verbose_says_what_became_of_the_cache(capsys, changes, said):
    X, y = pictures(30)
    settings = {"unfreeze_depth": 1, "head_init": "random", **changes}
    settings = {"activation_cache": ActivationCache(), **settings}
    transfer(verbose=1, **settings).fit(X, y)
    assert said in capsys.readouterr().out
    transfer(verbose=0, **settings).fit(X, y)
    assert capsys.readouterr().out == ""


def test_a_later_run_that_knows_no_seconds_names_none(tmp_path, capsys):
    X, y = pictures(30)
    for said in ("60 activations computed", "0 activations computed"):
        cache = ActivationCache(path=tmp_path / "cache")
        transfer(activation_cache=cache, augment=None, verbose=1).fit(X, y)
        line = capsys.readouterr().out.splitlines()[-1]
        assert said in line
        assert ("s saved" in line) == (said[0] == "6")


def test_a_slow_moment_does_not_count_as_time_saved():
    cache = ActivationCache()
    assert cache._count(5) == 0
    cache._count(0, 100, 0.01)
    cache._count(0, 1, 50.0)
    assert cache._count(10) == pytest.approx(0.1)
    assert cache.info().seconds_saved == pytest.approx(0.1)


def test_a_fit_does_not_wait_until_a_cache_is_warm(monkeypatch):
    X, y = pictures(40)
    encode, is_warming = Prefix.encode, threading.Event()
    may_go_on = threading.Event()

    def slow(*args):
        if threading.current_thread() is not threading.main_thread():
            is_warming.set()
            assert may_go_on.wait(20)
        return encode(*args)

    monkeypatch.setattr(Prefix, "encode", slow)
    warmer = threading.Thread(target=ActivationCache().warm, args=(transfer(), X))
    warmer.start()
    try:
        assert is_warming.wait(20)
        fit_cached(X, y, None)  # while the other thread is at work
        assert warmer.is_alive()
    finally:
        may_go_on.set()
        warmer.join()
