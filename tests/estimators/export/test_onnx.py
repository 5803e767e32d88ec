"""A fitted network as a file of ONNX that predicts the same in another runtime."""

import json
import sys

import numpy as np
import onnxruntime
import pytest

from sktransfer import FeatureExtractor, TransferClassifier
from sktransfer._estimators.export import onnx as writing
from tests.estimators.export.test_program import close, varied
from tests.helpers import SHORT, pictures, scratch, transfer
from tests.networks.backbones.test_build import TINY


def opened(estimator, path):
    """Export an estimator, and open the file."""
    estimator.to_onnx(path)
    return onnxruntime.InferenceSession(path)


def random_weights(backbone, **changes):
    settings = {"weights": None, "unfreeze_depth": 0, "probe_share": 0, **SHORT}
    return TransferClassifier(backbone, **settings, **changes)


KINDS = {
    "in the package": transfer(image_size=16, resize="crop"),
    "of timm": random_weights("timm/test_convnext", image_size=32),
    "of timm, with positions": random_weights("timm/test_vit", image_size=32),
    "of one's own": random_weights(TINY, resize="pad"),
    "from scratch": scratch(tta="flip_shift", global_pool="max"),
    "as large as the image": transfer(image_size=None, tta="flip"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_gives_the_probabilities_and_labels_of_the_classifier(kind, tmp_path):
    X, y = varied()
    if kind == "from scratch":
        y = np.where(y == "red", 7, -1)
    clf = KINDS[kind].fit(X, y)
    session = opened(clf, tmp_path / "clf.onnx")
    for some in (X[:1], X):
        proba, labels = session.run(["probabilities", "labels"], {"images": some})
        close(proba, clf.predict_proba(some))
        assert labels.tolist() == clf.predict(some).tolist()


def test_a_file_of_features_gives_those_of_the_extractor(tmp_path):
    X, _ = varied(n_channels=1)
    extractor = FeatureExtractor("mini_resnet18", device="cpu", precision="float32")
    expected = extractor.fit_transform(X)
    session = opened(extractor, tmp_path / "features.onnx")
    close(session.run(["features"], {"images": X})[0], expected)
    assert session.get_modelmeta().custom_metadata_map == {"image_shape": "[12, 18, 1]"}


@pytest.mark.parametrize("dtype", [None, object])
@pytest.mark.parametrize("classes", [[-3, 5, 2**40], ["grün", "rot", "青"]])
def test_integers_and_strings_are_labels_as_they_are(classes, dtype):
    labels = writing.choose_labels(np.array(classes, dtype))
    assert labels.tolist() == classes
    assert labels.dtype == (np.int64 if classes[0] == -3 else object)


@pytest.mark.parametrize("classes", [[1.0, 2.0], [False, True], [2**63], [b"a"]])
def test_other_classes_are_told_by_their_positions(classes):
    assert writing.choose_labels(np.array(classes)) is None


def test_positions_are_explained_in_the_file(tmp_path):
    X, y = pictures()
    clf = scratch(max_epochs=6).fit(X, np.where(y == "red", 2.0, 1.0))
    session = opened(clf, tmp_path / "clf.onnx")
    (labels,) = session.run(["labels"], {"images": X})
    notes = session.get_modelmeta().custom_metadata_map
    assert notes["labels"] == "positions in classes"
    assert json.loads(notes["classes"]) == [1.0, 2.0]
    assert set(labels.tolist()) == {0, 1}
    assert clf.classes_[labels].tolist() == clf.predict(X).tolist()


def test_labels_are_those_of_logits_where_probabilities_tie(tmp_path):
    X, y = pictures()
    clf = scratch().fit(X, y)
    linear = clf.net_.module_.head.linear
    linear.weight.data.zero_()
    linear.bias.data[:] = linear.bias.new_tensor([0.0, 1e-9, 0.0])
    session = opened(clf, tmp_path / "clf.onnx")
    proba, labels = session.run(None, {"images": X[:2]})
    assert proba[0, 0] == proba[0, 1]
    assert labels.tolist() == clf.predict(X[:2]).tolist() == ["green", "green"]


def test_a_file_tells_nothing_about_the_machine_that_wrote_it(tmp_path):
    X, y = pictures()
    path = tmp_path / "clf.onnx"
    scratch().fit(X, y).to_onnx(str(path))
    content = path.read_bytes()
    assert b".py" not in content
    assert b"sktransfer._" not in content


def test_a_file_is_replaced_only_by_one_that_is_whole(tmp_path, monkeypatch):
    X, y = pictures()
    path = tmp_path / "clf.onnx"
    path.write_bytes(b"old")
    clf = scratch().fit(X, y)

    def fail(model):
        raise RuntimeError("interrupted")

    with monkeypatch.context() as patch:
        patch.setattr("onnx.checker.check_model", fail)
        with pytest.raises(RuntimeError, match="interrupted"):
            clf.to_onnx(path)
    assert path.read_bytes() == b"old"
    close(
        opened(clf, path).run(None, {"images": X})[0],
        clf.predict_proba(X),
    )
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_for_no_file_is_refused(tmp_path):
    X, y = pictures()
    clf = scratch().fit(X, y)
    with pytest.raises(IsADirectoryError, match="name a file in it"):
        clf.to_onnx(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"is no folder .*make it first"):
        clf.to_onnx(tmp_path / "none" / "clf.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_an_error_names_the_extra_that_is_missing(package, tmp_path, monkeypatch):
    X, y = pictures()
    clf = scratch().fit(X, y)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ImportError, match=r'pip install "sktransfer\[onnx\]"'):
        clf.to_onnx(tmp_path / "clf.onnx")


def test_a_network_too_large_for_one_file_is_refused(tmp_path, monkeypatch):
    X, y = pictures()
    clf = scratch().fit(X, y)
    monkeypatch.setattr(writing, "MOST_BYTES", 1000)
    with pytest.raises(ValueError, match=r"GiB of weights.*torch.export"):
        clf.to_onnx(tmp_path / "clf.onnx")
    assert not list(tmp_path.iterdir())
