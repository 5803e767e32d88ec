"""What is wrong is said before any training, with its name, its value and a remedy."""

import contextlib
import re
from http.client import IncompleteRead
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from scipy import sparse
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

import sktransfer._training.train
from sktransfer import (
    ResNetFeatureExtractor,
)
from tests import helpers

rng = np.random.default_rng(0)
X = rng.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
y = np.arange(12) % 2
PICTURES = [Image.fromarray(image) for image in X]


def scratch(**params):
    return helpers.scratch(**{"max_epochs": 1, **params})


def transfer(**params):
    return helpers.transfer(**{"max_epochs": 1, **params})


@pytest.fixture(scope="module")
def fitted():
    return scratch().fit(X, y)


@pytest.fixture(autouse=True)
def no_training(monkeypatch, fitted):
    def train(*args, **kwargs):
        pytest.fail("training began")

    monkeypatch.setattr(sktransfer._training.train, "train", train)


BOTH = pytest.mark.parametrize("make", [scratch, transfer])


@BOTH
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((12,), "Expected 2D array, got 1D array"),
        ((12, 8, 8, 3, 1), r"X must have shape .*; got \(12, 8, 8, 3, 1\)"),
        ((12, 0, 8, 3), r"no empty dimension; got \(12, 0, 8, 3\)"),
        ((12, 3, 8, 8), r"X of shape \(12, 3, 8, 8\) looks channels-first"),
        ((12, 50), r"image_shape=None cannot be inferred: .*n_features=50 .*\(5, 10"),
    ],
)
def test_an_array_of_a_wrong_shape_is_refused(make, shape, message):
    with pytest.raises(ValueError, match=message):
        make().fit(np.zeros(shape, np.uint8), y)


@pytest.mark.parametrize("n_channels", [2, 4])
def test_a_pretrained_network_refuses_other_than_grey_and_rgb(n_channels):
    images = np.zeros((12, 8, 8, n_channels), np.uint8)
    with pytest.raises(ValueError, match=f"X holds images with {n_channels} channels"):
        transfer().fit(images, y)


@BOTH
@pytest.mark.parametrize(
    ("image_shape", "images", "message"),
    [
        ((4, 4, 1), X.reshape(12, -1), r"image_shape=\(4, 4, 1\) does not fit X.*192"),
        ((4, 4, 3), X, r"image_shape=\(4, 4, 3\) contradicts X.*\(8, 8, 3\)"),
        ((-1, -1, 3), X.reshape(12, -1), r"image_shape=\(-1, -1, 3\) must be None or"),
        ((8, 8), PICTURES, r"image_shape=\(8, 8\) must be None or three"),
        ((8, 8, "3"), PICTURES, r"image_shape=\(8, 8, '3'\) must be None or three"),
        ((8, -1, 3), PICTURES, r"image_shape=\(8, -1, 3\): pictures need a height"),
    ],
)
def test_an_image_shape_that_does_not_fit_is_refused(
    make, image_shape, images, message
):
    with pytest.raises(ValueError, match=message):
        make(image_shape=image_shape).fit(images, y)


@BOTH
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_images_that_are_not_finite_are_refused(make, value):
    images = X / 255
    images[3, 0, 0, 0] = value
    with pytest.raises(ValueError, match=r"Input X contains (NaN|infinity)"):
        make().fit(images, y)


@BOTH
def test_values_that_no_image_has_are_refused(make, fitted):
    images = (X / 255).astype(np.float32)
    images[3] *= 1e38
    for call in (lambda: make().fit(images, y), lambda: fitted.predict(images)):
        with pytest.raises(ValueError, match=r"X\[3\] holds the value .*e\+3[78]"):
            call()


@BOTH
def test_sparse_rows_are_refused(make):
    with pytest.raises(TypeError, match="Sparse data was passed for X"):
        make().fit(sparse.csr_matrix(X.reshape(12, -1)), y)


@BOTH
@pytest.mark.parametrize("empty", [np.zeros((0, 192)), []])
def test_no_images_are_refused(make, empty):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        make().fit(empty, [])


@BOTH
def test_arrays_of_several_shapes_are_refused_with_the_first_that_differs(make):
    images = [np.zeros((8, 8, 3))] * 4 + [np.zeros((9, 8, 3))]
    with pytest.raises(ValueError, match=r"X\[4\] has shape \(9, 8, 3\), but X\[0\]"):
        make().fit(images, [0, 1, 0, 1, 0])


@BOTH
def test_one_image_is_refused(make):
    with pytest.raises(ValueError, match=r"1 sample\(s\).*minimum of 2"):
        make().fit(X[:1], y[:1])


