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
    "features": "75eefc8ff26983dde8e7c243d2fbc1577a8597f42795e3f41f7d8c19b9756937",
    "resnet_features": (
        "7323dd150d3b968a6b1b871388800fbf0d1dcfcf8efa92a86e474cb25d7697c5"
    ),
    "resnet_transfer": (
        "9025a493cf42898d3fada3032f7e2585e751f8c93ccdf09c64215103d5428a55"
    ),
    "scratch": "d8ccff833211710382d62b9bbbfbf432f1ddaa2186377777613f64149cf41c4e",
    "scratch_grey": "f6243062679bd2e59147b59028c57ccc4505c799647d1d71d346b36bfe6f4cd8",
    "transfer": "d2e5549ded4f620e07d922fa1a838999337cebffaf75e58e46664bc38c8eace6",
    "transfer_own": "8e0e9ec09f457a38e82433b4d773c2ce38c47f42d539b052c48ae010937891e5",
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
