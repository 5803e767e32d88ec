"""Where and in which number format the network computes, and how much at a time."""

import pickle
import warnings
from functools import partial

import numpy as np
import pytest
import torch

import sktransfer._networks.device as _device
from sktransfer import ResNetFeatureExtractor
from sktransfer._networks.device import resolve_precision
from sktransfer._training.faults.short_memory import OpenStatistics
from sktransfer._training.net import StagesNet
from tests.helpers import SHORTAGES, pictures, scratch, transfer

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

    def __init__(self, monkeypatch, most, shortage=SHORTAGES["torch"]):
        self.sizes = []
        infer = StagesNet.infer

        def limited(net, x, **kwargs):
            self.sizes.append(len(x))
            if net.module_.training and len(x) > most:
                raise shortage()
            return infer(net, x, **kwargs)

        monkeypatch.setattr(StagesNet, "infer", limited)


EVERY_SHORTAGE = pytest.mark.parametrize("shortage", SHORTAGES.values(), ids=SHORTAGES)


@EVERY_SHORTAGE
def test_a_batch_that_finds_no_memory_passes_in_parts_with_the_same_gradients(
    monkeypatch, shortage
):
    X, y = pictures(64)
    settings = {"unfreeze_depth": 0, "batch_size": 32, "dropout": 0.0}
    settings["head_init"] = "random"
    whole = transfer(**settings).fit(X, y)
    device = ShortOfMemory(monkeypatch, 10, shortage)
    parts = transfer(**settings).fit(X, y)
    assert device.sizes[:6] == [32, 16, 8, 8, 8, 8]
    assert device.sizes.count(32) == 2  # at first, and in the check at the end
    assert parts.net_.most_at_once_ == 8
    np.testing.assert_allclose(
        parts.predict_proba(X), whole.predict_proba(X), rtol=1e-4, atol=1e-6
    )


def test_a_part_that_is_still_too_large_is_an_error_that_says_what_to_do(monkeypatch):
    ShortOfMemory(monkeypatch, most=1)
    message = r"not even 2 .*\(\d.* each\).*image_size or unfreeze_depth.*device='cpu'"
    with pytest.raises(torch.OutOfMemoryError, match=message):
        transfer().fit(*pictures(12))


def test_parts_are_warned_of_once_if_batch_norm_learns(monkeypatch):
    X, y = pictures(64)
    ShortOfMemory(monkeypatch, most=10)
    with pytest.warns(UserWarning, match="32 images .* parts of at most 8;") as warned:
        scratch(batch_size=32).fit(X, y)
    assert len([w for w in warned if "parts" in str(w.message)]) == 1


def test_parts_are_not_warned_of_if_batch_norm_is_frozen(monkeypatch):
    ShortOfMemory(monkeypatch, most=10)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        transfer(unfreeze_depth=0, batch_size=32, head_init="random").fit(*pictures(64))


def statistics_of(stages):
    return {k: v.clone() for k, v in stages.state_dict().items() if "running" in k}


def test_a_try_that_failed_leaves_no_trace_in_batch_norm(monkeypatch):
    X, y = pictures(32)
    net = scratch(batch_size=32, dropout=0.0).fit(X, y).net_
    batch = torch.from_numpy(X), (torch.arange(32) % 3, torch.ones(32))
    net.n_passed, states = 0, []
    before = {k: v.clone() for k, v in net.module_.state_dict().items()}
    infer = StagesNet.infer

    def late(net, x, **kwargs):  # when the batch norm of all layers has seen the images
        logits = infer(net, x, **kwargs)
        if len(x) > 8:
            raise torch.OutOfMemoryError("too many")
        return logits

    for patience in (8, None):
        net.module_.load_state_dict(before)
        net.module_.train()
        net.most_at_once_ = patience
        with monkeypatch.context() as short, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            short.setattr(StagesNet, "infer", late)
            net.train_step_single(batch)
        states.append(statistics_of(net.module_))
    for name, values in states[0].items():
        assert torch.equal(values, states[1][name]), name
        assert not torch.equal(values, before[name]), name


