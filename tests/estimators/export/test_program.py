"""A fitted network as a module of torch that predicts the same, anywhere."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from sklearn.exceptions import NotFittedError

from sktransfer import FeatureExtractor, TransferClassifier
from sktransfer._images.geometry import RESIZE
from tests.helpers import SHORT, pictures, scratch, transfer
from tests.images.test_geometry import photograph
from tests.networks.backbones.test_build import TINY

# Run by itself, and by a Python that knows no sktransfer.
ELSEWHERE = """
import sys
import numpy as np, torch
sys.modules["sktransfer"] = None
program = torch.export.load(sys.argv[1]).module()
images = torch.from_numpy(np.load(sys.argv[2]))
outputs = [program(some) for some in (images[:1], images[1:3], images[3:])]
np.save(sys.argv[3], torch.cat(outputs).detach().numpy())
assert not [name for name in sys.modules if name.startswith("sktransfer.")]
"""


def varied(height=12, width=18, n_channels=3):
    """Images of another shape, which resizing changes, and their labels."""
    X, y = pictures()
    X = np.pad(X, ((0, 0), (0, height - 8), (0, width - 8), (0, 0)), "reflect")
    return np.ascontiguousarray(X[..., :n_channels]), y


def run(module, X):
    return module(torch.from_numpy(X)).numpy()


def close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("tta", [None, "flip", "flip_shift"])
@pytest.mark.parametrize("make", [transfer, scratch])
def test_a_module_gives_the_probabilities_of_the_classifier(make, tta):
    X, y = varied()
    clf = make(tta=tta).fit(X, y)
    proba = run(clf.to_torch(), X)
    close(proba, clf.predict_proba(X))
    assert proba.dtype == np.float32
    assert np.ptp(proba, axis=0).min() > 0.1  # or all would be close to each other


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("image_size", [None, 16])
@pytest.mark.parametrize("resize", RESIZE)
def test_images_of_any_shape_are_resized_inside(resize, image_size, n_channels):
    X, y = varied(16, 22, n_channels)
    y = y == "red"  # two classes
    clf = transfer(image_size=image_size, resize=resize).fit(X, y)
    close(run(clf.to_torch(), X), clf.predict_proba(X))


def test_features_are_exported_as_well():
    X, _ = varied()
    extractor = FeatureExtractor("mini_resnet18", device="cpu", precision="float32")
    features = extractor.fit_transform(X)
    close(run(extractor.to_torch(), X), features)


@pytest.mark.parametrize("tta", [None, "flip_shift"])
def test_an_exported_program_predicts_the_same_where_sktransfer_is_unknown(
    tmp_path, tta
):
    X, y = varied()
    clf = transfer(tta=tta).fit(X, y)
    n_images = torch.export.Dim("n_images")
    program = torch.export.export(
        clf.to_torch(), (torch.from_numpy(X[:2]),), dynamic_shapes=[{0: n_images}]
    )
    torch.export.save(program, tmp_path / "clf.pt2")
    np.save(tmp_path / "X.npy", X)
    paths = [str(tmp_path / name) for name in ("clf.pt2", "X.npy", "proba.npy")]
    done = subprocess.run(
        [sys.executable, "-I", "-c", ELSEWHERE, *paths], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    close(np.load(paths[2]), clf.predict_proba(X))


def open_picture(path, image_shape):
    """Read a picture as the guide advises."""
    height, width, _ = image_shape
    picture = Image.open(path)
    scale = min(picture.height / height, picture.width / width) / 2
    factor = next(n for n in (8, 4, 2, 1) if n <= max(1, scale))
    picture.draft(None, (picture.width // factor, picture.height // factor))
    picture = ImageOps.exif_transpose(picture).convert("RGB")
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def test_files_opened_as_the_guide_advises_are_seen_as_by_the_classifier(tmp_path):
    paths = [str(tmp_path / f"{i}.jpg") for i in range(6)]
    for i, path in enumerate(paths):
        Image.fromarray(photograph(200 + 40 * i, 400 - 50 * i, i)).save(path)
    clf = transfer(image_size=32).fit(paths, [0, 1, 2] * 2)
    X = np.stack([open_picture(path, clf.image_shape_) for path in paths])
    close(run(clf.to_torch(), X), clf.predict_proba(paths))


def test_a_module_is_a_copy_that_nothing_trains():
    X, y = varied()
    clf = TransferClassifier(TINY, weights=None, dropout=0.5, **SHORT).fit(X, y)
    module = clf.to_torch()
    expected = clf.predict_proba(X)
    with torch.no_grad():
        for parameter in clf.net_.module_.parameters():
            parameter.zero_()
    module.train()
    close(run(module, X), expected)
    assert not any(parameter.requires_grad for parameter in module.parameters())


def test_the_number_format_of_the_caller_has_no_effect():
    X, y = varied()
    clf = scratch().fit(X, y)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        proba = run(clf.to_torch(), X)
    close(proba, clf.predict_proba(X))


@pytest.mark.parametrize("change", ["floats", "size"])
def test_other_images_than_those_of_the_fit_are_refused(change):
    X, y = varied()
    module = scratch().fit(X, y).to_torch()
    other = X / np.float32(255) if change == "floats" else X[:, 1:]
    with pytest.raises(ValueError, match=r"pass \(n, 12, 18, 3\) and torch.uint8"):
        run(module, other)


def test_images_on_another_scale_are_refused():
    X, y = varied()
    clf = scratch().fit(X.astype(np.float32), y)
    with pytest.raises(ValueError, match=r"values of X up to 2\d\d.*pass max_value"):
        clf.to_torch()
    scaled = scratch(max_value=255).fit(X.astype(np.float32), y)
    close(run(scaled.to_torch(), X), scaled.predict_proba(X))


@pytest.mark.parametrize("estimator", [transfer(), scratch(), FeatureExtractor()])
def test_nothing_is_exported_before_the_fit(estimator, tmp_path):
    with pytest.raises(NotFittedError):
        estimator.to_torch()
    with pytest.raises(NotFittedError):
        estimator.to_onnx(tmp_path / "clf.onnx")
