"""Models that earlier releases saved are read, and predict what they did."""

import json
import shutil

import numpy as np
import pytest
from sklearn.exceptions import InconsistentVersionWarning

import sktransfer
from sktransfer._files.opening import hash_file, open_regular
from tests.archive.make import FOLDER, TINY, predict

HASHES = {
    "features": ("6235a69e3c921ee52c6d5158a9ee398afc0994f33bd5058d7398b85e2b0729b2"),
    "resnet_features": (
        "7e7fec719cf7f296b6d2a847f1ebcbfa9ea7cd0d83658805cc0ce4a2f377c295"
    ),
    "resnet_transfer": (
        "086ed9bc257334606672271ecc728c78109a43e065c853da519ff02bc1b9adf0"
    ),
    "scratch": ("fa2942dbcecf9115524fad21f9eb2a8a83d60bb8b6a96f0d503baa242931f48e"),
    "scratch_grey": (
        "a21b6e316957aaaee35d75dfaade5288a67878a096aea86eb7a70d7b9cd5942c"
    ),
    "transfer": ("e868879e44e0258747386f18df0a3d55466255a7f975aae43711d1f7889eaf74"),
    "transfer_own": (
        "c311c71603c90390decb8ff35d5aec256417359f3f9531b31b1c61d0c163b61c"
    ),
}

# Of probabilities and features in float32; processors and releases round differently.
TOLERANCE = 1e-4


def test_the_archive_is_complete():
    assert {path.stem for path in FOLDER.glob("*.sktransfer")} == set(HASHES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 300_000


@pytest.mark.parametrize("name", HASHES)
def test_no_file_was_replaced(name):
    with open_regular(FOLDER / f"{name}.sktransfer") as file:
        assert hash_file(file) == HASHES[name]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
@pytest.mark.parametrize("name", HASHES)
def test_a_model_of_the_archive_predicts_what_it_did(name):
    path = FOLDER / f"{name}.sktransfer"
    params = {"backbone": TINY} if name == "transfer_own" else None
    model = sktransfer.load(path, params=params, sha256=HASHES[name])
    expected = json.loads((FOLDER / "predictions.json").read_text())[name]
    found = predict(name, model)
    assert found.keys() == expected.keys()
    assert found.get("labels") == expected.get("labels")
    for kind in {"proba", "features"} & expected.keys():
        np.testing.assert_allclose(
            found[kind], expected[kind], rtol=0, atol=TOLERANCE, strict=True
        )


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.InconsistentVersionWarning")
@pytest.mark.parametrize("name", HASHES)
def test_a_model_of_the_archive_is_saved_again(name, tmp_path):
    shutil.copy(FOLDER / f"{name}.sktransfer", tmp_path / "model")
    params = {"backbone": TINY} if name == "transfer_own" else None
    model = sktransfer.load(tmp_path / "model", params=params)
    model.save(tmp_path / "model")
    again = sktransfer.load(tmp_path / "model", params=params)
    assert predict(name, again) == predict(name, model)


def test_the_releases_that_saved_the_archive_are_known():
    for name in HASHES:
        versions = sktransfer.inspect(FOLDER / f"{name}.sktransfer").versions
        assert {"python", "torch", "sktransfer", "pillow"} <= versions.keys()
    assert issubclass(InconsistentVersionWarning, UserWarning)
