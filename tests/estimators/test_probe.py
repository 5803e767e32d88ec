import re
import warnings

import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback
from threadpoolctl import ThreadpoolController, threadpool_limits

from sktransfer import ActivationCache, DrawnViews, ResNetFeatureExtractor
from sktransfer._estimators import probe
from sktransfer._estimators.probe import PENALTIES, solve_head
from tests.helpers import SHORT, pictures, transfer


def blobs(n=60, n_classes=3, seed=0):
    """Features (1, n, 5) of classes that overlap, float32, and their labels."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % n_classes
    X = rng.normal(size=(n, 5)) + 1.5 * np.eye(5)[y]
    return X[None].astype(np.float32), y


def ones(y):
    return np.ones(len(y), np.float32)


def proba(solution, X):
    logits = X @ solution.weight.T + solution.bias
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponents / exponents.sum(axis=1, keepdims=True)


def test_the_head_is_nearly_the_logistic_regression_with_the_best_penalty():
    X, y = blobs(600)
    found = proba(solve_head(X, y, ones(y), 3), X[0])
    scale = np.sqrt(np.square(X[0] - X[0].mean(axis=0)).sum(axis=1).mean())
    heads = [LogisticRegression(C=1 / (p * len(y))) for p in PENALTIES]
    gaps = [
        abs(h.fit(X[0] / scale, y).predict_proba(X[0] / scale) - found).max()
        for h in heads
    ]
    assert min(gaps) < 0.02


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_head_separates_classes(n_classes):
    X, y = blobs(90, n_classes)
    solution = solve_head(X, y, ones(y), n_classes)
    assert (proba(solution, X[0]).argmax(axis=1) == y).mean() > 0.75
    assert solution.weight.dtype == solution.bias.dtype == np.float32
    assert 0 < solution.loss < 1
    assert solution.accuracy > 0.75


def test_noise_is_given_a_strong_penalty_and_proba_near_the_shares_of_the_classes():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1, 200, 20)).astype(np.float32)
    y = (rng.random(200) < 0.25).astype(int)
    found = proba(solve_head(X, y, ones(y), 2), X[0])
    assert abs(found[:, 1] - y.mean()).max() < 0.15


def test_a_weight_counts_as_so_many_images():
    X, y = blobs(60)
    w = np.where(y == 0, 4.0, 1.0).astype(np.float32)
    plain, heavy = solve_head(X, y, ones(y), 3), solve_head(X, y, w, 3)
    gained = proba(heavy, X[0])[:, 0].mean() - proba(plain, X[0])[:, 0].mean()
    assert gained > 0.1
    # Only the ratios count.
    again = solve_head(X, y, 7 * w, 3)
    np.testing.assert_allclose(again.weight, heavy.weight, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("n_alone", [1, 2, 3])
def test_a_rare_class_is_learned_too(n_alone):
    X, y = blobs(40, 2)
    X, y = np.concatenate([X, 9 + X[:, :n_alone]], axis=1), np.append(y, [2] * n_alone)
    solution = solve_head(X, y, ones(y), 3)
    assert proba(solution, X[0])[-1].argmax() == 2


def test_errors_are_counted_on_images_that_were_held_out():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1, 300, 5)).astype(np.float32)
    y = rng.integers(3, size=300)  # nothing to be learned
    assert 150 < solve_head(X, y, ones(y), 3).n_wrong < 250
    X, y = blobs(300)
    clear = solve_head(X + 9 * np.eye(5, dtype=np.float32)[y], y, ones(y), 3)
    assert clear.n_wrong == 0


def test_an_error_counts_as_one_whatever_its_weight():
    X, y = blobs(200, 2)
    X = X + 9 * np.eye(5, dtype=np.float32)[y]
    # Ten heavy images elsewhere, whose labels cannot be learned.
    noise = np.tile(np.eye(5, dtype=np.float32)[4] * 9, (1, 10, 1))
    labels = np.append(y, np.arange(10) % 2)
    w = np.append(ones(y), np.full(10, 50)).astype(np.float32)
    found = solve_head(np.concatenate([X, noise], axis=1), labels, w, 2)
    assert 3 <= found.n_wrong <= 10


def test_an_image_without_others_of_its_class_counts_as_an_error():
    X, y = blobs(40, 2)
    X = X + 9 * np.eye(5, dtype=np.float32)[y]
    more, labels = np.concatenate([X, X[:, :2] + 99], axis=1), np.append(y, [2, 3])
    assert solve_head(more, labels, ones(labels), 4).n_wrong == 2
    alone = np.arange(40)
    assert solve_head(X, alone, ones(alone), 40).n_wrong == 40


def test_a_class_without_images_is_never_expected():
    X, y = blobs(40, 2)
    found = proba(solve_head(X, 2 * y, ones(y), 3), X[0])
    assert found[:, 1].max() < 1e-3
    alone = solve_head(X, np.zeros(40, int), ones(y), 1)
    assert proba(alone, X[0]).tolist() == [[1.0]] * 40


def test_features_that_are_all_the_same_give_the_shares_of_the_classes():
    X, y = np.ones((1, 30, 4), np.float32), np.arange(30) % 3
    np.testing.assert_allclose(
        proba(solve_head(X, y, ones(y), 3), X[0]), 1 / 3, atol=1e-3
    )


def count_blas_threads():
    blas = ThreadpoolController().select(user_api="blas")
    return {library["num_threads"] for library in blas.info()}


@pytest.mark.parametrize(("most", "expected"), [(2**24, {1}), (10, {2})])
def test_small_heads_are_solved_on_one_thread(most, expected, monkeypatch):
    features, y = blobs()
    inside = []
    original = probe._solve_path

    def spy(*arguments):
        inside.append(count_blas_threads())
        return original(*arguments)

    monkeypatch.setattr(probe, "_solve_path", spy)
    monkeypatch.setattr(probe, "MANY_VALUES", most)
    with threadpool_limits(2, user_api="blas"):
        solve_head(features, y, ones(y), 3)
        assert inside
        assert all(found == expected for found in inside)
        assert count_blas_threads() == {2}


def test_the_last_to_leave_restores_the_threads_of_the_first():
    one = probe.OneThread()
    with threadpool_limits(2, user_api="blas"):
        with one:
            with one:
                pass
            assert count_blas_threads() == {1}
        assert count_blas_threads() == {2}


def test_depth_0_is_the_probe_and_nothing_else():
    X, y = pictures()
    clf = transfer(unfreeze_depth=0, augment=None, max_epochs=9).fit(X, y)
    assert clf.n_iter_ == clf.best_epoch_ == len(clf.history_) == 1
    assert clf.history_[0]["unfreeze_depth"] == 0
    options = {"image_size": 8, "precision": "float32", "device": "cpu"}
    features = ResNetFeatureExtractor("mini_resnet18", **options).fit_transform(X)
    labels = np.unique(y, return_inverse=True)[1]
    solution = solve_head(features[None], labels, ones(y), 3)
    expected = features @ solution.weight.T + solution.bias
    np.testing.assert_allclose(clf.decision_function(X), expected, atol=1e-4)
    assert clf.history_[0]["train_loss"] == pytest.approx(solution.loss, abs=1e-5)
    assert clf.score(X, y) == clf.history_[0]["train_accuracy"]


@pytest.mark.parametrize(
    ("schedule", "depths"),
    [
        ("gradual", [0, 1, 2, 2]),
        ("immediate", [0, 2, 2, 2]),
        ({0: 1, 2: 2}, [0, 1, 2, 2]),
        ({0: 0, 2: 1}, [0, 1, 1]),
    ],
)
def test_the_probe_is_the_first_epoch_whatever_the_schedule(schedule, depths):
    clf = transfer(max_epochs=4, unfreeze_schedule=schedule).fit(*pictures())
    assert [row["unfreeze_depth"] for row in clf.history_] == depths


@pytest.mark.parametrize(
    ("size", "depth", "why"), [(8, 2, "not much"), (16, 3, "much")]
)
def test_the_depth_is_chosen_by_how_much_images_are_enlarged(size, depth, why, capsys):
    X, y = pictures()
    params = {"image_size": size, "probe_share": 0, "max_epochs": 4, "verbose": 1}
    clf = transfer(**params, unfreeze_depth="auto").fit(X, y)
    assert clf.unfreeze_depth_ == clf.history_[-1]["unfreeze_depth"] == depth
    assert clf.net_.n_prefix == 5 - depth
    assert re.fullmatch(
        f"unfreeze_depth: {depth}, since .* {why} enlarged.", clf.depth_reason_
    )
    assert clf.depth_reason_ in capsys.readouterr().out
    other = transfer(**params, unfreeze_depth=depth).fit(X, y)
    assert np.array_equal(clf.predict_proba(X), other.predict_proba(X))
    assert other.depth_reason_ == f"unfreeze_depth: {depth}, since it was passed."


@pytest.mark.parametrize("are_mixed", [False, True])
def test_the_size_of_files_counts_not_that_at_which_they_are_read(are_mixed):
    X, y = pictures()
    large = X.repeat(2, axis=1).repeat(2, axis=2)
    files = [Image.fromarray(image) for image in large]
    if are_mixed:
        files[0] = files[0].resize((16, 18))
    clf = transfer(unfreeze_depth="auto", probe_share=0).fit(files, y)
    assert clf.image_shape_ == (8, 8, 3)  # which would be enlarged if 16 were asked for
    clf.set_params(image_size=24).fit(files, y)
    assert clf.unfreeze_depth_ == 2
    clf.set_params(image_size=32).fit(files, y)
    assert clf.unfreeze_depth_ == 3


def test_a_search_may_leave_the_depth_to_be_chosen():
    X, y = pictures()
    grid = {"unfreeze_depth": ["auto"]}
    search = GridSearchCV(transfer(image_size=16, max_epochs=3), grid, cv=3)
    assert search.fit(X, y).best_estimator_.unfreeze_depth_ == 3


def test_the_cache_is_warmed_for_the_chosen_depth():
    X, y = pictures()
    cache = ActivationCache()
    clf = transfer(unfreeze_depth="auto", image_size=16, activation_cache=cache)
    cache.warm(clf, X)
    assert clf.fit(X, y).cache_info_.misses == 0


@pytest.mark.parametrize(
    ("params", "depth", "reason"),
    [
        ({"unfreeze_schedule": {0: 0, 1: 1}}, 1, "unfreeze_schedule opens no more"),
        ({"max_epochs": 1}, 0, "a single epoch is the linear probe"),
        ({"weights": None}, 5, "with weights=None all stages have to learn"),
        ({"head_init": "random", "unfreeze_schedule": {0: 0}}, 0, "unfreeze_schedule"),
    ],
)
def test_the_reason_is_that_of_the_depth_reached(params, depth, reason):
    clf = transfer(**{"unfreeze_depth": "auto", "max_epochs": 3, **params})
    clf.fit(*pictures())
    assert clf.unfreeze_depth_ == depth
    assert clf.depth_reason_.startswith(f"unfreeze_depth: {depth}, since {reason}")


def test_where_no_deeper_epoch_was_better_the_depth_is_that_of_the_best():
    X, y = pictures()
    shown = {"X_val": X, "y_val": np.roll(y, 1)}  # labels that nothing can learn
    clf = transfer(lr=0.1, probe_share=0, max_epochs=3).fit(X, y, **shown)
    assert clf.best_epoch_ == 1
    assert clf.unfreeze_depth_ == 0
    assert "since no deeper epoch had a lower validation loss" in clf.depth_reason_


def test_a_single_epoch_is_the_probe():
    X, y = pictures()
    clf = transfer(max_epochs=1).fit(X, y)
    assert clf.unfreeze_depth_ == 0
    assert clf.depth_reason_.endswith("since a single epoch is the linear probe.")
    probe = transfer(unfreeze_depth=0).fit(X, y)
    assert [row["unfreeze_depth"] for row in clf.history_] == [0]
    np.testing.assert_allclose(
        clf.decision_function(X), probe.decision_function(X), atol=1e-4
    )


def test_rates_fall_to_zero_over_the_epochs_that_have_steps():
    shares = []

    class Rates(Callback):
        def on_batch_end(self, net, training=False, **kwargs):
            if training:
                head = net.optimizer_.param_groups[-1]
                shares.append(head["lr"] / head["peak_lr"])

    transfer(max_epochs=4, batch_size=15, callbacks=[Rates()]).fit(*pictures())
    assert len(shares) == 9
    assert max(shares) > 0.8
    assert shares[-1] < 0.1


def test_the_weights_of_the_probe_are_restored_where_nothing_better_was_found():
    X, y = pictures()
    ruined = transfer(lr=0.5, max_epochs=4).fit(X, y, X_val=X, y_val=y)
    probe = transfer(unfreeze_depth=0).fit(X, y)
    assert ruined.best_epoch_ == 1
    np.testing.assert_allclose(
        ruined.decision_function(X), probe.decision_function(X), atol=1e-4
    )


def test_no_image_is_encoded_twice_for_the_probe():
    X, y = pictures(40)
    cache = ActivationCache()
    clf = transfer(activation_cache=cache, augment=None, max_epochs=3)
    first = clf.fit(X, y).cache_info_
    # Once by the frozen stages, and once from there to the pooled features.
    assert first.misses == cache.info().misses == 80
    again = clone(clf).set_params(dropout=0.5).fit(X, y).cache_info_
    assert again.misses == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"unfreeze_depth": 0},
        {"unfreeze_depth": 2},
        {"unfreeze_depth": 5},
        {"unfreeze_depth": 1, "augment": "flip_crop"},
        {"unfreeze_depth": 1, "head_init": "random"},
    ],
)
def test_a_warmed_cache_leaves_nothing_to_compute(settings):
    X, y = pictures(30)
    cache = ActivationCache()
    clf = transfer(activation_cache=cache, **settings)
    cache.warm(clf, X)
    before = cache.info().misses
    clf.fit(X, y)
    assert cache.info().misses == before


@pytest.mark.parametrize("depth", [0, 1, 5])
def test_fits_with_and_without_a_cache_are_the_same_to_the_bit(depth):
    X, y = pictures()
    clf = transfer(unfreeze_depth=depth, max_epochs=3)
    kept, off = (
        clone(clf).set_params(activation_cache=cache).fit(X, y)
        for cache in (ActivationCache(), None)
    )
    np.testing.assert_array_equal(kept.decision_function(X), off.decision_function(X))
    losses = [[row["train_loss"] for row in fit.history_] for fit in (kept, off)]
    assert losses[0] == losses[1]


def test_sample_weights_and_class_weights_reach_the_head():
    X, y = pictures()
    X = np.clip(X + np.random.default_rng(0).integers(0, 90, X.shape), 0, 255)
    X = X.astype(np.uint8)
    plain = transfer(unfreeze_depth=0).fit(X, y)
    heavy = transfer(unfreeze_depth=0, class_weight={"red": 50.0}).fit(X, y)
    red = list(plain.classes_).index("red")
    assert heavy.predict_proba(X)[:, red].mean() > plain.predict_proba(X)[:, red].mean()
    without = transfer(unfreeze_depth=0).fit(X[y != "red"], y[y != "red"])
    weights = (y != "red").astype(float)
    left_out = transfer(unfreeze_depth=0).fit(X, y, sample_weight=weights)
    np.testing.assert_allclose(
        left_out.predict_proba(X)[:, [0, 1]], without.predict_proba(X), atol=1e-3
    )


def test_training_that_goes_on_does_not_solve_the_head_again():
    X, y = pictures()
    clf = transfer(warm_start=True).fit(X, y)
    clf.fit(X, y)
    assert [row["unfreeze_depth"] for row in clf.history_] == [2] * SHORT["max_epochs"]


@pytest.mark.filterwarnings("ignore:.*will change nothing")
@pytest.mark.parametrize("changes", [{"augment": "advanced"}, {"mixup": 0.2}])
def test_a_probe_alone_is_not_said_to_recompute_anything(capsys, changes):
    cache = ActivationCache()
    settings = {"activation_cache": cache, "verbose": 1, **changes}
    transfer(unfreeze_depth=0, **settings).fit(*pictures())
    printed = capsys.readouterr().out
    assert "recomputed" not in printed
    assert "45 activations computed" in printed
    transfer(unfreeze_depth=1, **settings).fit(*pictures())
    assert "recomputed in every epoch" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"augment": "advanced"}, r"^augment='advanced' will change nothing"),
        ({"mixup": 0.2}, r"^mixup=0.2 will change nothing"),
        (
            {"augment": "flip_crop", "cutmix": 1.0},
            r"^augment='flip_crop' and cutmix=1.0 will change nothing",
        ),
    ],
)
def test_changes_that_a_solved_head_does_not_see_are_warned_of(changes, said):
    with pytest.warns(UserWarning, match=said):
        transfer(unfreeze_depth=0, **changes).fit(*pictures())


@pytest.mark.parametrize(
    "changes",
    [
        {"augment": "flip"},
        {"augment": DrawnViews(2)},
        {"augment": "flip_crop", "head_init": "random"},
        {"mixup": 0.2, "unfreeze_depth": 1},
    ],
)
def test_changes_that_are_seen_are_not(changes):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transfer(**{"unfreeze_depth": 0, **changes}).fit(*pictures())
