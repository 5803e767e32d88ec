"""Batches that a GPU has no memory for are split; nothing stays behind."""

import gc

import numpy as np
import pytest
import torch

from sktransfer import FeatureExtractor, TransferClassifier
from tests.helpers import pictures, scratch, transfer

pytestmark = pytest.mark.cuda

X, Y = pictures(256)
GB = 2**30


def make(device, **changes):
    """A ResNet-18 at 224 pixels, whose batch norm does not train; one step an epoch."""
    settings = {
        "unfreeze_depth": 4,
        "unfreeze_schedule": "immediate",
        "head_init": "random",
        "dropout": 0.0,
        "image_size": 224 if device == "cuda" else 32,
        "augment": None,
        "batch_size": 256,
        "max_epochs": 2,
        "lr": 1e-4,
        "early_stopping": False,
        "activation_cache": None,
        "precision": "float32",
        "random_state": 0,
        **changes,
    }
    return TransferClassifier("resnet18", weights=None, device=device, **settings)


def test_a_step_that_does_not_fit_passes_in_parts_and_is_the_same(device, memory):
    clf, peak = memory.peak(lambda: make(device).fit(X, Y))
    assert peak > 4 * GB
    with memory.limit(2 * GB):
        limited = make(device).fit(X, Y)
    for whole, parts in zip(clf.history_, limited.history_, strict=True):
        assert abs(whole["train_loss"] - parts["train_loss"]) < 1e-3
    few = X[:64]
    np.testing.assert_allclose(
        limited.predict_proba(few), clf.predict_proba(few), rtol=0, atol=1e-3
    )


def test_encoding_and_prediction_that_do_not_fit_take_smaller_batches(device, memory):
    size = 448 if device == "cuda" else 32
    many, _ = pictures(600)

    def encode():
        extractor = FeatureExtractor(
            "resnet18",
            weights=None,
            image_size=size,
            device=device,
            precision="float32",
            activation_cache=None,
            random_state=0,
        )
        return extractor.fit_transform(many)

    features, peak = memory.peak(encode)
    assert peak > GB
    with memory.limit(GB // 2):
        limited = encode()
    scale = np.abs(features).max()
    np.testing.assert_allclose(limited, features, rtol=0, atol=1e-4 * scale)


def test_what_never_fits_is_an_error_that_says_what_to_do(device, memory):
    if device == "cpu":
        pytest.skip("cannot be rehearsed: a CPU has no limit")
    with (
        memory.limit(GB // 4),
        pytest.raises(torch.OutOfMemoryError, match="smaller image_size"),
    ):
        make(device, image_size=1024).fit(X[:32], Y[:32])
    # And the process goes on.
    transfer(device=device).fit(X, Y)


def test_fits_in_one_process_leave_nothing_on_the_device(device, memory):
    def fit(choose):
        clf = choose(device=device, max_epochs=1).fit(X, Y)
        clf.predict(X)

    for choose in (transfer, scratch):
        fit(choose)  # what is loaded once, such as kernels' workspaces
    gc.collect()
    before = memory.held()
    for choose in (transfer, scratch, transfer, scratch):
        fit(choose)
    gc.collect()
    assert memory.held() <= before
