"""On a GPU, results are those of a CPU, of another batch, and of float32, nearly."""

import numpy as np
import pytest
import torch

from sktransfer import ActivationCache, FeatureExtractor, TransferClassifier
from tests.helpers import pictures, scratch, transfer

pytestmark = pytest.mark.cuda

X, Y = pictures(90)
MORE, LABELS = pictures(300, seed=1)

# Rounding of float32 in sums of another order. Probabilities after a fit differ more:
# steps of training add up what rounding does.
SUMS, FITS = 1e-5, 1e-3
# Rounding of bfloat16, which has eight bits.
EIGHT_BITS = 0.05


@pytest.mark.parametrize("depth", [0, 1, 2])
def test_cached_activations_train_as_computed_ones_do(device, depth):
    def fit(cache):
        return transfer(
            device=device, unfreeze_depth=depth, activation_cache=cache
        ).fit(X, Y)

    caches = None, ActivationCache(), ActivationCache()
    without, cached, again = (fit(cache).predict_proba(MORE) for cache in caches)
    np.testing.assert_allclose(cached, without, rtol=0, atol=FITS)
    np.testing.assert_allclose(cached, again, rtol=0, atol=FITS)


def test_activations_from_a_folder_are_those_that_were_computed(device, tmp_path):
    def encode():
        cache = ActivationCache(path=tmp_path)
        extractor = FeatureExtractor(
            "mini_resnet18", device=device, activation_cache=cache
        )
        return extractor.fit_transform(MORE), cache.info()

    (first, _), (second, info) = encode(), encode()
    assert info.misses == 0
    assert np.array_equal(first, second)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_features_depend_on_their_image_alone(device, precision):
    extractor = FeatureExtractor(
        "mini_resnet18", device=device, precision=precision, activation_cache=None
    ).fit(X)
    whole = extractor.transform(MORE)
    parts = [extractor.transform(some) for some in np.split(MORE, [1, 8, 100])]
    scale = np.abs(whole).max()
    np.testing.assert_allclose(np.concatenate(parts), whole, rtol=0, atol=SUMS * scale)


def test_features_of_the_default_backbone_are_those_of_a_cpu(device):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 96, 96, 3), dtype=np.uint8)
    features = [
        FeatureExtractor(
            image_size=96, device=where, precision="float32", activation_cache=None
        ).fit_transform(images)
        for where in ("cpu", device)
    ]
    scale = np.abs(features[0]).max()
    np.testing.assert_allclose(features[1], features[0], rtol=0, atol=1e-3 * scale)


@pytest.mark.parametrize("make", [transfer, scratch])
def test_a_fit_is_that_of_a_cpu_nearly(device, make):
    on_cpu, here = (
        make(device=where, max_epochs=6).fit(X, Y) for where in ("cpu", device)
    )
    assert here.device_ == device
    assert here.score(MORE, LABELS) > 0.95
    assert here.n_iter_ == on_cpu.n_iter_


def test_bfloat16_is_chosen_and_predicts_what_float32_does(device):
    clf = transfer(device=device, precision="auto", max_epochs=4).fit(X, Y)
    expected = "bfloat16" if device == "cuda" else clf.precision_
    assert clf.precision_ == expected
    exact = transfer(device=device, precision="float32", max_epochs=4).fit(X, Y)
    half, whole = (each.predict_proba(MORE) for each in (clf, exact))
    assert half.dtype == np.float32
    np.testing.assert_allclose(half, whole, rtol=0, atol=EIGHT_BITS)


def test_a_compiled_fit_is_the_same_nearly(device):
    plain, compiled = (
        scratch(device=device, compile=choice).fit(X, Y).predict_proba(MORE)
        for choice in (False, True)
    )
    np.testing.assert_allclose(compiled, plain, rtol=0, atol=0.01)


def test_a_backbone_with_every_stage_open_learns(device):
    clf = TransferClassifier(
        "resnet18",
        weights=None,
        head_init="random",
        unfreeze_schedule="immediate",
        lr=1e-3,
        image_size=64,
        device=device,
        random_state=0,
    ).fit(X, Y)
    assert clf.score(MORE, LABELS) > 0.9


def test_the_same_seed_gives_the_same_scratch_network_nearly(device):
    first, again = (
        scratch(device=device).fit(X, Y).predict_proba(MORE) for _ in range(2)
    )
    np.testing.assert_allclose(again, first, rtol=0, atol=FITS)


def test_the_global_random_state_of_the_device_stays(device):
    generator = torch.cuda if device == "cuda" else torch
    before = generator.get_rng_state()
    scratch(device=device).fit(X, Y)
    assert torch.equal(generator.get_rng_state(), before)
