import pickle

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sktransfer import ActivationCache
from sktransfer._training.batches import Batches
from sktransfer._training.image_sets import ImageDataset
from sktransfer._training.mixing import (
    Mix,
    count_mixed,
    draw_mix,
    mix_images,
    mix_targets,
)
from tests.helpers import pictures, scratch, seeded, transfer

SIZE = (8, 12)


def images(n=3, dtype=torch.uint8):
    x = torch.arange(n) * 20 + 100
    return x.view(n, 1, 1, 1).expand(n, *SIZE, 3).to(dtype)


def batches(generator, n=24, **mixing):
    X, _ = pictures(n)
    weights = np.linspace(0.5, 2, n).astype(np.float32)
    dataset = ImageDataset(X, np.arange(n) % 3, weights)
    return Batches(dataset, 8, torch.device("cpu"), "flip", generator, **mixing)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.2, 0), (0, 1), (0.3, 1)])
def test_shares_are_drawn_from_their_distribution(mixup, cutmix):
    generator = seeded()
    drawn = [draw_mix(mixup, cutmix, (100, 100), generator) for _ in range(800)]
    is_cut = np.array([mix.box is not None for mix in drawn])
    shares = np.array([mix.share for mix in drawn])
    wanted = {(True, False): 0, (False, True): 1, (True, True): 0.5}
    assert is_cut.mean() == pytest.approx(wanted[mixup > 0, cutmix > 0], abs=0.06)
    assert shares.min() >= 0
    assert shares.max() <= 1
    for alpha, of_kind in ((mixup, shares[~is_cut]), (cutmix, shares[is_cut])):
        if len(of_kind) and alpha == mixup:
            assert of_kind.mean() == pytest.approx(0.5, abs=0.05)
            assert of_kind.var() == pytest.approx(0.25 / (2 * alpha + 1), rel=0.15)


def test_the_share_of_a_box_is_its_area_within_the_image():
    generator = seeded()
    x = torch.zeros(2, *SIZE, 1)
    x[1] = 1
    for _ in range(50):
        mix = draw_mix(0, 1.0, SIZE, generator)
        mixed = mix_images(x, mix)
        assert mixed[0].mean() == pytest.approx(1 - mix.share, abs=1e-6)
        assert mixed[1].mean() == pytest.approx(mix.share, abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_mixup_averages_each_image_with_the_one_before_it(dtype):
    x = images(3, dtype)
    mixed = mix_images(x, Mix(0.75, None))
    assert mixed.dtype == dtype
    assert mixed[:, 0, 0, 0].tolist() == [110, 115, 135]
    assert torch.equal(x, images(3, dtype))


def test_cutmix_replaces_a_box_by_that_of_the_image_before():
    mixed = mix_images(images(), Mix(0.5, (slice(0, 8), slice(0, 6))))
    assert (mixed[1, :, :6] == 100).all()
    assert (mixed[1, :, 6:] == 120).all()
    assert torch.equal(images()[1], images(3)[1])


def test_both_labels_count_and_the_larger_share_comes_first():
    labels, weights = torch.tensor([0, 1, 2]), torch.tensor([1.0, 2.0, 4.0])
    both, shared = mix_targets(labels, weights, 0.75)
    assert both.tolist() == [[0, 2], [1, 0], [2, 1]]
    assert shared.tolist() == [[0.75, 1.0], [1.5, 0.25], [3.0, 0.5]]
    other, other_shared = mix_targets(labels, weights, 0.25)
    assert other.tolist() == [[2, 0], [0, 1], [1, 2]]
    assert other_shared.tolist() == [[3.0, 0.25], [0.75, 0.5], [1.5, 1.0]]
    main, whole = count_mixed(both, shared)
    assert main.tolist() == [0, 1, 2]
    assert whole.tolist() == [1.75, 1.75, 3.5]


def test_a_step_follows_the_mean_of_both_weighted_losses():
    X, y = pictures(24)
    net = transfer(label_smoothing=0.1, dropout=0.0).fit(X, y).net_
    net.n_passed, net.clip_norm = 0, None
    shown, labels = torch.from_numpy(X), torch.arange(24) % 3
    weights, share = torch.linspace(0, 3, 24), 0.7
    net.module_.zero_grad()
    mixed = mix_images(shown, Mix(share, None))
    step = net.train_step_single((mixed, mix_targets(labels, weights, share)))
    made = [p.grad.clone() for p in net.module_.head.parameters()]
    net.module_.zero_grad()
    criterion = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)
    logits = net.module_(mixed)
    loss = (
        share * weights * criterion(logits, labels)
        + (1 - share) * weights.roll(1) * criterion(logits, labels.roll(1))
    ).mean()
    loss.backward()
    torch.testing.assert_close(step["loss"], loss.detach())
    for gradient, parameter in zip(made, net.module_.head.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)


