"""The tensors of a network are found under whatever names a file has for them."""

import re
from dataclasses import replace
from itertools import permutations

import pytest
import torch
from torch import nn
from torchvision.models import get_model, resnet18, vit_b_16

from sktransfer import Backbone, Stages
from sktransfer._networks.stages import Head
from sktransfer._networks.weights.loading import load_backbone
from sktransfer._networks.weights.misfits import recognise
from sktransfer._networks.weights.naming import fit_names, list_names

STAGES = {
    "stem": ["conv1", "bn1", "relu", "maxpool"],
    "layer1": ["layer1"],
    "layer2": ["layer2"],
    "layer3": ["layer3"],
    "layer4": ["layer4"],
}
NAMES = list_names(STAGES)


def make_state(name="resnet18"):
    """A state dict with zeros, which take no memory."""
    with torch.device("meta"):
        shapes = get_model(name).state_dict()
    return {k: torch.zeros(()).expand(v.shape) for k, v in shapes.items()}


def in_stages(name):
    return f"stem.{name}" if name.startswith(("conv1", "bn1")) else name


STATE = make_state()
WANTED = {in_stages(k): v.shape for k, v in STATE.items() if not k.startswith("fc.")}


def under(prefix, state):
    return {f"{prefix}{name}": tensor for name, tensor in state.items()}


def misfit(state, **changes):
    """The error for a file that does not fit."""
    with pytest.raises(ValueError, match="do not fit the backbone") as caught:
        fit_names(state, WANTED, NAMES, **changes)
    return str(caught.value)


def test_every_child_of_a_network_has_a_place_in_its_stages():
    stages = {"stem": ["conv", "blocks.0"], "stage1": ["blocks.1"], "last": ["last"]}
    assert list_names(stages) == {
        "conv": "stem.conv",
        "blocks.0": "stem.blocks_0",
        "blocks.1": "stage1.blocks_1",
        "last": "last",
    }


@pytest.mark.parametrize("n", [0, 1, 2])
@pytest.mark.parametrize(
    "part",
    [
        "module",
        "model",
        "backbone",
        "encoder",
        "encoder_q",
        "encoder_k",
        "net",
        "network",
        "_orig_mod",
        "base_encoder",
        "visual",
        "student",
        "teacher",
        "anything",
    ],
)
def test_any_prefix_is_removed(part, n):
    for parts in permutations([part, *["module", "model"][:n]]):
        fitted = fit_names(under(f"{'.'.join(parts)}.", STATE), WANTED, NAMES)
        assert fitted.keys() == WANTED.keys()


def test_the_parts_of_a_compiled_network_are_found():
    state = {
        name.replace("layer1.", "layer1._orig_mod."): tensor
        for name, tensor in under("_orig_mod.module.", STATE).items()
    }
    assert fit_names(state, WANTED, NAMES).keys() == WANTED.keys()


def test_names_of_the_stages_are_taken():
    state = {in_stages(name): tensor for name, tensor in STATE.items()}
    assert fit_names(under("model.", state), WANTED, NAMES).keys() == WANTED.keys()


def test_children_may_be_numbered():
    net = nn.Sequential(*list(resnet18().children())[:-1])
    fitted = fit_names(under("backbone.", net.state_dict()), WANTED, NAMES)
    assert torch.equal(fitted["stem.conv1.weight"], net[0].weight)
    assert torch.equal(fitted["layer4.1.bn2.bias"], net[7][1].bn2.bias)


def test_children_of_children_are_found():
    names = list_names({"stem": ["conv", "blocks.0"], "stage1": ["blocks.1"]})
    original = ["conv.weight", "blocks.0.conv.weight", "blocks.1.conv.weight"]
    state = {name: torch.ones(i + 1) for i, name in enumerate(original)}
    stages = ["stem.conv.weight", "stem.blocks_0.conv.weight"]
    stages.append("stage1.blocks_1.conv.weight")
    wanted = {name: (i + 1,) for i, name in enumerate(stages)}
    for file in (state, dict(zip(stages, state.values(), strict=True))):
        fitted = fit_names(under("model.", file), wanted, names)
        assert [len(fitted[name]) for name in stages] == [1, 2, 3]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("encoder_q.", "encoder_k."),
        ("student.", "teacher."),
        ("base_encoder.", "momentum_encoder."),
        ("online.", "target."),
        ("net.", "ema_net."),
        ("model.", "deeper.model."),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_the_network_that_was_trained_is_preferred(first, second, order):
    ones = {name: tensor + 1 for name, tensor in STATE.items()}
    entries = [*under(first, ones).items(), *under(second, STATE).items()]
    fitted = fit_names(dict(entries[::order]), WANTED, NAMES)
    assert all(tensor.eq(1).all() for tensor in fitted.values())


def test_a_larger_teacher_is_passed_over():
    state = under("teacher.", make_state("resnet50")) | under("student.", STATE)
    assert fit_names(state, WANTED, NAMES).keys() == WANTED.keys()
    state = under("student.", make_state("resnet50")) | under("teacher.", STATE)
    assert fit_names(state, WANTED, NAMES).keys() == WANTED.keys()


@pytest.mark.parametrize(
    "head",
    [
        {"fc.weight": (21843, 512), "fc.bias": (21843,)},
        {"fc.0.weight": (512, 512), "fc.2.weight": (128, 512)},
        {"head.linear.weight": (5, 512), "head.linear.bias": (5,)},
        {"projector.1.num_batches_tracked": (), "projector.0.weight": (9, 512)},
        {"classifier.weight": (5, 512), "last_linear.weight": (5, 512)},
    ],
)
def test_a_head_of_any_kind_is_ignored(head):
    state = {k: v for k, v in STATE.items() if not k.startswith("fc.")}
    state |= {name: torch.zeros(shape) for name, shape in head.items()}
    assert fit_names(state, WANTED, NAMES).keys() == WANTED.keys()


