import copy
import pickle
import re

import pytest
import timm
import torch

from sktransfer._networks.timm_models.describe import describe_timm

# A network, its image size in the tests, and whether its features are maps.
NETWORKS = {
    "resnet18": (64, True),
    "densenet121": (64, True),
    "efficientnetv2_rw_t": (64, True),
    "regnety_002": (64, True),
    "tf_efficientnet_lite0": (64, True),
    "convnextv2_atto": (64, False),
    "mobilenetv4_conv_small": (64, False),
    "mobilenetv3_small_100": (64, False),
    "caformer_s18": (64, False),
    "fastvit_t8": (64, True),
    "vit_tiny_patch16_224": (48, False),
    "vit_small_patch14_dinov2": (56, False),
    "vit_small_patch16_dinov3": (64, False),
    "eva02_tiny_patch14_224": (56, False),
    "swin_tiny_patch4_window7_224": (64, True),
    "mvitv2_tiny": (64, False),
}
FIVE = ["stem", "stage1", "stage2", "stage3", "stage4"]


def make(name, size):
    """Build a network for a size, and its twin of timm's with the same weights."""
    backbone = describe_timm(name)
    network = backbone.make(*[size] * backbone.takes_image_size).eval()
    # As trained weights do, let no branch be multiplied by 0.
    for tensor in network.state_dict().values():
        if tensor.is_floating_point() and tensor.min() == tensor.max():
            tensor.uniform_(0.2, 0.9)
    sized = {"img_size": size} if backbone.takes_image_size else {}
    model = timm.create_model(name, num_classes=0, **sized).eval()
    state = {key.partition(".")[2]: v for key, v in network.state_dict().items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert not missing
    return backbone, network, model


@pytest.mark.parametrize("name", NETWORKS)
@torch.no_grad()
def test_stages_one_after_another_are_the_whole_network(name):
    size, maps = NETWORKS[name]
    backbone, network, model = make(name, size)
    assert list(backbone.stages) == FIVE
    activation = images = torch.randn(2, 3, size, size)
    for stage in backbone.stages:
        activation = network.get_submodule(stage)(activation)
        assert isinstance(activation, torch.Tensor)
        assert len(activation) == 2
    assert (activation.ndim == 4) == maps
    pooled = activation.mean((2, 3)) if maps else activation
    assert pooled.shape == (2, backbone.n_features)
    expected = model.forward_head(model.forward_features(images), pre_logits=True)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)


PARTS = {
    "tf_efficientnet_lite0": [
        {"conv_stem", "bn1", "blocks.0"},
        {"blocks.1"},
        {"blocks.2"},
        {"blocks.3", "blocks.4"},
        {"blocks.5", "blocks.6", "conv_head", "bn2"},
    ],
    # The last convolution, of which the model says nothing, is no stage of its own.
    "mobilenetv3_small_100": [
        {"conv_stem", "bn1"},
        {"blocks.0"},
        {"blocks.1"},
        {"blocks.2", "blocks.3"},
        {"blocks.4", "blocks.5", "conv_head"},
    ],
    "vit_tiny_patch16_224": [
        {"cls_token", "pos_embed", "patch_embed"},
        {"blocks.0", "blocks.1", "blocks.2"},
        {"blocks.3", "blocks.4", "blocks.5"},
        {"blocks.6", "blocks.7", "blocks.8"},
        {"blocks.9", "blocks.10", "blocks.11", "norm"},
    ],
}


@pytest.mark.parametrize("name", PARTS)
def test_a_network_is_cut_where_its_resolution_changes_or_in_equal_shares(name):
    parts = [
        {re.match(r"blocks\.\d+|\w+", key).group() for key in stage.state_dict()}
        for stage in describe_timm(name).make()
    ]
    assert parts == PARTS[name]


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
@torch.no_grad()
def test_stages_can_be_copied_and_pickled(name):
    network = describe_timm(name).make().eval()
    images = torch.randn(1, 3, 160, 160)
    for twin in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
        assert repr(twin) == repr(network)
        assert torch.equal(twin(images), network(images))
        assert list(twin.state_dict()) == list(network.state_dict())