@pytest.mark.parametrize("most_at_once", [5, 24])
def test_a_mixed_batch_may_pass_in_parts(most_at_once):
    X, y = pictures(24)
    net = transfer(dropout=0.0, unfreeze_depth=0).fit(X, y).net_
    net.n_passed = 0
    targets = mix_targets(torch.arange(24) % 3, torch.ones(24), 0.6)
    whole = net.train_step_single((torch.from_numpy(X), targets))
    net.most_at_once_ = most_at_once
    parts = net.train_step_single((torch.from_numpy(X), targets))
    torch.testing.assert_close(parts["loss"], whole["loss"])


def log_losses(clf, x):
    """Of every class, with the labels in the order of the colours' names."""
    with torch.no_grad():
        return -clf.net_.module_.eval()(x).log_softmax(1)


def test_the_recorded_loss_and_accuracy_are_those_of_the_mixed_images():
    X, y = pictures(24)
    still = {"lr": 1e-12, "dropout": 0.0, "augment": None, "unfreeze_depth": 0}
    still["head_init"] = "random"  # or the first epoch would solve it, unmixed
    clf = transfer(**still, max_epochs=1, batch_size=8, mixup=0.4, cutmix=1.0)
    weights = np.linspace(0.5, 2, 24)
    clf.fit(X, y, sample_weight=weights, X_val=X, y_val=y)
    dataset = ImageDataset(
        X, np.unique(y, return_inverse=True)[1], weights.astype(np.float32)
    )
    generator = seeded(clf.net_.seed)
    shown = Batches(
        dataset, 8, torch.device("cpu"), None, generator, mixup=0.4, cutmix=1.0
    )
    loss = right = total = 0.0
    for x, (labels, shares) in shown:
        losses = log_losses(clf, x)
        loss += (losses.gather(1, labels) * shares).sum()
        right += ((losses.argmin(1) == labels[:, 0]) * shares.sum(1)).sum()
        total += shares.sum()
    assert clf.history_[0]["train_loss"] == pytest.approx(float(loss / total), rel=1e-4)
    assert clf.history_[0]["train_accuracy"] == pytest.approx(float(right / total))
    valid = log_losses(clf, torch.from_numpy(X))[range(24), dataset.labels]
    assert clf.history_[0]["valid_loss"] == pytest.approx(float(valid.mean()), rel=1e-4)


def test_without_mixing_nothing_is_drawn_and_labels_have_one_column():
    generator, expected = seeded(), seeded()
    for _, (labels, weights) in batches(generator, mixup=0.0, cutmix=0.0):
        assert labels.ndim == weights.ndim == 1
    torch.randperm(24, generator=expected)
    torch.rand(24, generator=expected)
    assert torch.equal(generator.get_state(), expected.get_state())


def test_only_training_is_mixed_and_every_batch_in_its_own_way():
    plain = list(batches(None, mixup=1.0))
    assert all(labels.ndim == 1 for _, (labels, _) in plain)
    first, second = (list(batches(seeded(), mixup=1.0)) for _ in range(2))
    for (x, (labels, _)), (again, _) in zip(first, second, strict=True):
        assert torch.equal(x, again)
        assert labels.shape == (8, 2)
    shares = {round(float((w[:, 0] / w.sum(1)).max()), 4) for _, (_, w) in first}
    assert len(shares) == 3


@pytest.mark.parametrize("make", [transfer, scratch])
@pytest.mark.parametrize("mixing", [{"mixup": 0.2}, {"cutmix": 1}])
def test_a_fit_with_mixing_is_repeatable_and_differs_from_one_without(make, mixing):
    X, y = pictures(24)
    before = torch.get_rng_state()
    clf = make(**mixing, class_weight="balanced").fit(X, y)
    assert torch.equal(torch.get_rng_state(), before)
    again = clone(clf).fit(X, y)
    expected = again.predict_proba(X)
    np.testing.assert_array_equal(clf.predict_proba(X), expected)
    copied = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copied.predict_proba(X), expected)
    plain = make(class_weight="balanced").fit(X, y).predict_proba(X)
    assert not np.array_equal(plain, expected)


def test_mixing_can_be_searched_over():
    X, y = pictures(24)
    search = GridSearchCV(transfer(), {"mixup": [0.0, 0.2], "cutmix": [0, 1.0]}, cv=2)
    search.fit(X, y)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.filterwarnings("ignore:.*will change nothing")
def test_warming_a_cache_computes_only_what_validation_will_ask_for():
    X, y = pictures(24)
    cache = ActivationCache()
    clf = transfer(activation_cache=cache, unfreeze_depth=0, mixup=0.2)
    assert cache.warm(clf, X).misses == 24
    clf.fit(X[:16], y[:16], X_val=X[16:], y_val=y[16:])
    assert clf.cache_info_.misses == 0


def test_colours_are_still_learnt():
    X, y = pictures(90)
    for mixing in ({"mixup": 0.2}, {"cutmix": 1.0}, {"augment": "advanced"}):
        clf = transfer(max_epochs=6, **mixing).fit(X, y)
        assert clf.score(*pictures(30, seed=1)) > 0.7
