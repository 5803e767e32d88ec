import copy
import pickle
import re

import pytest
import torch
from torch import nn

from sktransfer._networks.timm_models.cuts import _keep_equal
from sktransfer._networks.timm_models.tracing import trace

IMAGES = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Row(nn.Module):
    """Three convolutions in a row, and what a test adds to them."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 4, 3)
        self.b = nn.Conv2d(4, 4, 3, padding=1)
        self.c = nn.Conv2d(4, 5, 3)

    def forward(self, x):
        return self.c(self.b(self.a(x)))


def follow(network, images=None):
    """Trace a network whose children are its groups."""
    letters = "abc"
    groups = {
        name: letters.index(name[0])
        for name, _ in network.named_parameters()
        if name[0] in letters
    }
    return trace(network.eval(), type(network).forward, groups, images)


def split(network, images=None):
    """Split a network wherever it can be."""
    traced = follow(network, images)
    return nn.Sequential(*traced.split(traced.find_cuts().values(), "test"))


@torch.no_grad()
def check(network, n_stages, images=None):
    """Check that the stages are so many, and equal the network."""
    stages = split(network, images)
    assert len(stages) == n_stages
    for twin in (stages, copy.deepcopy(stages), pickle.loads(pickle.dumps(stages))):
        for batch in (IMAGES, IMAGES[:1]):
            assert torch.equal(twin.eval()(batch), network(batch))
    return stages


def test_a_network_is_cut_between_its_groups():
    stages = check(Row(), 3)
    assert [list(stage.state_dict()) for stage in stages] == [
        ["a.weight", "a.bias"],
        ["b.weight", "b.bias"],
        ["c.weight", "c.bias"],
    ]


def test_it_is_not_cut_where_a_second_tensor_crosses():
    class Skip(Row):
        def forward(self, x):
            x = self.a(x)
            return self.c(self.b(x) + x)

    class Far(Row):
        def forward(self, x):
            x = self.a(x)
            return self.c(self.b(x)) + x.mean((1, 2, 3), keepdim=True)

    assert list(check(Skip(), 3)[1].state_dict()) == ["b.weight", "b.bias"]
    check(Far(), 1)


def test_it_is_not_cut_between_two_uses_of_the_same_weights():
    class Tied(Row):
        def forward(self, x):
            return self.c(self.b(self.a(x))) * self.a.weight.sum()

    check(Tied(), 1)


def test_it_is_not_cut_between_two_names_of_the_same_weights():
    network = Row()
    network.c = nn.Conv2d(4, 4, 3, padding=1)
    network.c.weight = network.b.weight
    stages = check(network, 2)
    assert list(stages[0].state_dict()) == ["a.weight", "a.bias"]


def test_what_has_no_weights_may_be_used_on_both_sides():
    class Active(Row):
        def __init__(self):
            super().__init__()
            self.relu = nn.ReLU()

        def forward(self, x):
            return self.c(self.relu(self.b(self.relu(self.a(x)))))

    check(Active(), 3)


def test_weights_of_no_group_stay_with_what_they_are_applied_to():
    class Normed(Row):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x):
            return self.c(self.b(self.norm(self.a(x))))

    stages = check(Normed(), 3)
    assert "norm.weight" in stages[0].state_dict()


def test_a_table_for_all_images_is_no_weight_and_does_not_cross():
    class Table(Row):
        def forward(self, x):
            x = self.a(x)
            table = torch.arange(x.shape[-1]) / x.shape[-2]
            return self.c(self.b(x + table) + table)[..., : x.shape[-1] - 2]

    assert len(split(Table())) < 3
    stages = check(Table(), 3, IMAGES)
    assert list(stages[1].state_dict()) == ["b.weight", "b.bias"]
    assert len(dict(stages[1].named_buffers())) == 1


def test_what_depends_on_weights_is_not_taken_for_a_table():
    class Scaled(Row):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(6))

        def forward(self, x):
            x = self.a(x)
            return self.c(self.b(x + self.scale.exp() * x.shape[-1]))

    network = Scaled()
    stages = check(network, 3, IMAGES)
    with torch.no_grad():
        network.scale.fill_(2.0)
        assert torch.equal(stages(IMAGES), network(IMAGES))


def test_the_number_of_images_is_not_taken_for_a_constant():
    class Batched(Row):
        def __init__(self):
            super().__init__()
            self.token = nn.Parameter(torch.ones(1, 4, 6, 1))

        def forward(self, x):
            x = self.a(x)
            x = torch.cat([self.token.expand(x.shape[0], -1, -1, -1), x], dim=3)
            return self.c(self.b(x))

    check(Batched(), 3, IMAGES)


class Sized(nn.Module):
    """Returns the size of its activation as well."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        x = self.conv(x)
        return x.flatten(2), x.shape[2:]


