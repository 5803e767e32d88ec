"""The network trained from scratch, and the pieces of its training."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback

from sktransfer._images.preprocessing import Preprocess
from sktransfer._images.views import AS_IT_IS, tta_views
from sktransfer._networks.cnn import choose_size, count_directions, make_cnn
from sktransfer._networks.statistics import make_whitening_filters
from sktransfer._training.batches import Batches
from sktransfer._training.callbacks.lookahead import EVERY, KEPT, Lookahead
from sktransfer._training.image_sets import ImageDataset
from sktransfer._training.schedule import triangle_rate
from tests.helpers import pictures, scratch

CPU = torch.device("cpu")


def smooth_images(n=200):
    """Images (n, 3, 16, 16) whose neighbouring pixels are alike, as in photographs."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(n, 3, 4, 4, generator=generator)
    fine = torch.randn(n, 3, 16, 16, generator=generator)
    return torch.nn.functional.interpolate(coarse, (16, 16), mode="bilinear") + fine / 5


def test_whitened_patches_are_uncorrelated_and_of_variance_one():
    images = 5 * smooth_images()
    filters = make_whitening_filters(images.split(64), 2, 12)
    assert filters.shape == (24, 3, 2, 2)
    assert torch.equal(filters[12:], -filters[:12])
    out = torch.nn.functional.conv2d(images, filters[:12]).transpose(0, 1).flatten(1)
    second_moments = out @ out.T / out.shape[1]
    assert torch.allclose(second_moments, torch.eye(12), atol=0.03)


