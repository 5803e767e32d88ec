import pytest
import torch
from torch import nn

from sktransfer._networks.convolution import is_wrong_in_bfloat16
from sktransfer._networks.depthwise import quick_gradients
from sktransfer._networks.device import autocast

CPU = torch.device("cpu")

# Channels, kernel, options, and a shape of images, as torch computes them wrongly.
WRONG = [
    (64, 3, {"stride": 2, "padding": 1}, (16, 2)),
    (64, 3, {"stride": 2, "padding": 1}, (16, 1)),
    (64, 3, {"stride": (1, 2), "padding": 1}, (16, 2)),
    (16, (1, 3), {"stride": 2, "padding": "valid"}, (16, 4)),
    (16, 3, {"stride": 2, "dilation": 2}, (16, 6)),
    (3, 7, {"stride": 4, "padding": 3}, (28, 4)),
    (3, 4, {"stride": 4}, (28, 4)),
    (16, 4, {"stride": 4}, (8, 56)),
    (16, 5, {"stride": 2, "padding": 2, "groups": 2}, (32, 32)),
    (4, (5, 16), {"padding": (2, 0)}, (7, 56)),
    (48, (4, 3), {"stride": (4, 3), "padding": 2}, (20, 2)),
]
RIGHT = [
    (64, 3, {"stride": 2, "padding": 1}, (2, 16)),
    (64, 3, {"stride": 2, "padding": 1}, (16, 3)),
    (64, 3, {"stride": (2, 1), "padding": 1}, (16, 1)),
    (64, 3, {"padding": "same"}, (16, 1)),
    (64, 1, {"stride": 2}, (16, 1)),
    (3, 16, {"stride": 16}, (32, 32)),
    (3, 7, {"stride": 2, "padding": 3}, (32, 32)),
]


def make(n_channels, kernel, options):
    torch.manual_seed(0)
    return nn.Conv2d(n_channels, 16, kernel, **options)


@pytest.mark.parametrize(("n_channels", "kernel", "options", "shape"), WRONG)
def test_what_would_be_wrong_is_computed_and_learned_in_float32(
    n_channels, kernel, options, shape
):
    conv, x = make(n_channels, kernel, options), torch.randn(4, n_channels, *shape)
    with quick_gradients("bfloat16", CPU), autocast("bfloat16", CPU):
        found = conv(x)
    assert torch.equal(found, conv(x))
    gradients = [torch.autograd.grad(y.sum(), conv.weight)[0] for y in (found, conv(x))]
    assert torch.equal(*gradients)


@pytest.mark.parametrize(("n_channels", "kernel", "options", "shape"), RIGHT)
def test_others_stay_in_bfloat16(n_channels, kernel, options, shape):
    conv, x = make(n_channels, kernel, options), torch.randn(4, n_channels, *shape)
    with autocast("bfloat16", CPU):
        found = conv(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), conv(x), rtol=0.05, atol=0.05)


def test_a_single_column_and_narrow_images_are_found_for_every_width():
    for width in range(1, 12):
        for stride, padding, dilation in [(2, 0, 1), (3, 1, 1), (2, 2, 2)]:
            conv = nn.Conv2d(1, 1, 3, stride, padding, dilation)
            shape, kernel = torch.Size((1, 1, 20, width)), conv.weight.shape
            if width + 2 * padding <= 2 * dilation:
                continue
            is_single = conv(torch.zeros(shape)).shape[-1] == 1
            is_narrow = width < 2 * dilation + 1
            options = conv.stride, conv.padding, conv.dilation
            found = is_wrong_in_bfloat16(shape, kernel, *options)
            assert found == (is_single or is_narrow)


def test_inputs_may_be_in_bfloat16():
    conv, x = make(16, 4, {"stride": 4}), torch.randn(4, 16, 8, 56).bfloat16()
    with autocast("bfloat16", CPU):
        assert torch.equal(conv(x), conv(x.float()))