def test_a_size_that_a_module_returns_beside_its_activation_does_not_cross():
    class Flat(Row):
        def __init__(self):
            super().__init__()
            self.a = Sized()

        def forward(self, x):
            x, size = self.a(x)
            x = self.b(x.unflatten(2, size)).flatten(2)
            return self.c(x.unflatten(2, size))

    assert len(split(Flat())) < 3
    check(Flat(), 3, IMAGES)


class Biased(nn.Module):
    """Returns weights beside its activation."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)

    def forward(self, x):
        return self.conv(x), self.conv.bias.sum()


def test_weights_that_a_module_returns_are_not_taken_for_a_table():
    class Added(Row):
        def __init__(self):
            super().__init__()
            self.a = Biased()

        def forward(self, x):
            x, bias = self.a(x)
            return self.c(self.b(x) + bias)

    network = Added()
    stages = check(network, 2, IMAGES)
    with torch.no_grad():
        network.a.conv.bias.fill_(2.0)
        assert torch.equal(stages(IMAGES), network(IMAGES))


class Block(nn.Module):
    """Chooses by numbers, as torch.fx cannot, and is random in training."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        if x.sum() > 0:
            x = x + self.conv(x)
        return self.dropout(x)


class Blocks(Row):
    def __init__(self):
        super().__init__()
        self.b = nn.Sequential(Block(), Block())


def test_a_group_is_not_looked_into():
    check(Blocks(), 3)


def test_dropout_follows_train():
    stage = check(Blocks(), 3)[1]
    activation = torch.randn(1, 4, 6, 6)
    assert torch.equal(stage.eval()(activation), stage(activation))
    assert not torch.equal(stage.train()(activation), stage(activation))


def test_the_repr_says_what_is_computed_and_nothing_of_this_process():
    class Scaled(Row):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            x = self.a(x)
            return self.c(self.b(torch.relu(x) * self.factor))

    class Table(Row):
        def __init__(self, factor):
            super().__init__()
            self.register_buffer("table", torch.full((6,), factor), persistent=False)

        def forward(self, x):
            return self.c(self.b(self.a(x)) * self.table)

    for kind in (Scaled, Table):
        one, other, same = (repr(split(kind(f))) for f in (2.0, 3.0, 2.0))
        assert one == same
        assert one != other
        assert not re.search("0x", one)


def test_gradients_flow_through_all_stages():
    stages = split(Row()).train()
    stages(IMAGES).sum().backward()
    assert all(p.grad is not None for p in stages.parameters())


class Overwrites(nn.Module):
    """Changes what it is given in place."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)

    def forward(self, x):
        return self.conv(x.relu_())


@torch.no_grad()
def test_a_cut_before_which_activations_would_be_overwritten_is_dropped():
    network = Row()
    network.b = Overwrites()
    traced = follow(network)
    assert _keep_equal(traced, [0, 1], IMAGES, network(IMAGES)) == (1,)


@torch.no_grad()
def test_a_cut_with_which_the_stages_do_not_equal_the_whole_is_dropped(monkeypatch):
    network = Row()
    traced = follow(network)
    whole = network(IMAGES)
    assert _keep_equal(traced, [0, 1], IMAGES, whole) == (0, 1)
    assert _keep_equal(traced, [0, 1], IMAGES, whole + 1e-3) == ()


def test_a_network_that_cannot_be_followed_raises():
    class Chooses(Row):
        def forward(self, x):
            x = self.a(x)
            return self.c(self.b(x) if x.sum() > 0 else x)

    with pytest.raises(torch.fx.proxy.TraceError):
        follow(Chooses())