def test_the_function_that_builds_a_network_can_be_pickled():
    make = describe_timm("test_resnet").make
    twin = pickle.loads(pickle.dumps(make))
    assert list(twin().state_dict()) == list(make().state_dict())


def test_batch_norm_in_training_mode_follows_the_images():
    network = describe_timm("test_resnet").make()
    before = copy.deepcopy(network.state_dict())
    network.eval()(torch.randn(4, 3, 64, 64))
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())
    network.train()(torch.randn(4, 3, 64, 64))
    after = network.state_dict()
    assert all(
        not torch.equal(before[k], after[k]) for k in after if "running_mean" in k
    )


def test_an_unknown_name_is_refused_with_the_nearest_names():
    with pytest.raises(ValueError, match=r"resnett18.*nearest are .*resnet18"):
        describe_timm("resnett18")
    with pytest.raises(ValueError, match=r"resnet18 with weights .*a1_in1k"):
        describe_timm("resnet18.nothing")


def test_a_model_without_features_of_images_is_refused():
    with pytest.raises(ValueError, match="mobilenetv5_300m_enc' gives no features"):
        describe_timm("mobilenetv5_300m_enc")


@pytest.mark.parametrize(
    ("name", "size", "near"),
    [("vit_tiny_patch16_224", 50, "48, 64, 224"), ("test_vit3", 98, "96, 112, 160")],
)
def test_a_size_that_does_not_fit_is_refused_with_others_that_do(name, size, near):
    with pytest.raises(ValueError, match=f"image_size={size} .*such as {near}"):
        describe_timm(name).make(size)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("resnet50.a1_in1k", 288),  # trained at 224
        ("resnet18.tv_in1k", 224),  # timm has no other size
        ("vit_tiny_patch16_224", 224),
    ],
)
def test_models_see_images_at_the_size_that_they_are_tested_at(name, size):
    assert describe_timm(name).image_size == size


def test_a_record_says_how_the_model_wants_its_images():
    backbone = describe_timm("vit_tiny_patch16_224")
    assert backbone.image_size == 224
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert backbone.interpolation == "bicubic"
    assert backbone.takes_image_size
    assert not describe_timm("test_resnet").takes_image_size


def test_transformers_get_adamw_small_rates_and_layer_decay():
    convolutional = describe_timm("test_resnet")
    assert convolutional.batch_norm == "eval"
    assert convolutional.layer_decay == 1
    backbone = describe_timm("vit_tiny_patch16_224")
    assert backbone.layer_decay < 1
    assert backbone.optimizer == "adamw"
    assert backbone.lr * backbone.backbone_lr_factor <= 1e-4


def test_a_model_that_cannot_be_followed_is_one_stage():
    assert list(describe_timm("test_vit").stages) == ["body"]


def test_a_network_is_built_with_its_tables_under_the_meta_device():
    images = torch.randn(1, 3, 64, 64)
    torch.manual_seed(0)
    network = describe_timm("swin_tiny_patch4_window7_224").make(64).eval()
    torch.manual_seed(0)
    with torch.device("meta"):
        other = describe_timm("swin_tiny_patch4_window7_224").make(64).eval()
    with torch.no_grad():
        assert torch.equal(network(images), other(images))


def test_describing_a_network_takes_no_random_numbers():
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    describe_timm("test_mambaout")
    assert torch.equal(torch.rand(1), expected)


def test_the_repr_of_a_stage_tells_networks_apart_whose_modules_look_the_same():
    one, other = (describe_timm("vit_tiny_patch16_224").make(s) for s in (48, 64))
    assert repr(one.stage1) != repr(other.stage1)
