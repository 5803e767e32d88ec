import ast
import inspect
import pickle
import re
import subprocess
import sys
import urllib.error

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from torchvision.models import resnet18

from sktransfer import (
    ResNetFeatureExtractor,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
)
from sktransfer._networks.backbones.build import make_stages, resolve_image_size
from sktransfer._networks.backbones.known import KNOWN, find_backbone
from sktransfer._networks.backbones.resnet import MINI_WIDTH
from sktransfer._networks.weights.loading import load_backbone
from tests.helpers import pictures, transfer


def test_features_feed_any_classifier():
    X, y = pictures()
    features = ResNetFeatureExtractor("mini_resnet18", image_size=8)
    clf = make_pipeline(features, LogisticRegression(max_iter=500)).fit(X, y)
    assert clf.score(*pictures(30, seed=1)) > 0.8
    frame = features.set_output(transform="pandas").fit_transform(X)
    assert frame.shape == (45, 8 * MINI_WIDTH)
    assert list(frame.columns) == list(features.get_feature_names_out())


def test_a_fitted_estimator_gives_its_backbone_also_through_clone():
    X, y = pictures()
    source = transfer(unfreeze_depth=5, max_epochs=3).fit(X, y)
    copy = clone(transfer(weights=source, unfreeze_depth=0)).fit(X, y)
    for name, tensor in source.net_.module_.state_dict().items():
        if not name.startswith("head."):
            assert torch.equal(tensor, copy.net_.module_.state_dict()[name]), name


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_local_weight_file_with_torchvision_names_is_loaded(tmp_path, suffix):
    stages = make_stages("resnet18", 2, 0.0, (32, 32))
    state = {
        name.removeprefix("stem."): tensor.contiguous()
        for name, tensor in stages.state_dict().items()
        if name.split(".")[0] not in ("preprocess", "head")
    }
    state["fc.weight"] = torch.zeros(1000, 512)
    path = tmp_path / f"resnet18{suffix}"
    (save_file if suffix == ".safetensors" else torch.save)(state, path)
    features = ResNetFeatureExtractor("resnet18", weights=path, image_size=32)
    loaded = features.fit(pictures(3)[0]).stages_
    assert torch.equal(loaded.layer3[0].conv1.weight, stages.layer3[0].conv1.weight)
    assert torch.equal(loaded.stem.conv1.weight, stages.stem.conv1.weight)


def test_weights_of_another_backbone_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"conv1.weight": torch.zeros(2, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match="do not fit the backbone"):
        transfer(weights=path).fit(*pictures())


def test_a_weight_file_cannot_run_code(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps(Evil()))
    torch.save(Evil(), tmp_path / "evil2.pth")
    for evil in (path, tmp_path / "evil2.pth"):
        with pytest.raises(ValueError, match="could not be read"):
            transfer(weights=evil).fit(*pictures())
    assert not (tmp_path / "ran").exists()


def test_uncached_weights_without_a_network_give_url_target_and_ways_out(
    tmp_path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("connection refused")

    monkeypatch.setattr("torch.hub.download_url_to_file", refuse)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    with pytest.raises(OSError, match=r"https://\S+resnet50\S+\.pth") as caught:
        ResNetTransferClassifier().fit(*pictures())
    message = str(caught.value)
    assert str(tmp_path / "checkpoints") in message
    assert "efficientnet_lite0" in message
    assert "mini_resnet18" in message
    assert "weights=None" in message


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"backbone": "resnet7"}, "backbone='resnet7'"),
        ({"weights": "IMAGENET9K"}, "weights='IMAGENET9K'"),
        ({"weights": "nowhere.pth"}, r"nowhere\.pth"),
        ({"unfreeze_depth": 6}, "unfreeze_depth=6"),
        ({"unfreeze_depth": -1}, "unfreeze_depth"),
        ({"device": "abacus"}, "device='abacus'"),
        ({"image_shape": (4, 4, 1)}, "image_shape"),
        ({"dropout": 1.0}, "dropout"),
        ({"early_stopping": True, "validation_fraction": 0.01}, "early_stopping=True"),
    ],
)
def test_a_wrong_parameter_is_named_with_its_value_before_training(changes, match):
    clf = transfer()
    clf.set_params(**changes)
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        clf.fit(*pictures())


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(RuntimeError, match="device='cuda'"):
        transfer(device="cuda").fit(*pictures())


@pytest.mark.parametrize(
    ("X", "match"),
    [
        (np.zeros((45, 8, 8, 5), np.uint8), "5 channels"),
        (np.zeros((45, 3, 8, 8), np.uint8), "transpose"),
        (np.zeros((45, 50)), "image_shape"),
        (np.full((45, 8, 8, 3), np.nan), "NaN"),
        (np.zeros((40, 8, 8, 3), np.uint8), "inconsistent"),
        ([f"missing{i}.png" for i in range(45)], r"missing0\.png"),
    ],
)
def test_wrong_images_are_refused_before_training(X, match):
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        transfer().fit(X, pictures()[1])


def test_images_of_another_shape_are_refused_by_predict():
    clf = transfer().fit(*pictures())
    with pytest.raises(ValueError, match=r"\(4, 16, 3\)"):
        clf.predict(np.zeros((2, 4, 16, 3), np.uint8))


