import gc
import re
import warnings
import weakref
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss
from skorch.callbacks import Callback

from sktransfer._networks.backbones.known import find_backbone
from sktransfer._training.callbacks.averaging import (
    ProbeAverage,
    choose_probe_share,
    draw_rows,
    list_open,
)
from sktransfer._training.image_sets import ImageDataset
from sktransfer._training.net import StagesNet
from tests.helpers import pictures, transfer

PHOTOS = {"unfreeze_depth": 1, "max_epochs": 3, "dropout": 0.0}
MINI = find_backbone("mini_resnet18")
# As of backbones that do not limit the share.
AUTO = {"backbone": replace(MINI, max_probe_share=1), "probe_share": "auto"}


class Watching(Callback):
    """Keeps the weights at the end of every epoch, also in the estimator's copy."""

    def __init__(self):
        self.weights = []

    def __deepcopy__(self, memo):
        return self

    def on_epoch_end(self, net, **kwargs):
        state = net.module_.state_dict()
        self.weights.append({name: t.clone() for name, t in state.items()})


def watch(X, y, X_val=None, y_val=None, **changes):
    """Fit, and return the classifier and its weights after every epoch."""
    watching = Watching()
    clf = transfer(**PHOTOS, callbacks=[watching], **changes)
    return clf.fit(X, y, X_val=X_val, y_val=y_val), watching.weights


def test_weights_are_the_average_of_the_probe_and_what_was_trained():
    X, y = pictures()
    _, trained = watch(X, y, probe_share=0)
    clf, averaged = watch(X, y, probe_share=0.25)
    assert clf.probe_share_ == 0.25
    for epoch in range(3):
        for name, tensor in clf.net_.module_.state_dict().items():
            if tensor.is_floating_point():
                expected = 0.25 * trained[0][name] + 0.75 * trained[epoch][name]
                found = averaged[epoch][name]
                torch.testing.assert_close(found, expected, msg=name)
    for name, tensor in clf.net_.module_.state_dict().items():
        assert torch.equal(tensor, averaged[-1][name]), name
    changed = trained[0]["layer4.0.conv1.weight"] - trained[2]["layer4.0.conv1.weight"]
    assert changed.abs().max() > 1e-4


def test_validation_images_are_shown_the_average():
    X, y = pictures()
    X_val, y_val = pictures(12, seed=1)
    shown = {"X_val": X_val, "y_val": y_val, "early_stopping": False}
    one, _ = watch(X, y, probe_share=0, **shown)
    other, _ = watch(X, y, probe_share=0.9, **shown)
    assert [r["train_loss"] for r in one.history_] == [
        r["train_loss"] for r in other.history_
    ]
    assert one.history_[-1]["valid_loss"] != other.history_[-1]["valid_loss"]
    best = other.history_[other.best_epoch_ - 1]["valid_loss"]
    proba = other.predict_proba(X_val).astype(np.float64)
    assert log_loss(y_val, proba / proba.sum(axis=1, keepdims=True)) == pytest.approx(
        best, rel=1e-4
    )


def test_the_share_falls_with_the_errors_of_the_probe(capsys):
    shares = [choose_probe_share(n) for n in (0, 15, 20, 100, 1000, 10_000)]
    assert shares[:2] == [1, 1]
    assert 1 > shares[2] > shares[3] > shares[4] > shares[5]
    assert shares[5] < 0.02
    X, y = pictures(60)
    y = np.random.default_rng(0).permutation(y)
    clf = transfer(**AUTO, verbose=1, **PHOTOS).fit(X, y)
    out = capsys.readouterr().out
    assert f"probe_share: {clf.probe_share_:.2f}, since the linear probe" in out
    # Of three classes at random it gets two thirds wrong, more or less.
    assert choose_probe_share(55) < clf.probe_share_ < choose_probe_share(25)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            AUTO,
            r"unfreeze_depth: 0, since .* gets [0-5] of 45 .* ends with the",
        ),
        ({"probe_share": 1}, "unfreeze_depth: 0, since probe_share=1 keeps the probe"),
    ],
)
@pytest.mark.filterwarnings("ignore:unfreeze_depth, dropout had no effect")
def test_training_ends_with_a_probe_that_is_nearly_always_right(changes, said, capsys):
    X, y = pictures()
    shown = {"X_val": X, "y_val": y}
    clf = transfer(**{**PHOTOS, "verbose": 1, **changes}).fit(X, y, **shown)
    out = capsys.readouterr().out
    assert re.search(said, clf.depth_reason_)
    assert (clf.depth_reason_ in out) == (changes["probe_share"] == "auto")
    assert clf.unfreeze_depth_ == 0
    assert "train_loss" in out
    assert clf.probe_share_ == clf.n_iter_ == clf.best_epoch_ == len(clf.history_) == 1
    probe = transfer(unfreeze_depth=0, probe_share="auto", verbose=1).fit(X, y)
    assert "probe_share" not in capsys.readouterr().out  # there is no choice
    np.testing.assert_allclose(clf.predict_proba(X), probe.predict_proba(X), atol=1e-6)


