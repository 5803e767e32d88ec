"""Weight files as they are found in the wild are loaded, or told apart."""

import argparse
import copy
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from sktransfer import ResNetFeatureExtractor
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.weights.checkpoints import read_state
from tests.helpers import pictures, transfer

X, y = pictures(12)


class Options(dict):
    """What a training script may put beside the weights."""


@pytest.fixture(scope="module")
def stages():
    torch.manual_seed(7)
    return make_stages("mini_resnet18", 3, 0.0, (8, 8))


@pytest.fixture
def state(stages):
    """The backbone under the names of the network that it was trained as."""
    return {
        name.removeprefix("stem."): tensor.clone()
        for name, tensor in stages.state_dict().items()
        if not name.startswith(("head.", "preprocess."))
    }


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def moved(state):
    """The same names with other numbers."""
    return {name: tensor + 1 for name, tensor in state.items()}


def extract(weights):
    features = ResNetFeatureExtractor("mini_resnet18", weights=weights, image_size=8)
    return features.fit(X)


def assert_loaded(weights, stages):
    loaded = extract(weights).stages_.state_dict()
    for name, tensor in stages.state_dict().items():
        if not name.startswith(("head.", "preprocess.")):
            assert torch.equal(loaded[name], tensor), name


@pytest.mark.parametrize(
    "ending", [".safetensors", ".pth", ".pt", ".pth.tar", ".ckpt", ".bin", ".PTH"]
)
@pytest.mark.parametrize("kind", [str, Path])
def test_every_usual_ending_is_read(tmp_path, state, stages, ending, kind):
    path = tmp_path / f"best.model{ending}"
    (save_file if ending == ".safetensors" else torch.save)(state, path)
    assert_loaded(kind(path), stages)


@pytest.mark.parametrize(
    "wrappers",
    [
        ["state_dict"],
        ["model_state_dict"],
        ["model"],
        ["net"],
        ["network"],
        ["module"],
        ["teacher"],
        ["checkpoint", "model", "state_dict"],
    ],
)
def test_weights_are_found_inside_a_checkpoint(tmp_path, state, stages, wrappers):
    content = under("module.", state)
    for wrapper in reversed(wrappers):
        content = {wrapper: content, "epoch": 3, "best_acc1": torch.tensor(0.7)}
    torch.save(content, tmp_path / "checkpoint.pth.tar")
    assert_loaded(tmp_path / "checkpoint.pth.tar", stages)


def test_a_checkpoint_of_the_imagenet_script_is_loaded(tmp_path, state, stages):
    net = nn.Conv2d(1, 1, 1)
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.ones(1, 1, 1, 1)).sum().backward()
    optimizer.step()
    head = {"module.fc.weight": torch.zeros(1000, 192), "module.fc.bias": torch.ones(1)}
    content = {
        "epoch": 90,
        "arch": "mini_resnet18",
        "state_dict": under("module.", state) | head,
        "best_acc1": torch.tensor(71.3),
        "optimizer": optimizer.state_dict(),
        "scheduler": {"last_epoch": 90, "_last_lr": [0.1]},
    }
    torch.save(content, tmp_path / "model_best.pth.tar")
    assert_loaded(tmp_path / "model_best.pth.tar", stages)


def test_a_checkpoint_of_lightning_is_loaded(tmp_path, state, stages):
    content = {
        "epoch": 9,
        "pytorch-lightning_version": "2.5",
        "state_dict": under("model.backbone.", state)
        | {"model.projector.0.weight": torch.zeros(8, 192)},
        "loops": {"fit_loop": {"state_dict": {}}},
        "callbacks": {"ModelCheckpoint{'monitor': 'v'}": {"best": torch.tensor(1.0)}},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
        "hyper_parameters": {"lr": 0.1},
    }
    torch.save(content, tmp_path / "last.ckpt")
    assert_loaded(tmp_path / "last.ckpt", stages)


def test_options_of_a_training_script_do_no_harm(tmp_path, state, stages):
    allowed = set(torch.serialization.get_safe_globals())
    args = argparse.Namespace(lr=0.1, arch="mini")
    torch.save({"state_dict": state, "args": args}, tmp_path / "last.pth.tar")
    assert_loaded(tmp_path / "last.pth.tar", stages)
    assert set(torch.serialization.get_safe_globals()) == allowed