def test_whitening_leaves_faint_noise_faint():
    flat = torch.randn(200, 1, 1, 1, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(200, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    images = flat + noise / 50  # as JPEG files have it: a variance of 0.0004
    filters = make_whitening_filters([images], 2, 4)
    out = torch.nn.functional.conv2d(images, filters[:4]).transpose(0, 1).flatten(1)
    variances = out.square().mean(dim=1)
    assert variances[0] > 0.95
    assert (variances[1:] < 0.1).all()


def test_patches_without_any_variance_give_finite_filters():
    filters = make_whitening_filters([torch.zeros(4, 1, 8, 8)], 2, 4)
    assert filters.isfinite().all()


def test_the_first_filters_stand_still_and_their_bias_learns():
    X, y = pictures()
    stem = scratch().fit(X, y).net_.module_.stem.conv1
    before = scratch(lr=1e-12, bias_lr_factor=1.0).fit(X, y).net_.module_.stem.conv1
    assert torch.equal(stem.weight, before.weight)
    assert not torch.equal(stem.bias, before.bias)
    weights = [
        scratch(whiten=False, bias_lr_factor=1.0, **rate)
        .fit(X, y)
        .net_.module_.stem.conv1.weight
        for rate in ({}, {"lr": 1e-12})
    ]
    assert not torch.allclose(*weights, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((32, 32, 3), None),
        ((64, 16, 1), None),
        ((8, 8, 3), (16, 16)),
        ((1, 40, 1), (40, 40)),
        ((200, 300, 3), (64, 64)),
    ],
)
def test_images_of_any_size_become_ones_that_the_network_can_halve(shape, size):
    assert choose_size(shape, "squash") == size


def test_the_size_of_a_long_image_is_that_of_the_square_made_of_it():
    sizes = [choose_size((20, 90, 3), resize) for resize in ("crop", "pad", "squash")]
    assert sizes == [(20, 20), (64, 64), (64, 64)]


@pytest.mark.parametrize("n_channels", [1, 2, 3, 20])
@pytest.mark.parametrize("side", [9, 16, 33])
def test_the_network_takes_any_number_of_channels_and_classes(n_channels, side):
    preprocess = Preprocess(None, [0.5] * n_channels, [1.0] * n_channels)
    images = torch.rand(5, side, side, n_channels)
    filters = make_whitening_filters(
        [images.permute(0, 3, 1, 2)], 2, count_directions(n_channels)
    )
    for some in (filters, None):
        net = make_cnn(7, (4, 8, 8), 0.0, preprocess, some)
        assert net(images).shape == (5, 7)
        assert net.stem[0].weight.shape[0] == 2 * min(4 * n_channels, 32)


def test_two_widths_can_be_told_apart():
    X, y = pictures(12)

    def channels(width):
        module = scratch(width=width, max_epochs=1).fit(X, y).net_.module_
        return [module.get_submodule(f"layer{i}.conv2").out_channels for i in (1, 2, 3)]

    assert channels(4) == [4, 8, 8]
    assert channels((4, 6, 10)) == [4, 6, 10]
    for wrong in ((4, 6), (4, 0, 4), (4, 6, "wide")):
        with pytest.raises(ValueError, match="must be an integer of 1 or more, or"):
            channels(wrong)


def test_the_head_sees_averages_or_maxima():
    activation = torch.arange(16.0).view(1, 1, 4, 4)
    images = torch.rand(3, 16, 16, 3)
    seen = {}
    for pool in ("avg", "max"):
        torch.manual_seed(0)
        preprocess = Preprocess(None, [0.5] * 3, [1.0] * 3)
        net = make_cnn(2, (4, 8, 8), 0.0, preprocess, None, pool).eval()
        seen[pool] = net.head.pool(activation).item()
        assert torch.equal(net.encode(images, 4), net.head.pool(unpooled(net, images)))
    assert seen == {"avg": 7.5, "max": 15.0}


def test_one_pixel_alone_learns_from_a_maximum():
    preprocess = Preprocess(None, [0.5] * 3, [1.0] * 3)
    head = make_cnn(2, (4, 8, 8), 0.0, preprocess, None, "max").head
    activation = torch.ones(2, 8, 3, 3, requires_grad=True)
    head.pool(activation).sum().backward()
    assert (activation.grad.flatten(2).amax(dim=2) == 1).all()
    assert (activation.grad.flatten(2).sum(dim=2) == 1).all()


@pytest.mark.parametrize(("pool", "deviation"), [("avg", 1.0), ("max", 1 / 48)])
def test_weights_of_averages_begin_larger_than_those_of_maxima(pool, deviation):
    torch.manual_seed(0)
    preprocess = Preprocess(None, [0.5] * 3, [1.0] * 3)
    head = make_cnn(100, (4, 8, 768), 0.0, preprocess, None, pool).head
    assert head.linear.weight.std().item() == pytest.approx(deviation, rel=0.02)


def test_training_does_not_go_on_with_another_pooling():
    X, y = pictures(12)
    clf = scratch(warm_start=True, max_epochs=1).fit(X, y)
    with pytest.raises(ValueError, match="global_pool changed"):
        clf.set_params(global_pool="max").fit(X, y)


def unpooled(net, images):
    """What the head is given."""
    activation = net.preprocess(images)
    for name in net.names[:-1]:
        activation = net.get_submodule(name)(activation)
    return activation


def test_an_unknown_pooling_is_refused():
    with pytest.raises(ValueError, match="'global_pool' parameter"):
        scratch(global_pool="sum").fit(*pictures(12))


def test_shifts_of_batch_norm_learn_in_groups_of_their_own():
    X, y = pictures(12)
    net = scratch(bias_lr_factor=64.0, weight_decay=0.64, lr=0.1).fit(X, y).net_
    groups = net.optimizer_.param_groups
    biases = [g for g in groups if g["peak_lr"] == pytest.approx(6.4)]
    assert {g["stage"] for g in biases} == {"layer1", "layer2", "layer3"}
    assert [g["weight_decay"] for g in biases] == [pytest.approx(0.01)] * 3
    others = [g for g in groups if g["peak_lr"] < 1]
    assert {g["peak_lr"] for g in others} == {0.1}
    assert {g["stage"] for g in others} == {*net.module_.names}
    n_all = sum(len(g["params"]) for g in groups)
    assert n_all == len(list(net.module_.parameters()))


def test_the_rate_follows_the_batch():
    X, y = pictures(48)
    rates = [
        scratch(batch_size=n, max_epochs=1).fit(X, y).net_.optimizer_.param_groups[0]
        for n in (8, 16)
    ]
    assert rates[1]["peak_lr"] == pytest.approx(2 * rates[0]["peak_lr"])
    assert rates[0]["peak_lr"] == pytest.approx(1.5 * 8 / 1024)
    # A batch cannot be larger than all images.
    few = scratch(batch_size=4096, max_epochs=1).fit(X, y).net_
    assert few.optimizer_.param_groups[0]["peak_lr"] == pytest.approx(1.5 * 48 / 1024)


@pytest.mark.parametrize(
    "piece",
    [
        {"whiten": False},
        {"alternate_flip": False},
        {"lookahead": False},
        {"lr_schedule": "cosine"},
        {"bias_lr_factor": 1.0},
        {"label_smoothing": 0.0},
        {"augment": None},
    ],
)
def test_every_piece_can_be_switched_off(piece):
    X, y = pictures(40)
    whole = scratch(max_epochs=3).fit(X, y).predict_proba(X)
    without = scratch(max_epochs=3, **piece).fit(X, y).predict_proba(X)
    assert not np.allclose(whole, without, atol=1e-4)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tta": "flop"}, "'tta' parameter"),
        ({"whiten": "yes"}, "'whiten' parameter"),
        ({"lr_schedule": "linear"}, "'lr_schedule' parameter"),
        ({"bias_lr_factor": 0.0}, "'bias_lr_factor' parameter"),
        ({"lr": "fast"}, "'lr' parameter"),
        ({"image_size": 8}, "smaller than 9 pixels, which the network cannot halve"),
    ],
)
def test_what_the_network_cannot_use_is_named(wrong, message):
    with pytest.raises(ValueError, match=message):
        scratch(**wrong).fit(*pictures(12))


