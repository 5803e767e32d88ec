"""What users do with a classifier that was fitted on a GPU."""

import pickle
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pytest
import torch
from sklearn.metrics import ConfusionMatrixDisplay
from sklearn.model_selection import GridSearchCV

from sktransfer import (
    ConfusedPairsDisplay,
    ModelComparisonDisplay,
    PredictionGridDisplay,
    SaliencyDisplay,
    TopLossesDisplay,
    TrainingHistoryDisplay,
    load,
)
from tests.helpers import pictures, scratch, transfer
from tests.training.test_resuming import die_in, resume

mpl.use("Agg")
pytestmark = pytest.mark.cuda

X, Y = pictures(90)

# A machine without a GPU, as far as torch can see.
ON_A_CPU = """
import pickle, sys
import numpy as np
import torch
from sktransfer import load
from tests.helpers import pictures

assert not torch.cuda.is_available()
with open(sys.argv[1], "rb") as file:
    pickled = pickle.load(file)
X, _ = pictures(90)
for clf in (pickled, load(sys.argv[2])):
    assert clf.device_ == "cpu", clf.device_
    expected = np.load(sys.argv[3])
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=0, atol=1e-3)
"""


@pytest.fixture(scope="module")
def fitted(device):
    """A classifier of each kind."""
    return {
        make.__name__: make(device=device, max_epochs=4).fit(X, Y)
        for make in (transfer, scratch)
    }


@pytest.mark.parametrize("kind", ["transfer", "scratch"])
def test_it_moves_to_a_machine_without_a_gpu(fitted, kind, tmp_path, monkeypatch):
    clf = fitted[kind]
    pickled, saved, proba = (tmp_path / name for name in ("a.pkl", "a.skt", "a.npy"))
    pickled.write_bytes(pickle.dumps(clf))
    clf.save(saved)
    np.save(proba, clf.predict_proba(X))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = subprocess.run(
        [sys.executable, "-c", ON_A_CPU, pickled, saved, proba],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr


def test_pickled_and_saved_it_predicts_the_same_here(fitted, tmp_path):
    for kind, clf in fitted.items():
        expected = clf.predict_proba(X)
        clf.save(tmp_path / kind)
        for copy in (pickle.loads(pickle.dumps(clf)), load(tmp_path / kind)):
            assert copy.device_ == clf.device_
            np.testing.assert_allclose(
                copy.predict_proba(X), expected, rtol=0, atol=1e-5
            )


def test_every_display_draws_it(fitted):
    for clf in fitted.values():
        other = np.roll(Y, 1)  # so that there is something wrong to show
        for display in (ConfusedPairsDisplay, PredictionGridDisplay, TopLossesDisplay):
            assert display.from_estimator(clf, X, other).figure_ is not None
        assert ConfusionMatrixDisplay.from_estimator(clf, X, Y).figure_ is not None
        assert SaliencyDisplay.from_estimator(clf, X[:3]).figure_ is not None
        assert TrainingHistoryDisplay.from_estimator(clf).figure_ is not None
    assert ModelComparisonDisplay.from_estimators(fitted, X, Y).figure_ is not None


def test_two_workers_on_one_device_score_as_one_does(device):
    def search(n_jobs):
        grid = {"dropout": [0.0, 0.5]}
        clf = transfer(device=device, max_epochs=4)
        return GridSearchCV(clf, grid, cv=2, n_jobs=n_jobs).fit(X, Y)

    alone, shared = search(None), search(2)
    np.testing.assert_allclose(
        shared.cv_results_["mean_test_score"],
        alone.cv_results_["mean_test_score"],
        rtol=0,
        atol=0.05,
    )


def test_a_fit_resumes_from_its_checkpoint(device, tmp_path):
    def fit(**more):
        return transfer(device=device, max_epochs=4, **more)

    whole = fit().fit(X, Y)
    die_in(3, fit, tmp_path / "a.checkpoint", X, Y)
    resumed = resume(fit, tmp_path / "a.checkpoint", X, Y)
    assert [row["unfreeze_depth"] for row in resumed.history_] == [
        row["unfreeze_depth"] for row in whole.history_
    ]
    np.testing.assert_allclose(
        resumed.predict_proba(X), whole.predict_proba(X), rtol=0, atol=1e-3
    )


def test_weights_on_the_device_are_those_of_the_fit(fitted, device):
    for clf in fitted.values():
        assert next(clf.net_.module_.parameters()).device.type == device
        assert torch.device(clf.device_).type == device
