"""Where and in which number format the network computes, and how much at a time."""

import numpy as np
import pytest
import torch

from sktransfer import _device
from sktransfer._device import resolve_precision
from sktransfer._net import StagesNet

from .test_cnn import scratch
from .test_training import pictures, transfer

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("able", "precision"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": True}, "bfloat16"),
        ({"avx512_bf16": False, "amx_bf16": False, "avx2": True}, "float32"),
        ({}, "float32"),
    ],
)
def test_auto_takes_bfloat16_where_the_processor_multiplies_it(
    monkeypatch, able, precision
):
    monkeypatch.setattr(_device, "cpu_capabilities", lambda: able)
    assert resolve_precision("auto", CPU) == precision
    assert scratch(precision="auto").fit(*pictures(12)).precision_ == precision


@pytest.mark.parametrize("make", [scratch, transfer])
def test_logits_are_float32_at_either_precision(make):
    X, y = pictures(30)
    clf = make(precision="bfloat16").fit(X, y)
    logits = clf.decision_function(X)
    assert logits.dtype == np.float32
    halved = torch.from_numpy(logits).bfloat16().float().numpy()
    assert not np.array_equal(halved, logits)
    np.testing.assert_allclose(clf.predict_proba(X).sum(axis=1), 1, rtol=1e-5)


class ShortOfMemory:
    """A net's `infer` on a device that holds few images at a time."""

    def __init__(self, monkeypatch, most):
        self.sizes = []
        infer = StagesNet.infer

        def limited(net, x, **kwargs):
            self.sizes.append(len(x))
            if net.module_.training and len(x) > most:
                raise torch.OutOfMemoryError("too many")
            return infer(net, x, **kwargs)

        monkeypatch.setattr(StagesNet, "infer", limited)


def test_a_batch_that_finds_no_memory_passes_in_parts_with_the_same_gradients(
    monkeypatch,
):
    X, y = pictures(64)
    settings = {"unfreeze_depth": 0, "batch_size": 32, "dropout": 0.0}
    whole = transfer(**settings).fit(X, y)
    device = ShortOfMemory(monkeypatch, most=10)
    parts = transfer(**settings).fit(X, y)
    assert device.sizes[:6] == [32, 16, 8, 8, 8, 8]
    assert device.sizes.count(32) == 2  # at first, and in the check at the end
    assert parts.net_.most_at_once_ == 8
    np.testing.assert_allclose(
        parts.predict_proba(X), whole.predict_proba(X), rtol=1e-4, atol=1e-6
    )


def test_a_part_that_is_still_too_large_is_an_error(monkeypatch):
    ShortOfMemory(monkeypatch, most=1)
    with pytest.raises(torch.OutOfMemoryError):
        transfer().fit(*pictures(12))


def test_compiled_stages_give_the_same_results():
    X, y = pictures(24)
    settings = {"precision": "float32", "batch_size": 12, "augment": None}
    plain = scratch(**settings).fit(X, y).predict_proba(X)
    compiled = scratch(compile=True, **settings).fit(X, y)
    np.testing.assert_allclose(compiled.predict_proba(X), plain, rtol=1e-2, atol=1e-3)
