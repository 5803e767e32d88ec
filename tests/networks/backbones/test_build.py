import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from torch import nn

from sktransfer import Backbone, FeatureExtractor, TransferClassifier
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.backbones.known import KNOWN, find_backbone
from tests.helpers import SHORT, pictures


class Tiny(nn.Module):
    """A network of one's own, with a head for other classes."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.body = nn.Sequential(nn.ReLU(), nn.Conv2d(4, 6, 3, padding=1))
        self.classifier = nn.Linear(6, 11)


STAGES = {"stem": ["conv1", "norm"], "stage1": ["body.0", "body.1"]}
TINY = Backbone("tiny", Tiny, STAGES, head="classifier", image_size=8)


def tiny_file(path, **changes):
    """Write the weights of a tiny network, and return the network."""
    torch.manual_seed(0)
    network = Tiny()
    save_file(network.state_dict() | changes, path)
    return network


def test_a_network_of_ones_own_is_cut_loaded_and_fine_tuned(tmp_path):
    network = tiny_file(tmp_path / "tiny.safetensors")
    backbone = replace(TINY, weights=tmp_path / "tiny.safetensors")
    X, y = pictures()
    clf = TransferClassifier(backbone, unfreeze_depth=1, **SHORT).fit(X, y)
    assert clf.net_.module_.names == ("stem", "stage1", "head")
    stem = clf.net_.module_.get_submodule("stem")
    assert torch.equal(stem[0].weight, network.conv1.weight)
    assert clf.score(X, y) > 0.8
    features = FeatureExtractor(backbone).fit_transform(X)
    assert features.shape == (45, 6)


def test_stages_of_a_network_compute_what_it_computes():
    stages = make_stages(TINY, 11, 0.0, None).eval()
    network = Tiny().eval()
    stages.stem[0], stages.stem[1] = network.conv1, network.norm
    stages.stage1[0], stages.stage1[1] = network.body[0], network.body[1]
    images = torch.rand(2, 8, 8, 3)
    with torch.no_grad():
        x = stages.preprocess(images)
        expected = network.body(network.norm(network.conv1(x))).mean(dim=(2, 3))
        torch.testing.assert_close(stages.encode(images, 2), expected)


def test_a_description_can_be_cloned_pickled_copied_and_searched(tmp_path):
    tiny_file(tmp_path / "tiny.safetensors")
    backbone = replace(TINY, weights=tmp_path / "tiny.safetensors")
    assert pickle.loads(pickle.dumps(backbone)) == backbone == copy.deepcopy(backbone)
    clf = TransferClassifier(backbone, unfreeze_depth=0, **SHORT)
    assert clone(clf).backbone == backbone
    X, y = pictures()
    grid = {"backbone": [backbone, "mini_resnet18"]}
    search = GridSearchCV(clf, grid, cv=2, error_score="raise").fit(X, y)
    assert len(search.cv_results_["params"]) == 2
    again = pickle.loads(pickle.dumps(search.best_estimator_))
    np.testing.assert_array_equal(again.predict_proba(X), search.predict_proba(X))


def test_activations_of_ones_own_network_are_computed_once(tmp_path):
    tiny_file(tmp_path / "tiny.safetensors")
    backbone = replace(TINY, weights=tmp_path / "tiny.safetensors")
    X, y = pictures()
    options = {**SHORT, "unfreeze_depth": 0, "augment": None}
    clf = TransferClassifier(backbone, activation_cache=tmp_path / "cache", **options)
    assert clf.fit(X, y).cache_info_.misses == 45
    assert clone(clf).fit(X, y).cache_info_.misses == 0


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        ({"stem": ["conv1"], "stage1": ["body"]}, "'norm.weight' is in no stage"),
        ({"stem": ["conv1", "norm"], "stage1": ["bodi"]}, "has no 'bodi'"),
        (
            {"stem": ["conv1", "norm"], "stage1": ["body", "body.1"]},
            "'body.1.weight' is in 2 stages",
        ),
        ({"stem": ["conv1", "norm"], "head": ["body"]}, "'head' is the name"),
    ],
)
def test_stages_that_do_not_make_up_the_network_are_refused(stages, message):
    backbone = replace(TINY, stages=stages)
    with pytest.raises(ValueError, match=message) as caught:
        TransferClassifier(backbone, weights=None, unfreeze_depth=1).fit(*pictures())
    assert "'tiny'" in str(caught.value)


def test_stages_that_cannot_run_after_each_other_are_refused():
    backbone = replace(TINY, stages={"stem": ["body"], "stage1": ["conv1", "norm"]})
    with pytest.raises(ValueError, match="cannot run one after another on images of 8"):
        TransferClassifier(backbone, weights=None, unfreeze_depth=1).fit(*pictures())


def test_a_backbone_that_names_no_weights_says_so():
    with pytest.raises(ValueError, match="backbone='tiny' names no weights"):
        TransferClassifier(TINY, unfreeze_depth=1).fit(*pictures())


def test_an_unknown_name_lists_the_names_and_the_nearest_one():
    with pytest.raises(ValueError, match=r"resnet101.*mean .*'efficientnet_lite0'"):
        TransferClassifier("efficientnet_lite").fit(*pictures())


def test_the_number_of_channels_is_the_backbones(tmp_path):
    X, y = pictures()
    four = np.concatenate([X, X[..., :1]], axis=3)
    with pytest.raises(ValueError, match=r"4 channels.*takes 1 \(grey\) or 3 \(RGB\)"):
        TransferClassifier().fit(four, y)


def make_infrared():
    network = Tiny()
    network.conv1 = nn.Conv2d(4, 4, 3, padding=1)
    return network


def test_a_backbone_may_take_other_channels():
    X, y = pictures()
    infrared = replace(TINY, make=make_infrared, mean=(0.5,) * 4, std=(0.5,) * 4)
    clf = TransferClassifier(infrared, weights=None, unfreeze_depth=2, **SHORT)
    assert clf.fit(np.concatenate([X, X[..., :1]], axis=3), y).image_shape_ == (8, 8, 4)
    with pytest.raises(ValueError, match=r"2 channels.*takes 1 or 4"):
        clf.fit(X[..., :2], y)


@pytest.mark.parametrize(
    ("mode", "has_weights", "moves"),
    [("train", True, True), ("eval", True, False), ("eval", False, True)],
)
def test_batch_norm_of_open_stages_keeps_the_statistics_of_weights_where_told(
    tmp_path, mode, has_weights, moves
):
    X, y = pictures()
    tiny_file(tmp_path / "tiny.safetensors")
    weights = tmp_path / "tiny.safetensors" if has_weights else None
    backbone = replace(TINY, batch_norm=mode)
    clf = TransferClassifier(
        backbone, weights=weights, unfreeze_depth=2, probe_share=0, **SHORT
    )
    norm = clf.fit(X, y).net_.module_.stem[1]
    assert bool(norm.running_mean.any()) == moves
    assert norm.weight.requires_grad


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("optimizer", "adam", "optimizer='adam' .* 'sgd', 'adamw'"),
        ("batch_norm", "frozen", "batch_norm='frozen' .* 'train', 'eval'"),
        ("max_probe_share", 1.5, r"max_probe_share=1.5 .* \[0, 1\]"),
        ("max_probe_share", "half", "max_probe_share='half'"),
    ],
)
def test_a_record_of_what_is_unknown_is_refused(field, value, said):
    with pytest.raises(ValueError, match=said):
        replace(TINY, **{field: value})


def test_rates_and_optimizer_are_those_of_the_backbone_unless_given():
    X, y = pictures()
    backbone = replace(TINY, optimizer="adamw", lr=2e-3, backbone_lr_factor=0.5)
    settings = {**SHORT, "weights": None, "unfreeze_depth": 2, "max_epochs": 3}
    clf = TransferClassifier(backbone, batch_size=32, **settings)
    clf.fit(*pictures(64))
    assert isinstance(clf.net_.optimizer_, torch.optim.AdamW)
    peaks = {g["stage"]: g["peak_lr"] for g in clf.net_.optimizer_.param_groups}
    assert peaks == {"stem": 1e-3, "stage1": 1e-3, "head": 2e-3}
    clf.set_params(lr=0.1, backbone_lr_factor=0.1, weight_decay=0.0)
    clf.set_params(net_params={"optimizer": torch.optim.SGD}).fit(X, y)
    assert isinstance(clf.net_.optimizer_, torch.optim.SGD)
    peaks = {g["stage"]: g["peak_lr"] for g in clf.net_.optimizer_.param_groups}
    assert peaks["head"] == 0.1
    assert peaks["stem"] == pytest.approx(0.01)


@pytest.mark.parametrize(("optimizer", "times"), [("adamw", 0.5), ("sgd", 1)])
def test_the_rate_of_adam_grows_with_the_square_root_of_the_batch(optimizer, times):
    backbone = replace(TINY, optimizer=optimizer, lr=1e-3)
    clf = TransferClassifier(backbone, weights=None, batch_size=8, **SHORT)
    assert clf.fit(*pictures(64)).net_.lr == pytest.approx(1e-3 * times)
    assert clf.set_params(lr=0.01).fit(*pictures(64)).net_.lr == 0.01


def test_earlier_stages_learn_more_slowly_with_layer_decay():
    backbone = replace(TINY, lr=0.1, backbone_lr_factor=1.0, layer_decay=0.5)
    clf = TransferClassifier(
        backbone, weights=None, unfreeze_depth=2, batch_size=32, **SHORT
    )
    clf.fit(*pictures(64))
    peaks = {g["stage"]: g["peak_lr"] for g in clf.net_.optimizer_.param_groups}
    assert peaks == pytest.approx({"head": 0.1, "stage1": 0.1, "stem": 0.05})


@pytest.mark.parametrize("name", KNOWN)
def test_every_backbone_with_a_name_has_at_most_six_stages_from_the_stem(name):
    backbone = find_backbone(name)
    assert backbone.name == name
    assert next(iter(backbone.stages)) == "stem"
    assert len(backbone.stages) <= 5