def test_fit_warns_of_what_it_did_not_use_when_it_ends_with_the_probe():
    X, y = pictures()
    auto = {**AUTO, "unfreeze_depth": "auto"}
    asked = {"unfreeze_depth": 1, "augment": "flip_crop", "mixup": 0.2}
    asked |= {"dropout": 0.5, "label_smoothing": 0.1}
    named = "^unfreeze_depth, dropout, mixup, label_smoothing, augment had no effect"
    with pytest.warns(UserWarning, match=named):
        transfer(**{**auto, **asked}).fit(X, y)
    with warnings.catch_warnings(action="error"):
        transfer(**auto).fit(X, y)
        transfer(**{**auto, "unfreeze_depth": 0}).fit(X, y)
        transfer(**{**auto, "unfreeze_depth": 1}, max_epochs=1).fit(X, y)
        transfer(unfreeze_depth=1, probe_share=0).fit(X, y)


def test_enlarged_images_keep_a_fixed_share():
    X, y = pictures()
    enlarged = {**PHOTOS, **AUTO, "image_size": 16}
    assert transfer(**enlarged).fit(X, y).probe_share_ == pytest.approx(1 / 3)


@pytest.mark.parametrize("size", [8, 16])  # as they are, and enlarged
def test_a_backbone_may_limit_the_share(size, capsys):
    X, y = pictures()
    limited = {**AUTO, "backbone": replace(MINI, max_probe_share=0.2)}
    clf = transfer(**PHOTOS, **limited, image_size=size, verbose=1).fit(X, y)
    assert clf.probe_share_ == 0.2
    assert clf.n_iter_ == PHOTOS["max_epochs"]
    is_said = "the most that is kept with this backbone" in capsys.readouterr().out
    assert is_said == (size == 8)


@pytest.mark.parametrize("changes", [{"head_init": "random"}, {"weights": None}])
def test_without_a_probe_of_pretrained_features_nothing_is_averaged(changes):
    X, y = pictures()
    clf, auto = watch(X, y, **changes)
    assert clf.probe_share_ == 0
    _, plain = watch(X, y, probe_share=0, **changes)
    assert torch.equal(auto[-1]["head.linear.weight"], plain[-1]["head.linear.weight"])


def test_images_are_drawn_from_all_classes_that_come_in_turn():
    rows, classes = np.arange(5, 1005), 4
    drawn = draw_rows(rows, 250)
    assert len(set(drawn)) == 250
    assert set(drawn) <= set(rows)
    assert np.bincount(drawn % classes).min() > 40
    assert np.array_equal(drawn, draw_rows(rows, 250))
    assert np.array_equal(draw_rows(rows, 1000), rows)


def test_training_that_goes_on_is_not_averaged():
    X, y = pictures()
    clf = transfer(**PHOTOS, warm_start=True).fit(X, y)
    assert clf.probe_share_ > 0
    assert clf.fit(X, y).probe_share_ == 0


def test_a_head_that_is_solved_alone_is_the_probe():
    X, y = pictures()
    assert transfer(unfreeze_depth=0).fit(X, y).probe_share_ == 1


def test_an_interrupt_in_the_second_epoch_does_not_leave_the_probe():
    class CtrlC(Callback):
        def on_batch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt

    clf = transfer(**PHOTOS, probe_share=0.25, callbacks=[CtrlC()])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*pictures())
    assert (clf.n_iter_, clf.probe_share_, clf.unfreeze_depth_) == (1, 0.25, 1)