def test_files_may_be_read_in_threads(tmp_path, state):
    allowed = set(torch.serialization.get_safe_globals())
    args = argparse.Namespace(lr=0.1)
    path = tmp_path / "last.pth"
    torch.save({"state_dict": state, "args": args}, path)
    sizes = []
    threads = [
        threading.Thread(target=lambda: sizes.append(len(read_state(path))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sizes == [len(state)] * 8
    assert set(torch.serialization.get_safe_globals()) == allowed


@pytest.mark.parametrize("average", ["state_dict_ema", "model_ema", "ema"])
@pytest.mark.parametrize("order", [1, -1])
def test_weights_are_preferred_to_their_moving_average(
    tmp_path, state, stages, average, order
):
    entries = [("model", state), (average, moved(state))][::order]
    torch.save(dict(entries), tmp_path / "checkpoint.pth")
    assert_loaded(tmp_path / "checkpoint.pth", stages)


def test_a_moving_average_is_loaded_if_there_is_nothing_else(tmp_path, state, stages):
    torch.save({"state_dict_ema": state}, tmp_path / "checkpoint.pth")
    assert_loaded(tmp_path / "checkpoint.pth", stages)


def test_files_of_moco_give_the_encoder_that_was_trained(tmp_path, state, stages):
    content = under("module.encoder_k.", moved(state))
    content |= under("module.encoder_q.", state)
    content["module.encoder_q.fc.0.weight"] = torch.zeros(192, 192)
    content["module.queue"] = torch.zeros(128, 64)
    torch.save({"state_dict": content}, tmp_path / "moco.pth.tar")
    assert_loaded(tmp_path / "moco.pth.tar", stages)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_of_another_width_are_converted(tmp_path, state, dtype):
    narrow = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    save_file(narrow, tmp_path / "narrow.safetensors")
    stages = extract(tmp_path / "narrow.safetensors").stages_
    assert stages.stem.conv1.weight.dtype == torch.float32
    assert torch.equal(stages.stem.conv1.weight, narrow["conv1.weight"].float())


def test_a_file_of_a_quantized_network_is_refused(tmp_path, state):
    state["layer1.0.conv1.weight"] = state["layer1.0.conv1.weight"].to(torch.int8)
    torch.save(state, tmp_path / "int8.pth")
    with pytest.raises(
        ValueError, match=r"layer1\.0\.conv1\.weight holds int8 numbers"
    ):
        extract(tmp_path / "int8.pth")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("name", ["conv1.weight", "layer3.1.bn2.running_var"])
def test_numbers_that_are_not_finite_are_the_fault_of_the_file(
    tmp_path, state, value, name
):
    state[name] = state[name].double()
    state[name].view(-1)[5] = value
    torch.save({"state_dict": state}, tmp_path / "diverged.pth")
    message = rf"diverged\.pth': {name} holds 1 NaN or infinite .* file is at fault"
    for estimator in (
        transfer(weights=tmp_path / "diverged.pth"),
        ResNetFeatureExtractor(
            "mini_resnet18", weights=tmp_path / "diverged.pth", image_size=8
        ),
    ):
        with pytest.raises(ValueError, match=message):
            estimator.fit(X, y)


def test_a_head_that_is_not_finite_does_not_matter(tmp_path, state, stages):
    state["fc.weight"] = torch.full((3, 192), np.nan)
    torch.save(state, tmp_path / "weights.pth")
    assert_loaded(tmp_path / "weights.pth", stages)


@pytest.mark.parametrize("thing", [Options(a=1), nn.Conv2d(3, 3, 3), Path("runs")])
def test_objects_that_are_not_read_come_with_a_way_out(tmp_path, state, thing):
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": thing}, path)
    with pytest.raises(ValueError, match=r"last\.ckpt.*could not be read") as caught:
        extract(path)
    assert "save the state_dict() only" in str(caught.value)
    assert type(thing).__name__ in str(caught.value)
    assert "weights_only" not in str(caught.value)


def test_a_checkpoint_that_calls_functions_calls_none(tmp_path, state):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    class Sly:
        def __reduce__(self):
            return (argparse.FileType("w"), (str(tmp_path / "ran"),))

    for i, kind in enumerate((Evil, Sly)):
        path = tmp_path / f"{i}.pth.tar"
        torch.save({"args": argparse.Namespace(a=kind()), "state_dict": state}, path)
        with pytest.raises(ValueError, match="could not be read"):
            extract(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pth", b"", "it is empty"),
        ("a.safetensors", b"", "it is empty"),
        ("a.bin", b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        ("a.pth", b"\n<!DOCTYPE html><html></html>", "a web page"),
        ("a.pth", b"not weights", "could not be read"),
        (
            "a.pth",
            pickle.dumps({"a": "b"}, 2)[:-2],
            "damaged, or torch did not write it",
        ),
    ],
)
def test_a_file_without_weights_is_told_for_what_it_is(
    tmp_path, name, content, message
):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        extract(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "kind"),
    [({"epoch": 1}, "dict"), ([torch.ones(1)], "list"), (torch.ones(1), "Tensor")],
)
def test_a_file_without_named_tensors_is_refused(tmp_path, content, kind):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=f"does not hold a state dict, but a {kind}"):
        extract(tmp_path / "a.pth")


def test_a_wrong_ending_is_told(tmp_path, state):
    save_file(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"that of a \.safetensors file; rename"):
        extract(tmp_path / "a.pth")
    torch.save(state, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"that of a \.pth file; rename"):
        extract(tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"none of \.safetensors, \.pth"):
        read_state(Path(__file__))


@pytest.mark.filterwarnings("ignore:.*torch.jit", "ignore:.*TorchScript archive")
def test_a_program_of_torchscript_is_refused(tmp_path):
    path = tmp_path / "scripted.pt"
    torch.jit.trace(nn.Conv2d(3, 3, 1), torch.ones(1, 3, 4, 4)).save(path)
    with pytest.raises(ValueError, match=r"a TorchScript program.*save the state_dict"):
        read_state(path)


def test_a_checkpoint_that_holds_itself_is_read(tmp_path):
    content = {"weight": torch.ones(2)}
    content["itself"] = content
    torch.save(content, tmp_path / "loop.pth")
    assert torch.equal(read_state(tmp_path / "loop.pth")["weight"], torch.ones(2))


def test_a_damaged_stage_is_not_loaded_in_part(tmp_path, state):
    short = copy.copy(state)
    del short["layer4.1.bn2.bias"]
    torch.save(short, tmp_path / "short.pth")
    for make in (extract, lambda path: transfer(weights=path).fit(X, y)):
        with pytest.raises(ValueError, match=r"1 are missing .*layer4\.1\.bn2\.bias"):
            make(tmp_path / "short.pth")


def test_large_numbers_are_finite(tmp_path, state, stages):
    huge = torch.full_like(state["conv1.weight"], 3e38)
    torch.save(state | {"conv1.weight": huge}, tmp_path / "huge.pth")
    assert torch.equal(extract(tmp_path / "huge.pth").stages_.stem.conv1.weight, huge)