@BOTH
def test_missing_files_are_counted_and_the_first_five_named(make, tmp_path):
    there = tmp_path / "there.png"
    Image.fromarray(X[0]).save(there)
    missing = [str(tmp_path / f"missing{i}.png") for i in range(7)]
    with pytest.raises(FileNotFoundError, match="7 of 8 image files") as caught:
        make().fit([str(there), *missing], y[:8])
    message = str(caught.value)
    assert all(path in message for path in missing[:5])
    assert missing[5] not in message


@BOTH
def test_an_unreadable_image_is_named_with_its_index_and_path(make, tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path, image in zip(paths, X, strict=False):
        Image.fromarray(image).save(path)
    paths[2].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=rf"image 2 \('{re.escape(str(paths[2]))}'\)"):
        make().fit(paths, y[:4])


@BOTH
def test_a_url_is_refused(make):
    with pytest.raises(ValueError, match=r"X\[1\] is 'https://.*': URLs are not"):
        make().fit(["a.png", "https://example.org/b.png"], y[:2])


@BOTH
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (y[:-1], r"inconsistent numbers of samples: \[12, 11\]"),
        (np.linspace(0, 1, 12), "Unknown label type: continuous"),
        (None, "requires y to be passed"),
        (np.where(y, np.nan, 0.0), "Input y contains NaN"),
    ],
)
def test_wrong_labels_are_refused(make, labels, message):
    with pytest.raises(ValueError, match=message):
        make().fit(X, labels)


def test_labels_of_another_number_than_files_are_refused(tmp_path):
    path = tmp_path / "image.png"
    Image.fromarray(X[0]).save(path)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[3, 2\]"):
        scratch().fit([path] * 3, [0, 1])


@BOTH
@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("dropout", 1.0),
        ("image_size", "large"),
        ("augment", "rotate"),
        ("mixup", -0.1),
        ("cutmix", "much"),
        ("max_epochs", 0),
        ("batch_size", 1),
        ("lr", 0.0),
        ("momentum", 1.0),
        ("class_weight", "even"),
        ("early_stopping", "always"),
        ("validation_fraction", 1.0),
        ("n_iter_no_change", 0),
        ("precision", "float16"),
        ("random_state", "seed"),
    ],
)
def test_a_parameter_out_of_range_is_named_with_its_value(make, parameter, value):
    message = rf"The '{parameter}' parameter .* Got {value!r} instead"
    with pytest.raises(ValueError, match=message):
        make(**{parameter: value}).fit(X, y)


@pytest.mark.parametrize(
    ("unfreeze_depth", "message"),
    [
        (6, r"unfreeze_depth=6 is out of range.*from 0 \(head only\) to 5"),
        (-1, r"unfreeze_depth=-1 is out of range.*from 0 \(head only\) to 5"),
        (1.5, "The 'unfreeze_depth' parameter .* Got 1.5"),
    ],
)
def test_an_unfreeze_depth_out_of_range_is_refused(unfreeze_depth, message):
    with pytest.raises(ValueError, match=message):
        transfer(unfreeze_depth=unfreeze_depth).fit(X, y)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(
        ValueError, match=r"'unfreeze_schedule' parameter .* Got 'late'"
    ):
        transfer(unfreeze_schedule="late").fit(X, y)


def test_an_unknown_backbone_is_refused():
    with pytest.raises(ValueError, match=r"backbone='resnet51' is unknown; .*resnet50"):
        transfer(backbone="resnet51").fit(X, y)
    with pytest.raises(ValueError, match="Did you mean 'timm/convnext_tiny'"):
        transfer(backbone="convnext_tiny").fit(X, y)


@pytest.mark.parametrize("backbone", ["mini_resnet18", "resnet18"])
def test_unknown_weights_are_refused(backbone):
    with pytest.raises(ValueError, match=f"weights='V9' is unknown for .*{backbone}"):
        transfer(backbone=backbone, weights="V9").fit(X, y)


def test_a_missing_weight_file_is_named():
    with pytest.raises(FileNotFoundError, match=r"weights='nowhere\.pth'"):
        transfer(weights="nowhere.pth").fit(X, y)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_damaged_weight_file_is_named(tmp_path, suffix):
    path = tmp_path / f"damaged.{suffix}"
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match=rf"damaged\.{suffix}' could not be read"):
        transfer(weights=path).fit(X, y)


def test_weights_of_another_network_are_refused(tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"conv1.weight": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"weights=.*other\.pth.* do not fit"):
        transfer(weights=path).fit(X, y)


def test_an_unfitted_estimator_as_weights_is_refused():
    with pytest.raises(NotFittedError):
        transfer(weights=transfer()).fit(X, y)


