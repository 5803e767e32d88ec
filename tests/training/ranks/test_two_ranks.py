"""Two ranks under torchrun train what one process trains."""

import json

import numpy as np
import pytest

from tests.training.ranks.launching import run

# What users would write, once for each kind of fit. It knows nothing of ranks, except
# for the names of its files.
SCRIPT = """
import json, os
import numpy as np
from sktransfer._activations.cache import ActivationCache
from sktransfer._training.ranks import group
from tests.helpers import pictures, scratch, transfer

# Features reach the first rank in several messages.
group.SENT_AT_ONCE = 4096
RANK = os.environ.get("RANK", "alone")
X, y = pictures(48)
X_val, y_val = pictures(20, seed=1)
HARD = {"head_init": "random", "batch_size": 8, "max_epochs": 3}
FITS = {
    "the probe alone": transfer(unfreeze_depth=0),
    "the probe, then two stages": transfer(max_epochs=3, batch_size=8),
    "dropout": transfer(dropout=0.5, **HARD),
    "early stopping": transfer(
        early_stopping=True, n_iter_no_change=1, lr=2.0, **{**HARD, "max_epochs": 9}
    ),
    "no cache": transfer(activation_cache=None, **HARD),
    "new views": transfer(augment="flip_crop", **HARD),
    "varied": transfer(augment="advanced", **HARD),
    "mixed": transfer(mixup=0.4, cutmix=1.0, **HARD),
    "batches with no image of some rank": transfer(**{**HARD, "batch_size": 2}),
    "batch norm that learns": scratch(batch_size=8),
}
for name, clf in FITS.items():
    if isinstance(clf.activation_cache, str):
        clf.set_params(activation_cache=ActivationCache())
    clf.fit(X, y, X_val=X_val, y_val=y_val)
    np.savez(
        f"{name} {RANK}.npz",
        proba=clf.predict_proba(X),
        losses=[[row["train_loss"], row["valid_loss"]] for row in clf.history_],
        seconds=[row["dur"] for row in clf.history_],
        weights=np.concatenate(
            [w.numpy().ravel() for w in clf.net_.module_.state_dict().values()]
        ),
        misses=clf.cache_info_.misses,
    )
clf.save(f"model {RANK}.sktransfer")
with open(f"names {RANK}.json", "w") as file:
    json.dump(list(FITS), file)
"""

NAMES = [
    "the probe alone",
    "the probe, then two stages",
    "dropout",
    "early stopping",
    "no cache",
    "new views",
    "varied",
    "mixed",
    "batches with no image of some rank",
    "batch norm that learns",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with what the script left: alone, and in two ranks."""
    folder = tmp_path_factory.mktemp("ranks")
    for n_ranks in (1, 2):
        status, printed = run(SCRIPT, folder, n_ranks)
        assert status == 0, printed
    assert json.loads((folder / "names 0.json").read_text()) == NAMES
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_two_ranks_train_what_one_process_trains(folder, name):
    alone, first = (np.load(folder / f"{name} {rank}.npz") for rank in ("alone", 0))
    np.testing.assert_allclose(first["proba"], alone["proba"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(first["losses"], alone["losses"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(first["weights"], alone["weights"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_both_ranks_end_with_the_same_estimator_bit_for_bit(folder, name):
    first, second = (np.load(folder / f"{name} {rank}.npz") for rank in (0, 1))
    for what in first.files:
        assert np.array_equal(first[what], second[what]), what


def test_both_ranks_save_the_same_file(folder):
    first, second = (folder / f"model {rank}.sktransfer" for rank in (0, 1))
    assert first.read_bytes() == second.read_bytes()


def test_no_image_passes_the_frozen_stages_on_both_ranks(folder):
    name = "the probe, then two stages"
    alone, first = (np.load(folder / f"{name} {rank}.npz") for rank in ("alone", 0))
    assert first["misses"] == alone["misses"] > 0


def test_training_stops_early_after_the_same_epoch(folder):
    alone = np.load(folder / "early stopping alone.npz")["losses"]
    assert 1 < len(alone) < 9
