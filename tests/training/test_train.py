import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from joblib import parallel_config
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.model_selection import GridSearchCV
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint, EpochScoring, LRScheduler

from sktransfer import (
    ResNetFeatureExtractor,
    ScratchCNNClassifier,
    UnfreezeSchedule,
)
from sktransfer._networks.backbones.build import make_stages
from tests.helpers import pictures, transfer


def numpy_chance():
    """Where NumPy's global generator stands."""
    return np.random.get_state()[1].tolist()  # noqa: NPY002, the global one is meant


def test_pictures_that_differ_in_colour_are_learnt():
    X, y = pictures(90)
    scratch = ScratchCNNClassifier(
        width=4, max_epochs=16, random_state=0, device="cpu", precision="float32"
    )
    assert scratch.fit(X, y).score(*pictures(30, seed=1)) > 0.8
    assert transfer(max_epochs=4).fit(X, y).score(*pictures(30, seed=1)) > 0.8


def test_frozen_stages_keep_the_pretrained_weights_bit_for_bit():
    X, y = pictures()
    pretrained = ResNetFeatureExtractor("mini_resnet18", image_size=8).fit(X)
    before = pretrained.stages_.state_dict()
    after = transfer(unfreeze_depth=1).fit(X, y).net_.module_.state_dict()
    for name, tensor in before.items():
        stage = name.split(".")[0]
        if stage in ("stem", "layer1", "layer2", "layer3"):
            assert torch.equal(tensor, after[name]), name
    assert not torch.equal(before["layer4.0.bn1.weight"], after["layer4.0.bn1.weight"])
    assert not torch.equal(
        before["layer4.0.conv1.weight"], after["layer4.0.conv1.weight"]
    )


def test_the_optimizer_holds_one_group_for_each_learning_stage_and_nothing_else():
    net = transfer(unfreeze_depth=1, backbone_lr_factor=0.1).fit(*pictures()).net_
    groups = net.optimizer_.param_groups
    assert [group["stage"] for group in groups] == ["head", "layer4"]
    assert groups[1]["peak_lr"] == pytest.approx(0.1 * groups[0]["peak_lr"])
    assert all(p.requires_grad for group in groups for p in group["params"])


def test_history_tells_which_depth_learnt_when():
    history = transfer(max_epochs=4).fit(*pictures()).history_
    assert [row["unfreeze_depth"] for row in history] == [0, 1, 2, 2]
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]


def test_the_schedule_works_in_a_plain_skorch_net():
    X, y = pictures()
    labels = np.unique(y, return_inverse=True)[1]
    net = NeuralNetClassifier(
        make_stages("mini_resnet18", 3, 0.0, (8, 8)),
        criterion=torch.nn.CrossEntropyLoss,
        train_split=None,
        max_epochs=2,
        callbacks=[UnfreezeSchedule("gradual", unfreeze_depth=1)],
        verbose=0,
    )
    before = {k: v.clone() for k, v in net.module.stem.state_dict().items()}
    net.fit(torch.from_numpy(X), torch.from_numpy(labels))
    assert net.history[:, "unfreeze_depth"] == [0, 1]
    for name, tensor in net.module_.stem.state_dict().items():
        assert torch.equal(tensor, before[name]), name


def test_the_same_seed_gives_the_same_probabilities_and_leaves_global_chance_alone():
    X, y = pictures()
    torch_state, numpy_state = torch.get_rng_state(), numpy_chance()
    first = transfer().fit(X, y).predict_proba(X)
    assert torch.equal(torch.get_rng_state(), torch_state)
    assert numpy_chance() == numpy_state
    torch.manual_seed(1)
    np.testing.assert_array_equal(transfer().fit(X, y).predict_proba(X), first)
    other = transfer(random_state=1).fit(X, y).predict_proba(X)
    assert not np.array_equal(other, first)


def test_a_loss_that_is_not_finite_names_epoch_batch_and_rate():
    clf = transfer(lr=1e30)
    with pytest.raises(FloatingPointError, match=r"epoch \d, batch \d.*lr=1e\+30"):
        clf.fit(*pictures())
    with pytest.raises(NotFittedError):
        clf.predict(pictures()[0])


def test_weights_that_the_very_last_step_ruined_are_noticed():
    X, y = pictures(8)
    one_step = {"max_epochs": 1, "batch_size": 8, "unfreeze_schedule": "immediate"}
    clf = transfer(lr=1e30, head_init="random", **one_step)
    with pytest.raises(FloatingPointError, match=r"last step of epoch 1 \(lr=1e\+30\)"):
        clf.fit(X, y)


