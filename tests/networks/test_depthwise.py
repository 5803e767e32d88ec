import pytest
import torch
from torch import nn
from torch.nn import functional as F

from sktransfer._networks.depthwise import quick_gradients

CPU = torch.device("cpu")


def run(conv, x, precision="bfloat16", is_compiled=False):
    """Pass a convolution as a step of training does."""
    with (
        quick_gradients(precision, CPU, is_compiled),
        torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"),
    ):
        return conv(x)


def depthwise():
    return nn.Conv2d(8, 8, 3, padding=1, groups=8)


def test_depthwise_convolutions_learn_in_float32():
    conv, x = depthwise(), torch.randn(2, 8, 6, 6)
    found = run(conv, x)
    assert found.dtype == torch.float32
    assert torch.equal(found, conv(x))
    found.sum().backward()
    assert conv.weight.grad.dtype == torch.float32


def test_arguments_may_have_names():
    conv, x = depthwise(), torch.randn(2, 8, 6, 6)

    def named(x):
        weight, bias = conv.weight, conv.bias
        return F.conv2d(input=x, weight=weight, bias=bias, padding=1, groups=8)

    assert torch.equal(run(named, x), conv(x))


def test_weights_may_be_in_bfloat16():
    conv, x = depthwise().bfloat16(), torch.randn(2, 8, 6, 6)
    assert run(conv, x).dtype == torch.float32


def test_their_inputs_may_be_in_bfloat16():
    conv, x = depthwise(), torch.randn(2, 8, 6, 6).bfloat16()
    assert torch.equal(run(conv, x), conv(x.float()))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_other_convolutions_do_not(groups):
    conv = nn.Conv2d(8, 8, 3, groups=groups)
    assert run(conv, torch.randn(2, 8, 6, 6)).dtype == torch.bfloat16


def test_without_gradients_bfloat16_stays():
    conv = depthwise().requires_grad_(False)
    assert run(conv, torch.randn(2, 8, 6, 6)).dtype == torch.bfloat16


def test_what_is_compiled_is_left_alone():
    found = run(depthwise(), torch.randn(2, 8, 6, 6), is_compiled=True)
    assert found.dtype == torch.bfloat16
