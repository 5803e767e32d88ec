"""Where and in which number format the network computes, and how much at a time."""

import pickle
from functools import partial

import numpy as np
import pytest
import torch

import sktransfer._networks.device as _device
from sktransfer import ResNetFeatureExtractor
from sktransfer._networks.device import resolve_precision
from sktransfer._training.net import StagesNet
from tests.helpers import pictures, scratch, transfer

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
    settings["head_init"] = "random"
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


@pytest.fixture
def compiler(monkeypatch):
    """What stands in for torch.compile, which needs a C++ compiler; its calls."""
    calls = []

    def compiling(function):
        def compiled(*arguments):
            calls.append(len(arguments[0]))
            return function(*arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", compiling)
    return calls


@pytest.mark.parametrize("make", [scratch, partial(transfer, head_init="random")])
def test_compiled_stages_train_and_give_the_same_results(compiler, make):
    X, y = pictures(24)
    settings = {"batch_size": 12, "augment": None}
    plain = make(**settings).fit(X, y).predict_proba(X)
    assert compiler == []
    clf = make(compile=True, **settings).fit(X, y)
    assert compiler == [12] * 4
    np.testing.assert_array_equal(clf.predict_proba(X), plain)
    np.testing.assert_array_equal(
        pickle.loads(pickle.dumps(clf)).predict(X), clf.predict(X)
    )


@pytest.mark.parametrize("make", [scratch, transfer])
def test_what_trains_is_one_graph_to_the_compiler(monkeypatch, make):
    graphs = partial(torch.compile, backend="aot_eager", fullgraph=True)
    X, y = pictures(25)
    settings = {"batch_size": 12, "augment": None}  # in batches of 13 and 12
    plain = make(**settings).fit(X, y).predict_proba(X)
    monkeypatch.setattr(torch, "compile", graphs)
    compiled = make(compile=True, **settings).fit(X, y).predict_proba(X)
    np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("asked", "computes"), [("auto", "float32"), ("bfloat16", "bfloat16")]
)
def test_a_network_from_another_machine_computes_as_this_one_can(
    monkeypatch, asked, computes
):
    X, y = pictures(24)
    extractor = ResNetFeatureExtractor("mini_resnet18", image_size=8, precision=asked)
    for make in (scratch(precision=asked), extractor):
        monkeypatch.setattr(_device, "cpu_capabilities", lambda: {"amx_bf16": True})
        content = pickle.dumps(make.fit(X, y))
        assert pickle.loads(content).precision_ == make.precision_ == "bfloat16"
        monkeypatch.setattr(_device, "cpu_capabilities", dict)
        assert pickle.loads(content).precision_ == computes


def test_a_compiler_that_is_missing_is_told(monkeypatch):
    def failing(function):
        def compiled(*arguments):
            raise OSError("no compiler")

        return compiled

    monkeypatch.setattr(torch, "compile", failing)
    with pytest.raises(RuntimeError, match=r"compile=True: .* pass compile=False"):
        scratch(compile=True).fit(*pictures(12))


def test_a_number_format_set_outside_changes_nothing():
    X, y = pictures(24)
    for precision in ("float32", "bfloat16"):
        alone = scratch(precision=precision).fit(X, y).predict_proba(X)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = scratch(precision=precision).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(inside, alone)


def test_no_part_of_a_batch_is_a_single_image(monkeypatch):
    device = ShortOfMemory(monkeypatch, most=3)
    scratch(batch_size=7, max_epochs=1).fit(*pictures(7))
    assert device.sizes == [7, 4, 3, 2, 2, 7]