class Locked(Callback):
    """Cannot be copied."""

    def __init__(self):
        self.lock = threading.Lock()


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"callbacks": [3]}, "callbacks holds 3; pass skorch callbacks"),
        ({"callbacks": [("name", "x")]}, r"callbacks holds \('name', 'x'\)"),
        ({"callbacks": [UnfreezeSchedule()]}, "but the estimator has its own"),
        ({"callbacks": [EpochScoring("accuracy")]}, "cannot read weighted batches"),
        ({"callbacks": [LRScheduler("StepLR")]}, "sets the rate of every stage itself"),
        ({"callbacks": [Locked()]}, "could not be copied"),
        (
            {"net_params": {"max_epochs": 1}},
            "net_params has 'max_epochs', but takes",
        ),
        ({"net_params": {"optimizer__colour": 1}}, r"optimizer__colour.* does not fit"),
        ({"augment": lambda batch: batch[:1]}, r"augment returned .*\(1, 8, 8, 3\)"),
        ({"augment": lambda batch: None}, r"augment returned NoneType"),
        ({"augment": lambda batch: batch * 0.9}, r"float32 for a batch of torch.uint8"),
    ],
)
def test_what_the_loop_cannot_use_is_named(parameters, message):
    with pytest.raises(ValueError, match=message):
        transfer(**parameters).fit(*pictures())


@pytest.mark.parametrize(
    "parameters",
    [
        {"callbacks": [3]},
        {"net_params": {"max_epochs": 1}},
        {"unfreeze_depth": 9},
        {"unfreeze_schedule": {0: 1, 1: 0}},
        {"activation_cache": __file__},
    ],
)
def test_wrong_parameters_are_told_before_weights_are_looked_for(parameters):
    with pytest.raises(ValueError, match=next(iter(parameters))):
        transfer(weights="absent.pth", **parameters).fit(*pictures())


def test_the_schedule_in_a_plain_net_names_the_depth_that_it_was_given():
    net = NeuralNetClassifier(
        make_stages("mini_resnet18", 3, 0.0, (8, 8)),
        callbacks=[UnfreezeSchedule("gradual", 7)],
        verbose=0,
    )
    with pytest.raises(ValueError, match="unfreeze_depth=7 is out of range"):
        net.fit(pictures()[0], np.arange(45) % 3)


@pytest.mark.parametrize("way", ["foreach", "fused"])
def test_the_optimizer_may_compute_another_way(way):
    X, y = pictures()
    expected = transfer().fit(X, y).predict_proba(X)
    clf = transfer(net_params={f"optimizer__{way}": True}).fit(X, y)
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-4)


def test_a_step_follows_the_gradient_of_the_mean_of_weighted_losses():
    X, y = pictures()
    net = transfer(label_smoothing=0.1, dropout=0.0).fit(X, y).net_
    stages = net.module_
    images, labels = torch.from_numpy(X), torch.arange(len(X)) % 3
    weights = torch.linspace(0, 3, len(X))
    net.n_passed, net.clip_norm = 0, None
    stages.zero_grad()
    step = net.train_step_single((images, (labels, weights)))
    made = [p.grad.clone() for p in stages.head.parameters()]
    stages.zero_grad()
    criterion = torch.nn.CrossEntropyLoss(reduction="none", label_smoothing=0.1)
    losses = criterion(stages(images), labels)
    loss = (losses * weights).mean()
    loss.backward()
    torch.testing.assert_close(step["loss"], loss.detach())
    for gradient, parameter in zip(made, stages.head.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad)
    net.clip_norm = 1e-3
    stages.zero_grad()
    net.train_step_single((images, (labels, weights)))
    norms = [p.grad.norm() for p in stages.parameters() if p.grad is not None]
    assert torch.stack(norms).norm() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(
    "broken", [{"lr": 1e30}, {"unfreeze_depth": 9}, {"weights": "absent.pth"}]
)
def test_a_failed_fit_leaves_the_last_one_in_place(broken):
    X, y = pictures()
    clf = transfer().fit(X, y)
    before, fitted = clf.predict_proba(X), set(vars(clf))
    clf.set_params(**broken)
    with pytest.raises((ValueError, OSError, FloatingPointError)):
        clf.fit(np.repeat(X, 2, axis=1), np.arange(len(X)) % 2)
    assert set(vars(clf)) == fitted
    np.testing.assert_array_equal(clf.predict_proba(X), before)


