"""Activations of frozen stages are computed once, and change nothing."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from skorch.callbacks import Callback

from sktransfer import (
    ActivationCache,
    DrawnViews,
    ResNetFeatureExtractor,
    ScratchCNNClassifier,
)
from sktransfer._activations.cache import resolve_cache
from sktransfer._activations.keys import hash_images, hash_views
from sktransfer._activations.prefix import Prefix
from sktransfer._activations.rows import ActivationRows
from sktransfer._activations.storage.memory import resolve_budget
from sktransfer._images.views import AS_IT_IS
from sktransfer._networks.backbones.build import make_pretrained, make_stages
from sktransfer._networks.backbones.resnet import MINI_WIDTH
from sktransfer._networks.stages import Stages
from tests.helpers import pictures, transfer

PLAIN = (AS_IT_IS,)
CPU = torch.device("cpu")
FEATURE_BYTES = 8 * MINI_WIDTH * 4  # pooled features of mini_resnet18


@pytest.fixture
def counted(monkeypatch):
    """Count the images that pass a prefix, one entry per call."""
    calls = []
    encode = Prefix.encode

    def counting(self, images, rows, *others):
        calls.append(len(rows))
        return encode(self, images, rows, *others)

    monkeypatch.setattr(Prefix, "encode", counting)
    return calls


@pytest.mark.parametrize(
    "settings",
    [
        {"unfreeze_depth": 0},
        {"unfreeze_depth": 0, "augment": None},
        {"unfreeze_depth": 2, "max_epochs": 3},
        {"unfreeze_depth": 1, "early_stopping": True},
        {"unfreeze_depth": 1, "precision": "bfloat16", "tta": "flip_shift"},
        {"unfreeze_depth": 1, "unfreeze_schedule": "immediate", "augment": "flip_crop"},
    ],
)
def test_every_kind_of_cache_gives_the_same_probabilities_bit_for_bit(settings):
    X, y = pictures(60)
    own = ActivationCache()
    cold, warm, small, empty, off = (
        transfer(activation_cache=cache, **settings).fit(X, y).predict_proba(X)
        for cache in (own, own, ActivationCache(20_000), ActivationCache(0), None)
    )
    for proba in (warm, small, empty, off):
        np.testing.assert_array_equal(proba, cold)


def test_no_image_passes_the_frozen_stages_twice(counted):
    X, y = pictures(40)
    cache = ActivationCache()
    settings = {"unfreeze_depth": 1, "augment": None, "head_init": "random"}
    clf = transfer(activation_cache=cache, max_epochs=4, **settings)
    clf.fit(X, y)
    clf.predict(X)
    clone(clf).set_params(dropout=0.5).fit(X, y)
    assert sum(counted) == 40
    assert cache.info().misses == 40
    assert clf.cache_info_.misses == 40
    assert clf.cache_info_.hits >= 3 * 40


def test_a_mirrored_image_is_another_view(counted):
    X, y = pictures(40)
    cache = ActivationCache()
    transfer(activation_cache=cache, unfreeze_depth=0, max_epochs=20).fit(X, y)
    assert sum(counted) == cache.info().misses == 80


def test_folds_and_candidates_share_one_pass(counted):
    X, y = pictures(30)
    grid = {"dropout": [0.0, 0.5], "lr": [0.01, 0.05]}
    clf = transfer(activation_cache=ActivationCache(), unfreeze_depth=1, augment=None)
    GridSearchCV(clf, grid, cv=3, error_score="raise").fit(X, y)
    assert sum(counted) == 30


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_extractor_and_a_linear_probe_share_activations(counted, precision):
    X, y = pictures(30)
    cache = ActivationCache()
    extractor = ResNetFeatureExtractor(
        "mini_resnet18",
        image_size=8,
        activation_cache=cache,
        device="cpu",
        precision=precision,
    )
    pipeline = make_pipeline(extractor, LogisticRegression())
    cross_val_predict(pipeline, X, y, cv=3)
    transfer(
        activation_cache=cache, unfreeze_depth=0, augment=None, precision=precision
    ).fit(X, y)
    assert sum(counted) == 30


def test_views_to_predict_from_that_training_has_seen_are_not_computed_again(counted):
    X, y = pictures(30)
    clf = transfer(unfreeze_depth=0, max_epochs=12, activation_cache=ActivationCache())
    clf.fit(X, y)
    n_seen = sum(counted)
    assert 30 < n_seen <= 60
    clf.set_params(tta="flip").predict(X)
    assert sum(counted) == 60


def test_an_image_that_stands_twice_is_computed_once(counted):
    X, y = pictures(20)
    clf = transfer(activation_cache=ActivationCache(), unfreeze_depth=0, augment=None)
    clf.fit(np.concatenate([X, X]), np.concatenate([y, y]))
    assert sum(counted) == 20


def rows_of(stages: Stages, X, cache, n_stages=3):
    return ActivationRows(Prefix(stages, n_stages, CPU, "float32"), X, PLAIN, cache)


def fill(stages, X, cache, **options):
    rows = rows_of(stages, X, cache, **options)
    n = len(X)
    rows.ensure(np.arange(n), np.zeros(n, int))
    rows.close()
    return rows


@pytest.mark.parametrize(
    "change",
    [
        "weight",
        "statistic",
        "size",
        "normalisation",
        "cut",
        "pixel",
        "dtype",
        "torch",
        "processor",
    ],
)
def test_what_has_changed_is_not_found(change, monkeypatch):
    X, _ = pictures(16)
    cache = ActivationCache()
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    fill(stages, X, cache)
    n_stages = 3
    if change == "weight":
        stages.layer1[0].conv1.weight.data[0] += 1e-3
    elif change == "statistic":
        stages.layer1[0].bn1.running_mean += 1e-3
    elif change == "size":
        stages.preprocess.image_size = (12, 12)
    elif change == "normalisation":
        stages.preprocess.mean[0] += 1e-3
    elif change == "torch":
        monkeypatch.setattr(torch, "__version__", "2.99.0")
    elif change == "processor":
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other")
    elif change == "cut":
        n_stages = 2
    elif change == "pixel":
        X = X ^ np.uint8(1)
    else:
        X = X.astype(np.float32)
    assert fill(stages, X, cache, n_stages=n_stages).hits == 0


def test_what_lies_behind_the_prefix_may_change():
    X, _ = pictures(16)
    cache = ActivationCache()
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    fill(stages, X, cache)
    stages.layer4[0].conv1.weight.data[0] += 1
    other = make_stages("mini_resnet18", 7, 0.5, (8, 8)).eval()
    other.load_state_dict(stages.state_dict() | head_of(other))
    assert fill(stages, X, cache).misses == 0
    assert fill(other, X, cache).misses == 0


def head_of(stages):
    return {k: v for k, v in stages.state_dict().items() if k.startswith("head")}


def test_what_was_used_least_recently_goes_first():
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    cache = ActivationCache(30 * FEATURE_BYTES)
    old, middle, new = (pictures(10, seed=seed)[0] for seed in (1, 2, 3))
    for X in (old, middle, new, old):
        fill(stages, X, cache, n_stages=5)
    fill(stages, pictures(10, seed=4)[0], cache, n_stages=5)
    assert cache.info().n_bytes <= 30 * FEATURE_BYTES
    assert fill(stages, old, cache, n_stages=5).misses == 0
    assert fill(stages, new, cache, n_stages=5).misses == 0
    assert fill(stages, middle, cache, n_stages=5).hits == 0


def test_what_a_fit_uses_now_is_not_taken_away():
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    cache = ActivationCache(20 * FEATURE_BYTES)
    X = pictures(20)[0]
    rows = rows_of(stages, X, cache, n_stages=5)
    rows.ensure(np.arange(20), np.zeros(20, int))
    before = rows.gather(np.arange(20), np.zeros(20, int)).clone()
    fill(stages, pictures(20, seed=5)[0], cache, n_stages=5)
    assert torch.equal(rows.gather(np.arange(20), np.zeros(20, int)), before)
    rows.close()
    fill(stages, pictures(20, seed=5)[0], cache, n_stages=5)
    assert fill(stages, X, cache, n_stages=5).hits == 0


def test_another_network_makes_room_for_itself():
    cache = ActivationCache(20 * FEATURE_BYTES)
    first, second = (make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval() for _ in "ab")
    X = pictures(20)[0]
    for stages in (first, second):
        fill(stages, X, cache, n_stages=5)
    assert cache.info().n_bytes == 20 * FEATURE_BYTES
    assert fill(second, X, cache, n_stages=5).misses == 0


def test_clearing_in_the_middle_of_a_fit_changes_nothing():
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    cache = ActivationCache()
    X, none = pictures(20)[0], np.zeros(20, int)
    rows = rows_of(stages, X, cache)
    rows.ensure(np.arange(20), none)
    before = rows.gather(np.arange(20), none).clone()
    cache.clear()
    assert cache.info().n_bytes == 0
    assert torch.equal(rows.gather(np.arange(20), none), before)
    fill(stages, pictures(20, seed=1)[0], cache)
    assert torch.equal(rows.gather(np.arange(20), none), before)


def test_clearing_a_full_cache_in_mid_fit_leaves_what_the_fit_uses_alone():
    X, y = pictures(40)
    cache = ActivationCache(40 * FEATURE_BYTES)  # for one of two views

    class Clears(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                cache.clear()

    settings = {"unfreeze_depth": 0, "max_epochs": 6, "callbacks": [Clears()]}
    for seed in (1, 2, 3):
        transfer(activation_cache=cache, unfreeze_depth=0).fit(*pictures(40, seed))
    proba = transfer(activation_cache=cache, **settings).fit(X, y).predict_proba(X)
    off = transfer(activation_cache=None, **settings).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(proba, off)


def test_fits_in_threads_may_share_a_cache():
    stages = make_pretrained("mini_resnet18", "auto", 3, 0.0, 8, (8, 8, 3)).eval()
    sets = [pictures(24, seed=seed)[0] for seed in range(6)]
    every, none = np.arange(24), np.zeros(24, int)
    expected = [rows_of(stages, X, None).gather(every, none) for X in sets]
    cache = ActivationCache(3 * 24 * expected[0][0].numel() * 4)

    def use(X):
        rows = rows_of(stages, X, cache)
        rows.ensure(every, none)
        out = rows.gather(every, none)
        rows.close()
        return out

    with ThreadPoolExecutor(4) as pool:
        for got, want in zip(pool.map(use, sets * 3), expected * 3, strict=True):
            assert torch.equal(got, want)


def test_neighbours_and_positions_do_not_change_an_activation():
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    prefix = Prefix(stages, 4, CPU, "float32")
    X = pictures(37)[0]
    together = prefix.encode(X, np.arange(37), PLAIN, np.zeros(37, int))
    order = np.random.default_rng(0).permutation(37)
    shuffled = prefix.encode(X, order, PLAIN, np.zeros(37, int))
    assert torch.equal(together[torch.from_numpy(order)], shuffled)
    none = np.zeros(1, int)
    alone = torch.cat([prefix.encode(X, np.array([i]), PLAIN, none) for i in range(5)])
    assert torch.equal(alone, together[:5])


def test_keys_tell_pixels_shape_and_dtype_apart():
    X = pictures(4)[0]
    rows = np.arange(4)
    keys = hash_images(X, rows)
    turned = hash_images(np.ascontiguousarray(X[::-1]), rows)
    np.testing.assert_array_equal(turned, keys[::-1])
    others = [
        hash_images(Z, rows) for Z in (X.astype(np.int16), X.reshape(4, 4, 16, 3))
    ]
    assert len(np.unique(np.concatenate([keys, *others]), axis=0)) == 12


def test_keys_of_views_are_all_different():
    views = DrawnViews(20).views(32, 32)
    assert len(np.unique(hash_views(views), axis=0)) == len(views)


def test_clones_share_the_cache_and_pickles_start_an_empty_one():
    X, y = pictures(12)
    cache = ActivationCache(10**6)
    clf = transfer(activation_cache=cache)
    assert clone(clf).activation_cache is cache
    clf.fit(X, y)
    copy = pickle.loads(pickle.dumps(clf))
    assert copy.activation_cache.max_bytes == 10**6
    assert copy.activation_cache.info().n_bytes == 0
    np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))


def test_auto_is_one_cache_for_the_process_with_a_share_of_free_memory():
    assert resolve_cache("auto") is resolve_cache("auto")
    assert resolve_cache(None) is None
    assert 10**6 < resolve_budget("auto", CPU) < 10**13
    assert resolve_budget(5, CPU) == 5


@pytest.mark.parametrize("max_bytes", [-1, "much"])
def test_a_wrong_budget_is_refused(max_bytes):
    with pytest.raises(ValueError, match=f"max_bytes={max_bytes!r} must be 'auto' or"):
        ActivationCache(max_bytes)


@pytest.mark.parametrize("wrong", [[], 3])
def test_a_wrong_cache_is_refused(wrong):
    with pytest.raises(ValueError, match="'activation_cache' parameter"):
        transfer(activation_cache=wrong).fit(*pictures(6))
    with pytest.raises(TypeError, match="must be 'auto', the path of a folder"):
        ActivationCache.get(wrong)


def test_a_word_for_no_cache_makes_no_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for word in ("none", "None", "off", ""):
        with pytest.raises(ValueError, match="or None, which means no cache"):
            transfer(activation_cache=word).fit(*pictures(6))
    assert not list(tmp_path.iterdir())


def test_a_limit_or_a_path_that_serves_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="max_disk_bytes=5 limits nothing"):
        ActivationCache(max_disk_bytes=5)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"path=.*is a file; pass a folder"):
        ActivationCache(path=tmp_path / "file")
    with pytest.raises(ValueError, match="max_bytes=-1 must be"):
        ActivationCache().limit(-1)


def test_a_cache_says_its_limits():
    assert repr(ActivationCache(5)) == "ActivationCache(max_bytes=5)"
    assert repr(ActivationCache(5, path="here", max_disk_bytes=7)) == (
        "ActivationCache(max_bytes=5, path='here', max_disk_bytes=7)"
    )


def test_a_cache_can_be_had_by_what_estimators_call_it_and_limited(tmp_path):
    X, y = pictures(12)
    path = tmp_path / "cache"
    clf = transfer(activation_cache=path, unfreeze_depth=0, augment=None).fit(X, y)
    cache = ActivationCache.get(str(path))
    assert cache.info().misses == 12
    assert cache.info().n_bytes == 12 * FEATURE_BYTES
    cache.limit(5 * FEATURE_BYTES)
    assert cache.info().n_bytes == 0
    np.testing.assert_array_equal(
        clf.predict_proba(X), clf.set_params(activation_cache=None).predict_proba(X)
    )
    clf.set_params(activation_cache=path).fit(X, y)
    assert 0 < cache.info().n_bytes <= 5 * FEATURE_BYTES
    assert cache.info().misses == 12  # the others are still on disk
    assert ActivationCache.get("auto") is ActivationCache.get("auto")
    assert ActivationCache.get(None) is None


def test_only_what_has_frozen_stages_can_be_warmed_for():
    X, _ = pictures(6)
    with pytest.raises(TypeError, match=r"ScratchCNNClassifier.*has no frozen stages"):
        ActivationCache().warm(ScratchCNNClassifier(), X)


def test_a_callback_may_not_open_a_stage_whose_activations_are_used():
    class Opens(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.module_.unfreeze(4)

    clf = transfer(unfreeze_depth=1, callbacks=[Opens()])
    with pytest.raises(ValueError, match="a callback opened the stages"):
        clf.fit(*pictures(12))


def test_where_there_is_no_room_every_pass_is_counted_as_a_miss(counted):
    X, y = pictures(40)
    clf = transfer(
        activation_cache=ActivationCache(10 * FEATURE_BYTES),
        unfreeze_depth=0,
        augment=None,
        head_init="random",
        max_epochs=3,
    ).fit(X, y)
    assert clf.cache_info_.misses == sum(counted)
    # 40 images in 3 epochs and 8 in the last check; of the first batch of 32, all but
    # 10 were computed before the cache was known to be full.
    assert clf.cache_info_.hits + clf.cache_info_.misses == 3 * 40 + 8 + 32 - 10


def test_activations_in_bfloat16_train_validate_and_predict():
    X, y = pictures(30)
    clf = transfer(precision="bfloat16", early_stopping=True, unfreeze_depth=1)
    proba = clf.fit(X, y).predict_proba(X)
    assert proba.dtype == np.float32
    off = clone(clf).set_params(activation_cache=None).fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(proba, off)


def test_clearing_between_lookup_and_read_gives_no_other_images(monkeypatch):
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    cache = ActivationCache()
    X, none = pictures(20)[0], np.zeros(20, int)
    rows = rows_of(stages, X, cache)
    rows.ensure(np.arange(20), none)
    expected = rows.gather(np.arange(20), none).clone()
    read = rows.tiers.rows

    def late(*args):
        monkeypatch.undo()
        cache.clear()
        fill(stages, pictures(20, seed=1)[0], cache)
        return read(*args)

    monkeypatch.setattr(rows.tiers, "rows", late)
    assert torch.equal(rows.gather(np.arange(20), none), expected)
    rows.close()


@pytest.mark.parametrize("cache", [None, ActivationCache(0), ActivationCache()])
@pytest.mark.parametrize("n_batches", [1, 3, 40, 130])
def test_batches_hold_the_activations_in_order(cache, n_batches):
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    X, none = pictures(130)[0], np.zeros(130, int)
    rows = rows_of(stages, X, cache)
    order = np.random.default_rng(0).permutation(130)
    rows.ensure(order, none)
    sizes = [len(part) for part in np.array_split(order, n_batches)]
    batches = list(rows.batches(order, none, sizes))
    assert [len(batch) for batch in batches] == sizes
    expected = Prefix(stages, 3, CPU, "float32").encode(X, order, PLAIN, none)
    assert torch.equal(torch.cat(batches), expected)
    rows.close()


def test_small_batches_do_not_pass_frozen_stages_half_empty(monkeypatch):
    filled = []
    encode = Stages.encode

    def counting(self, images, n_stages):
        filled.append(len(images))
        return encode(self, images, n_stages)

    monkeypatch.setattr(Stages, "encode", counting)
    stages = make_stages("mini_resnet18", 3, 0.0, (8, 8)).eval()
    rows = rows_of(stages, pictures(128)[0], None)
    list(rows.batches(np.arange(128), np.zeros(128, int), [8] * 16))
    assert sum(filled) == 128


def test_where_the_system_tells_no_free_memory_a_guess_is_taken(monkeypatch):
    def hidden():
        raise FileNotFoundError("/proc/meminfo")

    monkeypatch.setattr("psutil.virtual_memory", hidden)
    assert resolve_budget("auto", CPU) == 2**30