def test_a_head_that_is_named_need_not_be_linear():
    state = STATE | {"decoder.up.weight": torch.zeros(5, 512, 2, 2)}
    assert "decoder.up.weight" in misfit(state)
    assert fit_names(state, WANTED, NAMES, ["decoder"]).keys() == WANTED.keys()
    assert "decoder.up.weight" in misfit(state, ignored=["decode"])


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("layer5.0.conv1.weight", (512, 512, 3, 3)),
        ("layer4.2.conv1.weight", (512, 512, 3, 3)),
        ("layer1.0.se.fc1.weight", (4, 64)),
        ("norm.weight", (512,)),
        ("pos_embed", (1, 512)),
    ],
)
def test_more_of_a_network_than_expected_is_refused(name, shape):
    message = misfit(under("module.", STATE | {name: torch.zeros(shape)}))
    assert f"Unexpected: {name} {shape}." in message


def test_missing_tensors_are_counted_and_the_first_are_named():
    state = {k: v for k, v in STATE.items() if not k.startswith("layer4.1.")}
    message = misfit(state, source="'short.pth'")
    assert message.startswith("weights='short.pth' do not fit the backbone: ")
    assert "of 118 tensors expected, 10 are missing" in message
    assert "Missing: layer4.1.conv1.weight (512, 512, 3, 3), " in message
    assert "and 7 more." in message


def test_counts_of_batches_may_be_missing():
    short = {k: v for k, v in STATE.items() if "num_batches" not in k}
    assert fit_names(short, WANTED, NAMES).keys() == {in_stages(k) for k in short} - {
        "fc.weight",
        "fc.bias",
    }


def test_another_depth_is_told_with_the_shapes_that_differ():
    message = misfit(under("module.", make_state("resnet50")))
    assert (
        "Expected layer1.0.conv1.weight (64, 64, 3, 3); the file has "
        "layer1.0.conv1.weight (64, 64, 1, 1)." in message
    )
    assert "The file looks like a ResNet-50 (3, 4, 6, 3 bottleneck blocks" in message
    assert "the backbone is a ResNet-18 (2, 2, 2, 2 basic blocks" in message


def test_a_vision_transformer_is_told_by_its_position_embeddings():
    with torch.device("meta"):
        state = vit_b_16().state_dict()
    message = misfit({k: torch.zeros(()).expand(v.shape) for k, v in state.items()})
    assert "of 100 tensors expected, 100 are missing" in message
    assert "of 152 in the file, 150 are unexpected" in message
    assert re.search(
        r"looks like a vision transformer \(12 blocks, 768 wide, encoder\.pos_embedding"
        r" for 197 positions\), and the backbone is a ResNet-18",
        message,
    )


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        (
            {"pos_embed": (1, 257, 384), "blocks.11.attn.qkv.weight": (1152, 384)},
            "a vision transformer (12 blocks, 384 wide, pos_embed for 257 positions)",
        ),
        ({"layers.0.attn.relative_position_bias_table": (9, 3)}, "a Swin transformer"),
        ({"model.conv_stem.weight": (32, 3, 3, 3)}, "an EfficientNet or MobileNet"),
        ({"features.denseblock1.x.weight": (1, 1)}, "a DenseNet"),
        (
            {"layer1.8.conv1.weight": (16, 16, 3, 3), "layer2.8.conv2.weight": (1,)},
            "a ResNet (9, 9 basic blocks, the first 16 channels wide)",
        ),
        ({"a.weight": (1,)}, None),
    ],
)
def test_networks_are_known_by_their_names_and_shapes(shapes, kind):
    assert recognise(shapes) == kind


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_resnets_are_known_by_their_depth(depth):
    state = under("state_dict.module.encoder_q.", make_state(f"resnet{depth}"))
    kind = recognise({name: tuple(state[name].shape) for name in reversed(state)})
    assert kind.startswith(f"a ResNet-{depth} (")
    assert kind.endswith(" blocks, the first 64 channels wide)")


def test_names_that_are_nearly_right_are_shown():
    state = {name.replace("bn1", "batch_norm1"): v for name, v in STATE.items()}
    message = misfit(state)
    assert "Nearest to bn1.weight (64,) is batch_norm1.weight (64,)." in message


def test_a_network_that_is_no_resnet_is_loaded_by_its_record():
    net = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 3),
            "blocks": nn.Sequential(nn.Conv2d(4, 4, 3), nn.Conv2d(4, 5, 3)),
            "top": nn.Conv2d(5, 9, 1),
        }
    )
    cut = {"stem": ["conv", "blocks.0"], "last": ["blocks.1"]}
    backbone = Backbone("mine", nn.ModuleDict, cut, head="top")
    stem = nn.Sequential()
    stem.add_module("conv", nn.Conv2d(3, 4, 3))
    stem.add_module("blocks_0", nn.Conv2d(4, 4, 3))
    last = nn.Sequential()
    last.add_module("blocks_1", nn.Conv2d(4, 5, 3))
    stages = Stages({"stem": stem, "last": last, "head": Head(5, 2, 0.0)})
    load_backbone(backbone, stages, under("model.", net.state_dict()), "the net")
    assert torch.equal(stages.stem.blocks_0.weight, net["blocks"][0].weight)
    assert torch.equal(stages.last.blocks_1.bias, net["blocks"][1].bias)
    with pytest.raises(ValueError, match=r"weights=the net do not fit .*top\.weight"):
        load_backbone(replace(backbone, head=None), stages, net.state_dict(), "the net")