def test_a_failed_fit_of_the_extractor_leaves_the_last_one_in_place():
    X, _ = pictures()
    extractor = ResNetFeatureExtractor("mini_resnet18", image_size=8).fit(X)
    before = extractor.transform(X)
    with pytest.raises(FileNotFoundError):
        extractor.set_params(weights="absent.pth").fit(np.repeat(X, 2, axis=1))
    np.testing.assert_array_equal(extractor.transform(X), before)


def test_another_optimizer_trains_instead_of_sgd():
    clf = transfer(net_params={"optimizer": torch.optim.AdamW}).fit(*pictures())
    assert isinstance(clf.net_.optimizer_, torch.optim.AdamW)


def log_losses(clf, X, y):
    labels = np.searchsorted(clf.classes_, y)
    return -np.log(clf.predict_proba(X)[np.arange(len(X)), labels])


def test_the_recorded_losses_are_weighted_means():
    X, y = pictures(16)
    weights = np.full(16, 0.01)
    weights[0] = 10
    still = {"lr": 1e-12, "dropout": 0.0, "augment": None, "unfreeze_depth": 0}
    clf = transfer(**still, max_epochs=1, batch_size=4)
    clf.fit(X, y, sample_weight=weights, X_val=X, y_val=y, sample_weight_val=weights)
    expected = np.average(log_losses(clf, X, y), weights=weights)
    assert clf.history_[0]["train_loss"] == pytest.approx(expected, rel=1e-4)
    assert clf.history_[0]["valid_loss"] == pytest.approx(expected, rel=1e-4)


def test_class_weights_count_in_the_validation_loss_too():
    X, y = pictures(30)
    weights = {"red": 1.0, "green": 1.0, "blue": 50.0}
    clf = transfer(class_weight=weights, max_epochs=1).fit(X, y, X_val=X, y_val=y)
    expected = np.average(log_losses(clf, X, y), weights=[weights[c] for c in y])
    assert clf.history_[0]["valid_loss"] == pytest.approx(expected, rel=1e-4)


def test_one_grey_image_is_refused_with_what_to_pass_instead():
    X, y = pictures(30)
    clf = transfer(max_epochs=1).fit(X[..., 0], y)
    with pytest.raises(ValueError, match=r"8 features.*pass X\[None\]"):
        clf.predict(X[0, ..., 0])


def test_a_single_class_is_warned_of():
    X = pictures(30)[0]
    with pytest.warns(UserWarning, match="a single class, 'red', so nothing else"):
        transfer(max_epochs=1).fit(X, np.full(30, "red"))


def test_a_log_goes_to_a_writer_that_is_no_file(monkeypatch):
    class Writer:
        text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    monkeypatch.setattr("sys.stdout", Writer())
    transfer(verbose=1).fit(*pictures())
    assert "train_loss" in sys.stdout.text


def test_a_log_in_a_file_has_no_colours(capsys):
    transfer(verbose=1).fit(*pictures())
    printed = capsys.readouterr().out
    assert "train_loss" in printed
    assert "\x1b" not in printed


def test_the_best_epoch_is_the_one_whose_weights_are_kept():
    X, y = pictures(15)
    slow = {"lr": 3e-7, "unfreeze_depth": 0, "dropout": 0.0, "weight_decay": 0.0}
    clf = transfer(**slow, head_init="random", max_epochs=4).fit(X, y, X_val=X, y_val=y)
    losses = [row["valid_loss"] for row in clf.history_]
    assert clf.best_epoch_ == np.argmin(losses) + 1 > 1
    assert log_losses(clf, X, y).mean() == pytest.approx(min(losses), rel=1e-6)


def test_a_checkpoint_of_the_best_epoch_is_written(tmp_path):
    X, y = pictures()
    callbacks = [Checkpoint(dirname=tmp_path)]
    transfer(callbacks=callbacks).fit(X, y, X_val=X, y_val=y)
    assert (tmp_path / "params.pt").exists()


def test_a_callback_may_end_the_training():
    class Enough(Callback):
        def on_epoch_end(self, net, **kwargs):
            if len(net.history) == 2:
                raise KeyboardInterrupt  # as skorch's own callbacks do

    clf = transfer(max_epochs=5, callbacks=[Enough()]).fit(*pictures())
    assert clf.n_iter_ == 2


