from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from sktransfer import ResNetFeatureExtractor
from tests.helpers import pictures, scratch, transfer

X, y = pictures()


@pytest.fixture
def extractor():
    # What a hook changes must not be kept for others.
    return ResNetFeatureExtractor(
        "mini_resnet18", precision="bfloat16", activation_cache=None
    ).fit(X)


@pytest.mark.parametrize("make", [scratch, transfer])
@pytest.mark.parametrize("method", ["predict_proba", "decision_function"])
def test_weights_that_are_not_finite_are_named_and_nothing_is_returned(make, method):
    clf = make(max_epochs=1).fit(X, y)
    with torch.no_grad():
        clf.net_.module_.get_submodule("head.linear").bias[0] = torch.nan
    message = f"NaN or infinity for {len(X)} of {len(X)} images.*head.linear.bias"
    with pytest.raises(FloatingPointError, match=message):
        getattr(clf, method)(X)


@pytest.mark.parametrize("cache", [None, "auto"])
def test_predictions_in_threads_with_one_estimator_are_those_of_one_thread(cache):
    clf = transfer(activation_cache=cache).fit(X, y)
    sets = [pictures(20 + i, seed=i)[0] for i in range(8)]
    expected = [
        transfer(activation_cache=None).fit(X, y).predict_proba(s) for s in sets
    ]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(clf.predict_proba, sets))
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_image_that_overflows_is_named(extractor):
    with torch.no_grad():
        extractor.stages_.get_submodule("layer1").register_forward_hook(overflow)
    with pytest.raises(FloatingPointError, match=r"1 of 9 .* X\[4\].*precision='float"):
        extractor.transform(np.eye(9, dtype=np.uint8)[4][:, None, None, None] * X[:9])


def overflow(module, inputs, output):
    """Overflow for images that are not black."""
    black = output[:1]
    return torch.where(
        (output != black).flatten(1).any(1)[:, None, None, None], torch.inf, output
    )


@pytest.mark.parametrize("size", [(64, 8), (96, 4)])
def test_features_of_narrow_images_are_those_of_float32(size):
    images = np.random.default_rng(0).integers(0, 256, (4, *size, 3), dtype=np.uint8)
    rounded, exact = (
        ResNetFeatureExtractor(
            "mini_resnet18", image_size=None, precision=precision
        ).fit_transform(images)
        for precision in ("bfloat16", "float32")
    )
    assert np.linalg.norm(rounded - exact) < 0.02 * np.linalg.norm(exact)