def test_paths_pil_images_and_arrays_give_the_same_probabilities(tmp_path):
    from PIL import Image

    X, y = pictures(12)
    pil = [Image.fromarray(image) for image in X]
    paths = [tmp_path / f"{i}.png" for i in range(12)]
    for image, path in zip(pil, paths, strict=True):
        image.save(path)
    proba = [transfer().fit(kind, y).predict_proba(kind) for kind in (X, pil, paths)]
    np.testing.assert_array_equal(proba[0], proba[1])
    np.testing.assert_array_equal(proba[0], proba[2])


def test_a_pickled_estimator_predicts_the_same():
    X, y = pictures()
    clf = transfer().fit(X, y)
    copy = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(copy.predict_proba(X), clf.predict_proba(X))


def test_a_fit_marked_as_cuda_predicts_on_a_machine_without(tmp_path):
    X, y = pictures()
    clf = transfer().fit(X, y)
    expected = clf.predict_proba(X)
    clf.net_.device = clf.device_ = "cuda"
    np.save(tmp_path / "X.npy", X)
    (tmp_path / "clf.pkl").write_bytes(pickle.dumps(clf))
    code = (
        "import pickle, sys, numpy as np, torch\n"
        "torch.set_num_threads(1)\n"
        "torch.cuda.is_available = lambda: False\n"
        "clf = pickle.load(open('clf.pkl', 'rb'))\n"
        "assert clf.device_ == 'cpu', clf.device_\n"
        "np.save('proba.npy', clf.predict_proba(np.load('X.npy')))\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(np.load(tmp_path / "proba.npy"), expected)


def test_the_image_size_suits_backbone_and_images():
    assert (
        resolve_image_size(find_backbone("mini_resnet18"), "auto", (224, 224, 3)) == 32
    )
    assert resolve_image_size(find_backbone("resnet50"), "auto", (32, 32, 3)) == 128
    assert resolve_image_size(find_backbone("resnet50"), "auto", (300, 200, 3)) == 288
    assert resolve_image_size(find_backbone("resnet50"), 96, (300, 200, 3)) == 96


@pytest.mark.parametrize("backbone", [name for name in KNOWN if "resnet" in name])
def test_every_resnet_has_the_same_stages(backbone):
    names = make_stages(backbone, 2, 0.0, None).names
    assert names == ("stem", "layer1", "layer2", "layer3", "layer4", "head")


@pytest.mark.parametrize("size", [16, np.int64(16)])
def test_any_integer_is_an_image_size(size):
    X, y = pictures(12)
    scratch = ScratchCNNClassifier(image_size=size, max_epochs=1, device="cpu")
    for clf in (transfer(image_size=size, max_epochs=1), scratch):
        assert clf.fit(X, y).net_.module_.preprocess.image_size == (16, 16)


def test_the_stages_of_a_torchvision_resnet_compute_what_it_computes():
    original = resnet18(weights=None).eval()
    stages = make_stages("resnet18", 1000, 0.0, None).eval()
    load_backbone(
        find_backbone("resnet18"), stages, original.state_dict(), "the original"
    )
    stages.head.linear.load_state_dict(original.fc.state_dict())
    images = torch.rand(2, 40, 40, 3)
    normalised = images.permute(0, 3, 1, 2) - torch.tensor([0.485, 0.456, 0.406]).view(
        3, 1, 1
    )
    normalised /= torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(stages(images), original(normalised))


def test_a_frozen_estimator_gives_its_weights_even_in_a_grid_search():
    X, y = pictures()
    fitted = FrozenEstimator(transfer().fit(X, y))
    search = GridSearchCV(
        transfer(max_epochs=1), {"weights": [fitted, None]}, cv=2, error_score="raise"
    )
    assert len(search.fit(X, y).cv_results_["params"]) == 2


def test_large_pictures_of_one_size_are_read_no_larger_than_the_network_sees(tmp_path):
    files = [str(tmp_path / f"{i}.png") for i in range(4)]
    for i, file in enumerate(files):
        Image.new("RGB", (120, 60), (60 * i,) * 3).save(file)
    clf = transfer(image_size=16, max_epochs=1).fit(files, [0, 1, 0, 1])
    assert clf.image_shape_ == (16, 16, 3)
    whole = transfer(image_size=None, max_epochs=1).fit(files, [0, 1, 0, 1])
    assert whole.image_shape_ == (60, 120, 3)


def test_a_fit_on_pictures_forgets_the_names_of_a_fit_on_a_frame():
    X, y = pictures(6)
    rows = pd.DataFrame(X.reshape(6, -1)).add_prefix("pixel")
    clf = transfer(image_shape=(8, 8, 3), max_epochs=1).fit(rows, y)
    assert len(clf.feature_names_in_) == 192
    clf.fit([Image.fromarray(image) for image in X], y)
    assert not hasattr(clf, "feature_names_in_")


@pytest.mark.parametrize(
    "estimator",
    [ResNetTransferClassifier, ScratchCNNClassifier, ResNetFeatureExtractor],
)
def test_docstrings_tell_the_defaults_of_the_signature(estimator):
    told = dict(
        re.findall(r"^(\w+) : .*default=(.*)$", inspect.getdoc(estimator), re.M)
    )
    for name, parameter in inspect.signature(estimator).parameters.items():
        assert ast.literal_eval(told[name]) == parameter.default, name
