import pytest
import torch
from torch import nn

from sktransfer._networks.stages import Head, Stages


def tiny():
    return Stages(
        {
            "stem": nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)),
            "layer1": nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4)),
            "head": Head(4, 2, dropout=0.0),
        }
    )


def learning(stages):
    return {n.split(".")[0] for n, p in stages.named_parameters() if p.requires_grad}


def test_depth_counts_stages_from_the_output():
    stages = tiny()
    assert learning(stages.unfreeze(0)) == {"head"}
    assert learning(stages.unfreeze(1)) == {"layer1", "head"}
    assert learning(stages.unfreeze(2)) == {"stem", "layer1", "head"}
    assert stages.unfreeze(1).frozen() == ("stem",)


@pytest.mark.parametrize("groups", [1, 4])
def test_depthwise_convolutions_get_activations_in_channels_last(groups):
    stage = nn.Conv2d(4, 4, 3, groups=groups)
    stages = Stages(
        {"stem": nn.Conv2d(3, 4, 3), "stage1": stage, "head": Head(4, 2, 0)}
    )
    layouts = []
    stage.register_forward_pre_hook(
        lambda _, args: layouts.append(
            args[0].is_contiguous(memory_format=torch.channels_last)
        )
    )
    activation = torch.randn(2, 4, 6, 6)
    logits = stages.decode(activation, 1)
    assert layouts == [groups == 4]
    torch.testing.assert_close(logits, stages.head(stage(activation)))


@pytest.mark.parametrize("depth", [-1, 3])
def test_a_depth_out_of_range_names_the_stages(depth):
    with pytest.raises(ValueError, match=rf"unfreeze_depth={depth}.*stem, layer1"):
        tiny().unfreeze(depth)


def test_a_frozen_stage_does_not_move_whoever_calls_train():
    stages = tiny().unfreeze(1)
    frozen = {k: v.clone() for k, v in stages.stem.state_dict().items()}
    opened = stages.layer1[1].running_mean.clone()
    optimizer = torch.optim.SGD(stages.parameters(), lr=1.0)
    for _ in range(3):
        stages.train()
        stages(torch.randn(8, 3, 8, 8)).square().sum().backward()
        optimizer.step()
    for name, tensor in stages.stem.state_dict().items():
        assert torch.equal(tensor, frozen[name]), name
    assert not torch.equal(stages.layer1[1].running_mean, opened)


def test_evaluation_mode_reaches_every_stage():
    stages = tiny().unfreeze(2).eval()
    assert not any(module.training for module in stages.modules())


def test_the_mode_reaches_what_a_subclass_adds():
    stages = tiny()
    stages.add_module("extra", torch.nn.Dropout())
    assert not any(module.training for module in stages.eval().modules())
    assert stages.unfreeze(0).train().extra.training
