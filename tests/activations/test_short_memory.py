"""Frozen stages and predictions where memory is short: smaller batches, other names."""

import numpy as np
import pytest
import torch

from sktransfer import ActivationCache, ResNetFeatureExtractor
from sktransfer._activations.prefix import LongerPrefix, Prefix
from sktransfer._activations.rows import ActivationRows
from sktransfer._images.views import AS_IT_IS
from sktransfer._networks.stages import Stages
from tests.helpers import SHORTAGES, fit_cached, pictures, scratch, transfer

X, y = pictures(80)
SIZE = 32  # of a batch of small images on a CPU


class Device:
    """A device that holds few images at a time, from some batch on."""

    def __init__(self, monkeypatch, shortage):
        self.most, self.n_before, self.sizes = SIZE, 0, []
        run = {name: getattr(Stages, name) for name in ("advance", "decode")}

        def limit(name):
            def limited(stages, x, *numbers):
                is_preprocessing = name == "advance" and numbers == (0, 0)
                if stages.training or is_preprocessing:
                    return run[name](stages, x, *numbers)
                self.sizes.append(len(x))
                if len(x) > self.most and len(self.sizes) > self.n_before:
                    raise shortage()
                return run[name](stages, x, *numbers)

            return limited

        for name in run:
            monkeypatch.setattr(Stages, name, limit(name))

    def shrink(self, most, after=0):
        """Hold at most so many images after some batches; forget what was seen."""
        self.most, self.n_before, self.sizes = most, after, []
        return self


@pytest.fixture(params=SHORTAGES.values(), ids=SHORTAGES)
def device(monkeypatch, request):
    return Device(monkeypatch, request.param)


def extractor(**changes):
    settings = {"image_size": 8, "precision": "float32", "device": "cpu", **changes}
    return ResNetFeatureExtractor("mini_resnet18", **settings)


@pytest.mark.parametrize("tta", [None, "flip"])
@pytest.mark.parametrize("make", [scratch, transfer])
def test_predictions_pass_in_smaller_batches_where_memory_is_short(device, make, tta):
    clf = make(tta=tta).fit(X, y)
    expected = clf.predict_proba(X)
    clf.set_params(activation_cache=ActivationCache()) if make is transfer else None
    device.shrink(10)
    np.testing.assert_allclose(clf.predict_proba(X), expected, rtol=1e-4, atol=1e-6)
    assert device.sizes.count(32) <= 2
    assert set(device.sizes) == {32, 16, 8}


@pytest.mark.parametrize("make_cache", [type(None), ActivationCache])
def test_every_image_of_a_call_passes_in_batches_of_one_size(device, make_cache):
    some = extractor(activation_cache=make_cache()).fit(X)
    many = np.concatenate([X, X[::-1] // 2, X // 3])
    device.shrink(16, after=6)
    some.transform(many)
    # Also those that had passed before.
    assert device.sizes.count(32) == 7
    assert device.sizes.count(16) >= len(many) / 16


def test_activations_of_smaller_batches_are_kept_under_another_name(device, tmp_path):
    def transform():
        cache = ActivationCache(path=tmp_path / "cache")
        features = extractor(activation_cache=cache).fit(X).transform(X)
        return features, cache.info().misses

    device.shrink(8)
    short, n_computed = transform()
    assert n_computed == len(X)
    device.shrink(SIZE)
    whole, n_computed = transform()
    assert n_computed == len(X)
    assert device.sizes == [32, 32, 32]
    # A batch that is too large is tried first: what it would be called is there now.
    device.shrink(8)
    again, n_computed = transform()
    assert n_computed == 0
    np.testing.assert_array_equal(again, whole)
    np.testing.assert_allclose(short, whole, rtol=1e-4, atol=1e-5)


def test_a_fit_in_smaller_batches_gives_the_same_with_and_without_a_cache(device):
    device.shrink(8)
    one, other = (
        fit_cached(X, y, cache, head_init="probe").predict_proba(X)
        for cache in (ActivationCache(), None)
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("make", [extractor, scratch, transfer])
def test_where_not_even_one_image_finds_room_the_error_says_what_to_do(device, make):
    fitted = make().fit(X, y)
    if make is not scratch:
        fitted.set_params(activation_cache=None)
    device.shrink(0)
    message = r"one image \(8 x 8 x 3\).*smaller image_size.*device='cpu'.*(many|GET)"
    with pytest.raises(torch.OutOfMemoryError, match=message):
        fitted.transform(X) if make is extractor else fitted.predict(X)


def test_features_that_go_on_from_smaller_batches_have_another_name():
    place = torch.device("cpu"), "float32"
    stages = extractor().fit(X).stages_
    names = []
    for most in (None, 16):
        prefix = Prefix(stages, 2, *place)
        prefix.most_at_once = most
        shorter = ActivationRows(prefix, X, (AS_IT_IS,), ActivationCache())
        names += [LongerPrefix(shorter, 4).namespace(X.shape[1:])]
        names += [prefix.namespace(X.shape[1:])]
        shorter.close()
    assert len(set(names)) == 4


def test_activations_are_renamed_when_those_they_go_on_from_get_smaller(device):
    place = torch.device("cpu"), "float32"
    stages = extractor().fit(X).stages_
    cache = ActivationCache()
    shorter = ActivationRows(Prefix(stages, 2, *place), X, (AS_IT_IS,), cache)
    longer = ActivationRows(LongerPrefix(shorter, 4), X, (AS_IT_IS,), cache)
    before = longer.namespace
    device.shrink(16, after=1)
    longer.ensure_all()
    assert shorter.batch_size == 16
    assert longer.namespace == longer.prefix.namespace(X.shape[1:]) != before
    assert (longer.slots >= 0).all()
