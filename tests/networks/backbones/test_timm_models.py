import copy
import pickle
import re

import pytest
import timm
import torch

from sktransfer._networks.backbones.timm_models import describe_timm

# A network, its image size in the tests, and whether its features are maps.
CONVOLUTIONAL = {
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
}
FIVE = ["stem", "stage1", "stage2", "stage3", "stage4"]


def whole(name, network, images):
    """Return what timm itself makes of these images, with the weights of a network."""
    model = timm.create_model(name, num_classes=0).eval()
    state = {
        key.partition(".")[2]: tensor for key, tensor in network.state_dict().items()
    }
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected
    assert not missing
    return model.forward_head(model.forward_features(images), pre_logits=True)


@pytest.mark.parametrize("name", CONVOLUTIONAL)
@torch.no_grad()
def test_stages_one_after_another_are_the_whole_network(name):
    size, maps = CONVOLUTIONAL[name]
    backbone = describe_timm(name)
    assert list(backbone.stages) == FIVE
    network = backbone.make().eval()
    activation = images = torch.randn(2, 3, size, size)
    for stage in backbone.stages:
        activation = network.get_submodule(stage)(activation)
        assert isinstance(activation, torch.Tensor)
        assert len(activation) == 2
    expected = whole(name, network, images)
    assert (activation.ndim == 4) == maps
    pooled = activation.mean((2, 3)) if maps else activation
    assert pooled.shape == (2, backbone.n_features)
    torch.testing.assert_close(pooled, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_a_network_is_cut_where_its_resolution_changes():
    network = describe_timm("tf_efficientnet_lite0").make()
    parts = {
        stage: {
            ".".join(key.split(".")[:2])
            if key.startswith("blocks")
            else key.split(".")[0]
            for key in network.get_submodule(stage).state_dict()
        }
        for stage in FIVE
    }
    assert parts == {
        "stem": {"conv_stem", "bn1", "blocks.0"},
        "stage1": {"blocks.1"},
        "stage2": {"blocks.2"},
        "stage3": {"blocks.3", "blocks.4"},
        "stage4": {"blocks.5", "blocks.6", "conv_head", "bn2"},
    }


@torch.no_grad()
def test_stages_can_be_copied_and_pickled():
    network = describe_timm("test_efficientnet").make().eval()
    images = torch.randn(1, 3, 64, 64)
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