def test_an_interrupt_at_the_end_of_the_probe_keeps_it():
    class CtrlC(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyboardInterrupt

    clf = transfer(**PHOTOS, probe_share=0.25, callbacks=[CtrlC()]).fit(*pictures())
    assert (clf.n_iter_, clf.probe_share_, clf.unfreeze_depth_) == (1, 1, 0)
    assert clf.depth_reason_ == "unfreeze_depth: 0, since training ended there."


def test_after_the_best_epoch_was_the_first_all_is_probe():
    X, y = pictures()
    other = np.roll(y, 1)  # validation labels that nothing can learn
    clf, _ = watch(X, y, X_val=X, y_val=other, probe_share=0.25, lr=0.1)
    assert clf.best_epoch_ == clf.probe_share_ == 1


def test_what_an_interrupted_epoch_learned_is_averaged_too():
    class CtrlC(Watching):
        def on_batch_end(self, net, **kwargs):
            if len(net.history) == 3:
                state = net.module_.state_dict()
                self.weights.append({name: t.clone() for name, t in state.items()})
                raise KeyboardInterrupt

    interrupting = CtrlC()
    clf = transfer(**PHOTOS, probe_share=0.25, callbacks=[interrupting])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*pictures())
    probe, _, trained = interrupting.weights
    for name, tensor in clf.net_.module_.state_dict().items():
        if tensor.is_floating_point():
            expected = 0.25 * probe[name] + 0.75 * trained[name]
            torch.testing.assert_close(tensor, expected, msg=name)


def test_an_interrupt_amid_averaging_leaves_no_mixture():
    X, y = pictures()
    _, averaged = watch(X, y, probe_share=0.25)
    callback = ProbeAverage(0.25)
    clf = transfer(**PHOTOS, probe_share=0.25).fit(X, y)
    net = clf.net_
    callback.on_train_begin(net)
    callback.probe_, callback.share_ = callback_copy(averaged[0], net), 0.25
    callback.trained_ = callback_copy(averaged[1], net)
    for tensor in net.module_.layer4.parameters():  # half done, in whatever way
        tensor.data.zero_()
    callback.on_train_end(net)
    for name, tensor in net.module_.state_dict().items():
        if tensor.is_floating_point():
            expected = 0.25 * averaged[0][name] + 0.75 * averaged[1][name]
            torch.testing.assert_close(tensor, expected, msg=name)
    assert callback.probe_ is callback.trained_ is None


def callback_copy(state, net):
    """Copy the weights and statistics that may learn, in the callback's order."""
    present = {name: t.clone() for name, t in net.module_.state_dict().items()}
    net.module_.load_state_dict(state)
    copied = [tensor.clone() for tensor in list_open(net)]
    net.module_.load_state_dict(present)
    return copied


@pytest.mark.parametrize("share", ["auto", 0.25])
def test_an_average_that_is_worse_for_the_training_loss_is_not_kept(
    share, monkeypatch, capsys
):
    X, y = pictures()
    losses = iter([0.3, 0.5, 0.1])  # of the probe, the average, and what was trained
    monkeypatch.setattr(StagesNet, "measure_loss", lambda net, data: next(losses))
    clf, found = watch(X, y, probe_share=share, verbose=1)
    _, trained = watch(X, y, probe_share=0)
    is_kept = share == 0.25
    assert clf.probe_share_ == (0.25 if is_kept else 0)
    assert ("probe_share: 0, since the average" in capsys.readouterr().out) != is_kept
    expected = found[-1] if is_kept else trained[-1]
    for name, tensor in clf.net_.module_.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.mark.parametrize(
    ("losses", "share"), [((0.3, 0.15, 0.1), 0.25), ((0.3, 0.16, 0.1), 0)]
)
def test_an_average_may_have_at_most_the_average_loss(losses, share, monkeypatch):
    shown = iter(losses)
    monkeypatch.setattr(StagesNet, "measure_loss", lambda net, data: next(shown))
    quarter = {"backbone": replace(MINI, max_probe_share=0.25), "probe_share": "auto"}
    clf = transfer(**PHOTOS, **quarter).fit(*pictures())
    assert clf.probe_share_ == share


def test_the_loss_that_is_measured_is_the_log_loss_of_images_as_they_are():
    X, y = pictures()
    for depth in (0, 5):
        clf = transfer(unfreeze_depth=depth, dropout=0.5).fit(X, y)
        weights = np.linspace(0.5, 2, len(y), dtype=np.float32)
        labels = np.unique(y, return_inverse=True)[1]
        found = clf.net_.measure_loss(ImageDataset(X, labels, weights))
        proba = clf.predict_proba(X).astype(np.float64)
        proba /= proba.sum(axis=1, keepdims=True)
        expected = log_loss(y, proba, sample_weight=weights)
        assert found == pytest.approx(expected, rel=1e-4)


def test_a_fitted_classifier_does_not_keep_its_images_alive():
    X, y = pictures()
    X = X.copy()
    alive = weakref.ref(X)
    clf = transfer(**PHOTOS, activation_cache=None).fit(X, y)
    del X
    gc.collect()
    assert alive() is None
    assert 0 < clf.probe_share_ < 1


@pytest.mark.parametrize("share", [-0.1, 1.5, "half", None])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(ValueError, match="probe_share"):
        transfer(probe_share=share).fit(*pictures())
