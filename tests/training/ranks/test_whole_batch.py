"""What is drawn for the images of one rank is what one process would draw for them."""

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from sktransfer._training.ranks.whole_batch import WholeBatch

PLACES = torch.tensor([1, 4, 5])


def see_part(layer, x, seed=0):
    """Pass the images at PLACES of a batch through a layer, as one rank does."""
    torch.manual_seed(seed)
    with WholeBatch(PLACES, len(x)):
        return layer(x[PLACES])


EVERY = [nn.Dropout(0.5), DropPath(0.5), nn.Dropout2d(0.5), nn.AlphaDropout(0.5)]


@pytest.mark.parametrize("layer", EVERY)
@pytest.mark.parametrize("shape", [(8, 5, 1, 1), (8, 3, 4, 4)])
def test_a_rank_drops_what_one_process_drops(layer, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    whole, after = layer(x), torch.rand(1)
    assert torch.equal(see_part(layer, x), whole[PLACES])
    assert torch.equal(torch.rand(1), after)


def test_a_rank_without_images_draws_as_well():
    layer, x = nn.Dropout(0.5), torch.ones(8, 5)
    torch.manual_seed(0)
    layer(x)
    after = torch.rand(1)
    torch.manual_seed(0)
    with WholeBatch(torch.tensor([], dtype=torch.int64), len(x)):
        assert layer(x[:0]).shape == (0, 5)
    assert torch.equal(torch.rand(1), after)


@pytest.mark.parametrize("layer", [nn.Dropout(0.5), DropPath(0.5)])
def test_what_is_not_the_share_of_a_batch_is_left_alone(layer):
    x = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    plain = layer(x)
    torch.manual_seed(0)
    with WholeBatch(PLACES, 8):
        assert torch.equal(layer(x), plain)


def test_layers_that_do_not_learn_are_left_alone():
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    for layer in (nn.Dropout(0.5).eval(), nn.BatchNorm2d(3).eval()):
        assert torch.equal(see_part(layer, x), layer(x[PLACES]))
