"""Weights are read once for all fits of a search, which changes no fit."""

import numpy as np
import pytest
import torch

from sktransfer import ResNetTransferClassifier
from sktransfer._prefix import Prefix
from sktransfer._resnet import make_resnet, pretrained_resnet

CPU = torch.device("cpu")
SHAPE = (8, 8, 3)


def written(path, seed):
    torch.manual_seed(seed)
    stages = make_resnet("mini_resnet18", 2, 0.0, (8, 8))
    torch.save(stages.state_dict(), path)
    return stages.state_dict()


def loaded(weights="auto"):
    return pretrained_resnet("mini_resnet18", weights, 2, 0.0, 8, SHAPE)


def namespace(stages):
    return Prefix(stages, 5, CPU, "float32").namespace(SHAPE)


def backbone_of(state):
    return {k: v for k, v in state.items() if not k.startswith("head")}


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
    state = written(tmp_path / "weights.pth", 0)
    state["layer1.0.conv1.weight"][0, 0, 0, 0] = 0.0
    torch.save(state, tmp_path / "weights.pth")
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
    fresh = make_resnet("mini_resnet18", 2, 0.0, (8, 8))
    fresh.load_state_dict(stages.state_dict())
    name = namespace(fresh)
    loaded("auto")
    assert namespace(fresh) == namespace(stages) == name


def test_counts_of_batches_that_a_file_lacks_begin_at_zero(tmp_path):
    state = written(tmp_path / "weights.pth", 0)
    short = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    torch.save(short, tmp_path / "weights.pth")
    got = loaded(tmp_path / "weights.pth").state_dict()
    counts = [v for k, v in got.items() if k.endswith("num_batches_tracked")]
    assert counts
    assert not any(counts)