@BOTH
@pytest.mark.parametrize("device", ["mps", "meta", "xla"])
def test_a_device_that_is_not_supported_is_refused(make, device):
    with pytest.raises(ValueError, match=f"device='{device}' is not supported; pass"):
        make(device=device).fit(X, y)


@BOTH
@pytest.mark.parametrize(
    ("class_weight", "message"),
    [
        ({0: -1.0, 1: 1.0}, r"class_weight={0: -1.0, 1: 1.0} must hold finite numbers"),
        ({0: 0.0, 1: 0.0}, r"class_weight={0: 0.0, 1: 0.0} leave 0 image"),
    ],
)
def test_wrong_class_weights_are_refused(make, class_weight, message):
    with pytest.raises(ValueError, match=message):
        make(class_weight=class_weight).fit(X, y)


def test_a_wrong_schedule_is_told_before_weights_are_looked_for():
    with pytest.raises(ValueError, match=r"unfreeze_schedule={0: 2, 1: 1} must map"):
        transfer(unfreeze_schedule={0: 2, 1: 1}, weights="absent.pth").fit(X, y)


@pytest.mark.parametrize(
    "make", [transfer, lambda: ResNetFeatureExtractor("mini_resnet18", image_size=8)]
)
def test_floats_up_to_255_are_warned_about_before_pretrained_weights_see_them(make):
    estimator = make()
    with (
        pytest.warns(UserWarning, match=r"X holds float64 values up to 25\d") as caught,
        contextlib.suppress(pytest.fail.Exception),
    ):
        estimator.fit(X.astype(float), y)
    assert caught[0].filename == __file__


@pytest.mark.parametrize("dtype", [int, float])
def test_images_on_another_scale_than_in_fit_are_warned_about(fitted, dtype):
    with pytest.warns(UserWarning, match=r"up to 25\d, but the images in fit had up"):
        fitted.predict(X.astype(dtype))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ("picture.png", "X is a single str; pass a list of paths"),
        (Path("picture.png"), r"X is a single \w*Path; pass a list"),
        (PICTURES[0], "X is a single Image; pass a list"),
        (
            iter(["picture.png"]),
            r"X is a list_iterator; pass a list, such",
        ),
        ({"picture.png"}, "X is a set; pass a list"),
    ],
)
def test_what_is_no_set_of_images_is_refused(fitted, images, message):
    with pytest.raises(TypeError, match=message):
        fitted.predict(images)


@BOTH
def test_a_frame_with_a_column_of_paths_is_refused_by_name(make):
    frame = pd.DataFrame({"path": ["a.png"] * 12, "label": y})
    with pytest.raises(ValueError, match="2 columns, of which 'path' holds str"):
        make().fit(frame, y)


@BOTH
def test_one_colour_image_with_one_label_is_refused(make):
    with pytest.raises(ValueError, match=r"single colour image; pass X\[None\]"):
        make().fit(X[0], y[:1])


@BOTH
def test_contents_of_files_are_refused(make):
    with pytest.raises(TypeError, match="is the content of a file"):
        make().fit([b"JPEG"] * 12, y)


def test_a_weight_file_of_another_kind_is_named(tmp_path):
    path = tmp_path / "picture.jpg"
    path.write_bytes(b"x")
    with pytest.raises(ValueError, match="but its name ends in none of"):
        transfer(weights=str(path)).fit(X, y)


def test_a_single_image_comes_with_a_hint(fitted):
    with pytest.raises(ValueError, match=r"For a single image pass X\[None\]"):
        fitted.predict(X[0])


@pytest.mark.parametrize("weights", [StandardScaler(), LogisticRegression()])
def test_weights_that_are_no_network_are_refused(weights):
    weights.fit(np.eye(2), [0, 1])
    with pytest.raises(ValueError, match=f"weights holds a {type(weights).__name__}"):
        transfer(weights=weights).fit(X, y)


def test_a_schedule_of_words_is_refused():
    with pytest.raises(ValueError, match=r"unfreeze_schedule={0: 1, 'a': 2} must map"):
        transfer(unfreeze_schedule={0: 1, "a": 2}).fit(X, y)


@BOTH
def test_an_unknown_device_is_refused(make):
    with pytest.raises(ValueError, match="device='gpu' is unknown; pass 'auto'"):
        make(device="gpu").fit(X, y)