def test_a_word_for_views_that_came_after_fit_is_checked_too():
    X, y = pictures(12)
    clf = scratch().fit(X, y).set_params(tta="flop")
    with pytest.raises(ValueError, match="tta='flop' must be 'flip', 'flip_shift'"):
        clf.predict(X)


def test_a_network_of_another_kind_cannot_be_trained_on():
    X, y = pictures(12)
    clf = scratch(warm_start=True).fit(X, y).set_params(whiten=False)
    with pytest.raises(ValueError, match="but whiten changed since"):
        clf.fit(X, y)


def test_stages_may_be_frozen_while_weights_are_averaged():
    class Freezes(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.module_.layer1.requires_grad_(len(net.history) != 2)

    clf = scratch(max_epochs=4, callbacks=[Freezes()], batch_size=4)
    assert clf.fit(*pictures(40)).n_iter_ == 4


class RuinInSixthEpoch(Callback):
    """Makes the head sure of nonsense, so that the last epoch is not the best."""

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == 6:
            with torch.no_grad():
                net.module_.head.linear.weight.mul_(-1000)


def test_the_best_epoch_is_restored_with_its_averages():
    X, y = pictures(60)
    clf = scratch(max_epochs=6, early_stopping=True, callbacks=[RuinInSixthEpoch()])
    clf.fit(X[:40], y[:40], X_val=X[40:], y_val=y[40:])
    losses = [row["valid_loss"] for row in clf.history_]
    assert clf.best_epoch_ == 1 + int(np.argmin(losses)) < clf.n_iter_
    found = log_loss(y[40:], clf.predict_proba(X[40:]))
    assert found == pytest.approx(min(losses), rel=1e-5)
    assert clf.net_.callbacks_[-2][0] == "lookahead"
    assert clf.net_.callbacks_[-2][1].slow_ is None


def test_rates_rise_to_their_peak_and_fall_nearly_to_zero():
    rates = [triangle_rate(step, 100) for step in range(101)]
    assert rates[0] == 0.2
    assert max(rates) == rates[23] == 1
    assert rates[100] == pytest.approx(0.07)
    assert rates[:24] == sorted(rates[:24])
    assert rates[23:] == sorted(rates[23:], reverse=True)


def test_an_alternating_flip_shows_each_side_in_every_other_epoch():
    images = torch.randint(0, 256, (20, 8, 8, 3), dtype=torch.uint8).numpy()
    images[:, 0, 0, 0] = np.arange(20)  # which image it is, where nothing is mirrored
    images[:, 0, -1, 0] = np.arange(20)  # and where it is
    dataset = ImageDataset(images, np.arange(20), np.ones(20, np.float32))
    generator = torch.Generator().manual_seed(0)
    batches = Batches(dataset, 8, CPU, "flip", generator, alternate_flip=True)
    epochs = []
    for _ in range(4):
        shown = torch.cat([x for x, _ in batches])
        order = shown[:, 0, 0, 0].argsort()
        epochs.append(shown[order].numpy())
    for first, second in pairwise(epochs):
        np.testing.assert_array_equal(second, first[:, :, ::-1])
    is_mirrored = [
        not np.array_equal(a, b) for a, b in zip(epochs[0], images, strict=True)
    ]
    assert 3 < sum(is_mirrored) < 17


def test_lookahead_ends_on_an_average_and_a_run_without_it_does_not():
    X = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    y = np.arange(20) % 2
    seen = []

    class Watched(Lookahead):
        def on_batch_end(self, net, training=False, **kwargs):
            before = net.module_.weight.detach().clone()
            super().on_batch_end(net, training=training, **kwargs)
            seen.append((before, net.module_.weight.detach().clone()))

    torch.manual_seed(0)
    NeuralNetClassifier(
        torch.nn.Linear,
        module__in_features=4,
        module__out_features=2,
        criterion=torch.nn.CrossEntropyLoss,
        callbacks=[Watched()],
        batch_size=2,
        max_epochs=2,
        lr=0.5,
        train_split=None,
        verbose=0,
    ).fit(X, y)
    assert len(seen) == 20
    changed = [not torch.equal(before, after) for before, after in seen]
    # The first time it only takes note.
    assert [i + 1 for i, c in enumerate(changed) if c] == [2 * EVERY, 3 * EVERY, 20]
    (last, slow), (_, slow_before) = seen[-1], seen[3 * EVERY - 1]
    torch.testing.assert_close(slow, slow_before + (1 - KEPT) * (last - slow_before))


def test_test_time_views_are_averaged():
    X, y = pictures(20)
    clf = scratch().fit(X, y)
    plain = clf.decision_function(X)
    mirrored = clf.decision_function(X[:, :, ::-1])
    both = clf.set_params(tta="flip").decision_function(X)
    np.testing.assert_allclose(both, (plain + mirrored) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        clf.decision_function(X[:, :, ::-1]), both, rtol=1e-5, atol=1e-6
    )
    assert not np.array_equal(
        clf.set_params(tta="flip_shift").decision_function(X), both
    )


@pytest.mark.parametrize(("tta", "n"), [(None, 1), ("flip", 2), ("flip_shift", 6)])
def test_views_to_predict_from_begin_with_the_image_and_weigh_one(tta, n):
    views, weights = tta_views(tta, 64, 32)
    assert views[0] == AS_IT_IS
    assert len(set(views)) == len(weights) == n
    assert sum(weights) == 1
    assert {(abs(v.down), abs(v.right)) for v in views} <= {(0, 0), (2, 1)}


def test_images_that_are_on_the_device_already_make_the_same_batches():
    images, _ = pictures(20)
    dataset = ImageDataset(images, np.arange(20), np.ones(20, np.float32))
    there = dataset.replace(resident=torch.from_numpy(images))

    def shown(some):
        generator = torch.Generator().manual_seed(0)
        return torch.cat([x for x, _ in Batches(some, 8, CPU, "flip_crop", generator)])

    assert torch.equal(shown(there), shown(dataset))