def test_validation_images_of_weight_zero_do_not_count():
    X, y = pictures()
    zeros = np.r_[np.ones(15), np.zeros(30)]
    some = {"X_val": X[:15], "y_val": y[:15]}
    more = {"X_val": X, "y_val": y, "sample_weight_val": zeros}
    a, b = (transfer().fit(X, y, **valid).history_ for valid in (some, more))
    assert [row["valid_loss"] for row in a] == [row["valid_loss"] for row in b]


class CtrlC(Callback):
    """Interrupts the third epoch."""

    def on_batch_begin(self, net, **kwargs):
        if len(net.history) == 3:
            raise KeyboardInterrupt


def test_ctrl_c_is_raised_again_and_the_best_weights_so_far_are_kept():
    X, y = pictures()
    valid = {"X_val": X[:15], "y_val": y[:15]}
    clf = transfer(max_epochs=6, callbacks=[CtrlC()])
    said = "after epoch 2 of 6; the weights of epoch [12] are kept"
    with (
        pytest.warns(ConvergenceWarning, match=said),
        pytest.raises(KeyboardInterrupt),
    ):
        clf.fit(X, y, **valid)
    assert clf.interrupted_
    losses = [row["valid_loss"] for row in clf.history_]
    assert clf.n_iter_ == len(losses) == 2
    assert clf.best_epoch_ == np.argmin(losses) + 1
    labels = np.searchsorted(clf.classes_, y[:15])
    proba = clf.predict_proba(X[:15])[np.arange(15), labels]
    assert -np.log(proba).mean() == pytest.approx(min(losses), rel=1e-4)