@BOTH
def test_cuda_is_refused_where_there_is_none(make, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(RuntimeError, match=r"device='cuda' was .* device='cpu'"):
        make(device="cuda").fit(X, y)


@BOTH
def test_early_stopping_refuses_a_class_of_one_image(make):
    labels = np.r_[2, y[1:]]
    with pytest.raises(ValueError, match=r"early_stopping=True .*early_stopping=False"):
        make(early_stopping=True).fit(X, labels)


@BOTH
@pytest.mark.parametrize(
    ("validation", "message"),
    [
        ({"X_val": X}, "X_val and y_val must be passed together"),
        ({"y_val": y}, "X_val and y_val must be passed together"),
        ({"sample_weight_val": np.ones(12)}, "sample_weight_val needs X_val"),
        (
            {"X_val": X, "y_val": y, "sample_weight_val": np.zeros(12)},
            "at least one non-zero number|sample_weight_val leaves no image",
        ),
        ({"X_val": X, "y_val": y + 1}, r"y_val holds labels that y does not: \[2\]"),
        ({"X_val": X, "y_val": y[:5]}, "inconsistent numbers of samples"),
        ({"X_val": X[:, :4], "y_val": y}, r"\(4, 8, 3\).*\(8, 8, 3\)"),
    ],
)
def test_a_validation_set_that_does_not_fit_is_refused(make, validation, message):
    with pytest.raises(ValueError, match=message):
        make().fit(X, y, **validation)


@BOTH
@pytest.mark.parametrize(
    ("sample_weight", "message"),
    [
        (np.ones(5), "sample_weight"),
        (np.full(12, -1.0), "Negative values in .*sample_weight"),
    ],
)
def test_wrong_sample_weights_are_refused(make, sample_weight, message):
    with pytest.raises(ValueError, match=message):
        make().fit(X, y, sample_weight=sample_weight)


@BOTH
@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_predicting_before_fit_is_refused(make, method):
    with pytest.raises(NotFittedError, match=r"This \w+Classifier instance is not"):
        getattr(make(), method)(X)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (X[:, :4], r"images of shape \(4, 8, 3\).*fitted on images of shape \(8, 8, 3"),
        (X[..., 0], r"images of shape \(8, 8, 1\).*fitted on images of shape \(8, 8,"),
        (X.reshape(12, -1)[:, :64], "64 features.* expecting 192 features"),
    ],
)
def test_images_of_another_shape_than_in_fit_are_refused(fitted, images, message):
    with pytest.raises(ValueError, match=message):
        fitted.predict(images)


@pytest.mark.parametrize("estimator", [ResNetFeatureExtractor, transfer])
def test_weights_that_cannot_be_downloaded_come_with_ways_out(
    estimator, tmp_path, monkeypatch
):
    def refuse(*args, **kwargs):
        raise URLError("connection refused")

    hub = torch.hub.get_dir()
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    torch.hub.set_dir(str(tmp_path))
    try:
        with pytest.raises(OSError, match="connection refused") as caught:
            estimator(backbone="resnet18", image_size=8, device="cpu").fit(X, y)
    finally:
        torch.hub.set_dir(hub)
    message = str(caught.value)
    name = "resnet18-f37072fd.pth"
    for part in (
        "weights='IMAGENET1K_V1' of resnet18",
        f"https://download.pytorch.org/models/{name}",
        str(tmp_path / "checkpoints" / name),
        "weights='...pth'",
        "backbone='mini_resnet18'",
        "weights=None",
        "in accuracy: with 244 photographs",
    ):
        assert part in message


def test_a_download_that_breaks_off_comes_with_ways_out(tmp_path, monkeypatch):
    def break_off(*args, **kwargs):
        raise IncompleteRead(b"")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", break_off)
    with pytest.raises(OSError, match="could not be downloaded"):
        transfer(backbone="resnet18").fit(X, y)


@pytest.mark.parametrize("content", [b"", b"no weights"])
def test_a_damaged_download_is_named(tmp_path, monkeypatch, content):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    path = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(
        OSError, match=r"resnet18-f37072fd\.pth cannot be used .*; delete"
    ):
        transfer(backbone="resnet18").fit(X, y)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_a_local_weight_file_is_loaded(tmp_path, suffix, kind):
    options = {"image_size": 8, "device": "cpu"}
    source = ResNetFeatureExtractor(
        "mini_resnet18", weights=None, random_state=1, **options
    ).fit(X)
    state = source.stages_.state_dict()
    path = tmp_path / f"backbone.{suffix}"
    (torch.save if suffix == "pth" else save_file)(state, path)
    loaded = ResNetFeatureExtractor(
        "mini_resnet18", weights=kind(path), random_state=2, **options
    ).fit(X)
    for name, tensor in loaded.stages_.state_dict().items():
        assert name.startswith("head") or torch.equal(tensor, state[name]), name
    np.testing.assert_array_equal(loaded.transform(X), source.transform(X))
