"""Weights are read once for all fits of a search, which changes no fit."""

import os

import numpy as np
import pytest
import torch

from sktransfer import ResNetTransferClassifier
from sktransfer._activations.prefix import Prefix
from sktransfer._networks.backbones.build import make_pretrained, make_stages
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.backbones.resnet import MINI_WIDTH
from sktransfer._networks.weights.sources import WeightFile, find_weights

CPU = torch.device("cpu")
SHAPE = (8, 8, 3)


def written(path, seed, **changes):
    """Weights in a file that looks old, or it would not be taken for known."""
    torch.manual_seed(seed)
    state = make_stages("mini_resnet18", 2, 0.0, (8, 8)).state_dict() | changes
    torch.save(state, path)
    os.utime(path, (seed, seed))
    return state


def loaded(weights="auto"):
    return make_pretrained("mini_resnet18", weights, 2, 0.0, 8, SHAPE)


def namespace(stages):
    return Prefix(stages, 5, CPU, "float32").namespace(SHAPE)


def backbone_of(state):
    return {k: v for k, v in state.items() if not k.startswith("head")}


@pytest.fixture
def counted(monkeypatch):
    """The files that are read."""
    paths = []
    read = WeightFile.read

    def reading(source):
        paths.append(source.path)
        return read(source)

    monkeypatch.setattr(WeightFile, "read", reading)
    return paths


def test_a_fit_is_the_same_whichever_network_was_loaded_before(tmp_path):
    X = np.random.default_rng(0).integers(0, 256, (20, *SHAPE), dtype=np.uint8)
    y = np.arange(20) % 2
    clf = ResNetTransferClassifier("mini_resnet18", max_epochs=1, random_state=0)
    first = clf.fit(X, y).predict_proba(X)
    again = clf.fit(X, y).predict_proba(X)
    written(tmp_path / "other.pth", 0)
    loaded(tmp_path / "other.pth")
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, clf.fit(X, y).predict_proba(X))


def test_a_file_that_was_written_anew_is_read_anew(tmp_path):
    for seed in (1, 2):
        state = written(tmp_path / "weights.pth", seed)
        got = loaded(tmp_path / "weights.pth").state_dict()
        for name, tensor in backbone_of(state).items():
            assert torch.equal(got[name], tensor), name


def test_a_file_that_was_written_just_now_is_read_each_time(tmp_path, counted):
    path = tmp_path / "weights.pth"
    torch.save(written(path, 1), path)
    loaded(path)
    loaded(path)
    assert len(counted) == 2


def test_a_file_that_is_gone_is_missed(tmp_path):
    written(tmp_path / "weights.pth", 1)
    loaded(tmp_path / "weights.pth")
    (tmp_path / "weights.pth").unlink()
    with pytest.raises(FileNotFoundError):
        loaded(tmp_path / "weights.pth")


def test_fits_that_follow_each_other_read_the_weights_once(counted, tmp_path):
    written(tmp_path / "weights.pth", 3)
    for size in (8, 12, None):
        make_pretrained("mini_resnet18", tmp_path / "weights.pth", 2, 0.5, size, SHAPE)
    assert len(counted) == 1


def test_the_best_weights_have_a_name_of_their_own():
    bundled = find_weights(find_backbone("mini_resnet18"), "DEFAULT")
    assert bundled == find_weights(find_backbone("mini_resnet18"), "auto")
    assert bundled.path.is_file()
    assert (
        find_weights(find_backbone("resnet50"), "DEFAULT").entry.name == "IMAGENET1K_V2"
    )


def test_what_happens_to_one_network_does_not_reach_the_next():
    first = loaded()
    before = {name: tensor.clone() for name, tensor in first.state_dict().items()}
    with torch.no_grad():
        for tensor in first.state_dict().values():
            tensor.zero_()
    for name, tensor in backbone_of(loaded().state_dict()).items():
        assert torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("change", ["weight", "statistic", "sign of a zero"])
def test_the_hash_follows_every_bit_of_loaded_weights(change, tmp_path):
    weight = torch.zeros(MINI_WIDTH, MINI_WIDTH, 3, 3)
    written(tmp_path / "weights.pth", 0, **{"layer1.0.conv1.weight": weight})
    stages = loaded(tmp_path / "weights.pth")
    before = namespace(stages)
    if change == "weight":
        stages.layer1[0].conv1.weight.data[0, 0, 0, 0] += 1e-6
    elif change == "statistic":
        stages.layer4[0].bn1.running_mean[0] += 1e-6
    else:
        stages.layer1[0].conv1.weight.data[0, 0, 0, 0] = -0.0
    assert namespace(stages) != before
    assert namespace(loaded(tmp_path / "weights.pth")) == before


def test_the_hash_is_the_same_whether_weights_were_loaded_or_not():
    stages = loaded()
    fresh = make_stages("mini_resnet18", 2, 0.0, (8, 8))
    fresh.load_state_dict(stages.state_dict())
    name = namespace(fresh)
    loaded("auto")
    assert namespace(fresh) == namespace(stages) == name


def test_counts_of_batches_that_a_file_lacks_begin_at_zero(tmp_path):
    state = written(tmp_path / "weights.pth", 0)
    short = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    assert len(short) < len(state)
    torch.save(short, tmp_path / "weights.pth")
    got = loaded(tmp_path / "weights.pth").state_dict()
    counts = [v for k, v in got.items() if k.endswith("num_batches_tracked")]
    assert counts
    assert not any(counts)