def test_ctrl_c_is_raised_again_where_warnings_are_errors():
    clf = transfer(max_epochs=6, callbacks=[CtrlC()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(KeyboardInterrupt):
            clf.fit(*pictures())
    assert clf.interrupted_


@pytest.mark.filterwarnings("ignore:interrupted after epoch 2")
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_ctrl_c_in_a_search_ends_the_search(n_jobs):
    clf = transfer(max_epochs=3, callbacks=[CtrlC()], unfreeze_depth=0)
    clf.set_params(head_init="random")
    search = GridSearchCV(clf, {"dropout": [0.0, 0.1]}, cv=2, n_jobs=n_jobs)
    with (
        parallel_config("loky", inner_max_num_threads=1),
        pytest.raises(KeyboardInterrupt),
    ):
        search.fit(*pictures())
    assert not hasattr(search, "best_estimator_")


def test_a_fit_that_is_not_interrupted_says_so():
    clf = transfer(max_epochs=6, callbacks=[CtrlC()])
    with (
        pytest.warns(ConvergenceWarning, match="the present weights are kept"),
        pytest.raises(KeyboardInterrupt),
    ):
        clf.fit(*pictures())
    assert clf.interrupted_
    assert not clf.set_params(callbacks=None).fit(*pictures()).interrupted_


def test_ctrl_c_in_the_first_epoch_leaves_nothing_fitted():
    class AtOnce(Callback):
        def on_batch_begin(self, net, **kwargs):
            raise KeyboardInterrupt

    clf = transfer(callbacks=[AtOnce()], head_init="random")
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*pictures())
    with pytest.raises(NotFittedError):
        clf.predict(pictures()[0])


class Signal(Callback):
    """Sends the process a real Ctrl-C once, at the end of the second epoch."""

    def on_epoch_end(self, net, **kwargs):
        if len(net.history) == 2:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("ignore:interrupted after epoch 2")
def test_ctrl_c_between_epochs_is_not_taken_for_a_callback_that_stops():
    handler = signal.getsignal(signal.SIGINT)
    clf = transfer(max_epochs=4, callbacks=[Signal()])
    with pytest.raises(KeyboardInterrupt):
        clf.fit(*pictures())
    assert clf.n_iter_ == 2
    assert signal.getsignal(signal.SIGINT) is handler


@pytest.mark.filterwarnings("ignore:interrupted after epoch 2")
def test_ctrl_c_stays_one_where_the_weights_are_ruined_already():
    class Ruins(CtrlC):
        def on_batch_begin(self, net, **kwargs):
            if len(net.history) == 3:
                net.module_.head.linear.weight.data[:] = float("nan")
            super().on_batch_begin(net)

    with pytest.raises(KeyboardInterrupt):
        transfer(max_epochs=4, callbacks=[Ruins()]).fit(*pictures())


def test_fits_in_threads_give_what_they_give_alone_and_leave_the_global_state():
    X, y = pictures(24)
    expected = [transfer(random_state=s).fit(X, y).predict_proba(X) for s in range(8)]
    before = torch.get_rng_state()
    with ThreadPoolExecutor(8) as pool:
        fits = pool.map(lambda s: transfer(random_state=s).fit(X, y), range(8))
        got = [clf.predict_proba(X) for clf in fits]
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("scratch", [True, False])
def test_images_of_weight_zero_might_as_well_not_be_there(scratch):
    X, y = pictures(45)
    weight = np.r_[np.ones(30), np.zeros(15)]
    brighter = np.concatenate([X[:30], X[30:] // 2 + 127])
    settings = {"class_weight": "balanced", "random_state": 0, "device": "cpu"}
    clf = transfer(**settings)
    if scratch:
        clf = ScratchCNNClassifier(width=4, max_epochs=2, **settings)
    zero = clf.fit(brighter, y, sample_weight=weight).predict_proba(X)
    np.testing.assert_array_equal(zero, clf.fit(X[:30], y[:30]).predict_proba(X))


def test_the_epoch_that_ends_a_fit_early_is_printed_and_the_reason_too(capsys):
    X, y = pictures(60)
    clf = transfer(max_epochs=30, lr=0.3, early_stopping=True, n_iter_no_change=1)
    clf.set_params(verbose=1, head_init="random").fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split()[0] for line in lines if line[:7].strip().isdigit()]
    assert shown == [str(row["epoch"]) for row in clf.history_]
    assert f"the weights of epoch {clf.best_epoch_} are restored" in lines[-2]


def test_early_stopping_restores_the_best_epoch():
    X, y = pictures(120)
    clf = transfer(max_epochs=30, lr=0.3, early_stopping=True, n_iter_no_change=1)
    clf.fit(X, y, X_val=X[:40], y_val=y[:40])
    losses = [row["valid_loss"] for row in clf.history_]
    assert clf.best_epoch_ == np.argmin(losses) + 1 < clf.n_iter_ < 30
    found = log_losses(clf, X[:40], y[:40]).mean()
    assert found == pytest.approx(min(losses), rel=1e-5, abs=1e-8)


def test_warm_start_goes_on_from_the_last_fit():
    X, y = pictures()
    clf = transfer(warm_start=True, head_init="random").fit(X, y)
    first = clf.history_[0]["train_loss"]
    clf.set_params(lr=1e-6).fit(X, y)
    assert clf.history_[0]["train_loss"] < first
    assert [row["unfreeze_depth"] for row in clf.history_] == [2, 2]
    with pytest.raises(ValueError, match=r"warm_start=True.*the classes"):
        clf.fit(X[y != "red"], y[y != "red"])
    with pytest.raises(ValueError, match=r"warm_start=True.*dropout"):
        clf.set_params(dropout=0.9).fit(X, y)
    with pytest.raises(ValueError, match="unfreeze_depth=9 is out of range"):
        clf.set_params(dropout=0.2, unfreeze_depth=9).fit(X, y)


def test_darker_images_than_in_fit_are_warned_about():
    X, y = pictures(12)
    clf = ScratchCNNClassifier(width=4, max_epochs=1, device="cpu")
    clf.fit(X.astype(float), y)
    with pytest.warns(UserWarning, match=r"up to 1, but the images in fit had up to"):
        clf.predict(X)


def test_images_that_are_normalised_already_are_warned_about():
    X, y = pictures(12)
    with pytest.warns(UserWarning, match="as if it were normalised already"):
        transfer().fit(X / 127.5 - 1, y)


def test_rows_that_are_hardly_images_are_warned_about():
    rows = np.random.default_rng(0).random((12, 4))
    with pytest.warns(UserWarning, match=r"4 numbers are read as .* \(2, 2, 1\)"):
        transfer().fit(rows, np.arange(12) % 2)


def test_a_plan_trains_as_the_schedule_that_it_spells_out():
    X, y = pictures()
    spelled_out = transfer(unfreeze_schedule=[0, 1], unfreeze_depth=1).fit(X, y)
    gradual = transfer(unfreeze_depth=1).fit(X, y)
    np.testing.assert_array_equal(
        spelled_out.predict_proba(X), gradual.predict_proba(X)
    )
    with pytest.raises(ValueError, match="has 3 depths for 2 epochs"):
        transfer(unfreeze_schedule=[0, 1, 1]).fit(X, y)