def test_the_parts_of_a_batch_weigh_as_much_for_batch_norm_as_the_batch():
    norm = torch.nn.BatchNorm1d(1, momentum=0.4)
    norm.running_mean.fill_(1.0)
    statistics = OpenStatistics(norm)
    with statistics.follow(4):
        for _ in range(4):
            norm(torch.zeros(8, 1))
    assert norm.momentum == 0.4
    assert float(norm.running_mean) == pytest.approx(0.6)
    statistics.restore()
    assert float(norm.running_mean) == 1.0
    assert OpenStatistics(norm.eval()).norms == []


@EVERY_SHORTAGE
def test_validation_images_pass_in_parts_where_memory_is_short(monkeypatch, shortage):
    X, y = pictures(64)
    settings = {"unfreeze_depth": 0, "batch_size": 32, "head_init": "random"}
    expected = transfer(**settings).fit(X, y, X_val=X, y_val=y).history_
    infer = StagesNet.infer

    def limited(net, x, **kwargs):
        if not net.module_.training and len(x) > 10:
            raise shortage()
        return infer(net, x, **kwargs)

    monkeypatch.setattr(StagesNet, "infer", limited)
    history = transfer(**settings).fit(X, y, X_val=X, y_val=y).history_
    for row, other in zip(history, expected, strict=True):
        assert row["valid_loss"] == pytest.approx(other["valid_loss"], rel=1e-4)


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


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("make", [scratch, transfer])
def test_what_trains_is_one_graph_to_the_compiler(monkeypatch, make, precision):
    graphs = partial(torch.compile, backend="aot_eager", fullgraph=True)
    X, y = pictures(25)
    settings = {"batch_size": 12, "augment": None}  # in batches of 13 and 12
    settings["precision"] = precision
    plain = make(**settings).fit(X, y).predict_proba(X)
    monkeypatch.setattr(torch, "compile", graphs)
    compiled = make(compile=True, **settings).fit(X, y).predict_proba(X)
    if precision == "float32":
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-6)
    # Training amplifies rounding.
    assert np.abs(compiled - plain).mean() < 0.03


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


@EVERY_SHORTAGE
def test_what_is_compiled_passes_in_parts_where_memory_is_short(monkeypatch, shortage):
    sizes = []

    def compiling(function):
        def compiled(x, *arguments):
            sizes.append(len(x))
            if len(x) > 10:
                raise shortage()
            return function(x, *arguments)

        return compiled

    monkeypatch.setattr(torch, "compile", compiling)
    X, y = pictures(32)
    transfer(compile=True, head_init="random", batch_size=32, max_epochs=1).fit(X, y)
    assert sizes == [32, 16, 8, 8, 8, 8]


def test_another_error_of_a_step_is_not_taken_for_too_little_memory(monkeypatch):
    def infer(net, x, **kwargs):
        raise RuntimeError("the device is on fire")

    monkeypatch.setattr(StagesNet, "infer", infer)
    with pytest.raises(RuntimeError, match=r"^the device is on fire$"):
        transfer(head_init="random").fit(*pictures(12))


def test_a_number_format_set_outside_changes_nothing():
    X, y = pictures(24)
    for precision in ("float32", "bfloat16"):
        alone = scratch(precision=precision).fit(X, y).predict_proba(X)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = scratch(precision=precision).fit(X, y).predict_proba(X)
        np.testing.assert_array_equal(inside, alone)


@pytest.mark.filterwarnings("ignore:a batch of 7 images")
def test_no_part_of_a_batch_is_a_single_image(monkeypatch):
    device = ShortOfMemory(monkeypatch, most=3)
    scratch(batch_size=7, max_epochs=1).fit(*pictures(7))
    assert device.sizes == [7, 4, 3, 2, 2, 7]
