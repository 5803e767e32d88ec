"""One rule for images of any shape: at fit and predict, for files and for arrays."""

import warnings

import numpy as np
import pytest
from PIL import Image
from torch import nn

from sktransfer import (
    Backbone,
    FeatureExtractor,
    ResNetFeatureExtractor,
    ScratchCNNClassifier,
)
from sktransfer._images.geometry import RESIZE
from sktransfer._images.preprocessing import to_batch
from tests.helpers import pictures, scratch, transfer
from tests.images.test_geometry import CPU, photograph

SMALL, LARGE = (40, 60), (300, 400)


def extractor(**params):
    return ResNetFeatureExtractor("mini_resnet18", device="cpu", **params)


def opened(*sizes):
    return [Image.fromarray(photograph(*size, seed)) for seed, size in enumerate(sizes)]


def seen_by(fitted, X):
    """What the network of a fitted estimator sees, as pixels on a scale of 255."""
    images, _ = fitted._check_images(X, reset=False)
    preprocess = fitted.stages_.preprocess
    x = preprocess(to_batch(images, CPU)) * preprocess.std + preprocess.mean
    return 255 * x.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("image_size", [32, 224])
@pytest.mark.parametrize("size", [LARGE, (341, 256)])
def test_a_photograph_is_seen_alike_as_a_file_among_any_others_and_as_an_array(
    tmp_path, resize, image_size, size
):
    image = photograph(*size)
    Image.fromarray(image).save(tmp_path / "a.png")
    files = [str(tmp_path / "a.png")]
    params = {"image_size": image_size, "resize": resize}
    as_array = extractor(**params).fit(image[None])
    wanted = seen_by(as_array, image[None])
    others = [[], opened((500, 310)), opened(size), opened((256, 600), (310, 240))]
    for some in others:
        seen = seen_by(extractor(**params).fit([*some, *files]), files)
        np.testing.assert_allclose(seen, wanted, atol=2.5)
        seen = seen_by(extractor(**params).fit(some or files), files)
        np.testing.assert_allclose(seen, wanted, atol=2.5)


@pytest.mark.parametrize("resize", ["crop", "squash"])
def test_small_files_are_enlarged_on_the_device_exactly_like_arrays(resize):
    image = photograph(*SMALL)
    fitted = [
        extractor(image_size=96, resize=resize).fit(X)
        for X in ([Image.fromarray(image)], image[None])
    ]
    as_file, as_array = (
        seen_by(some, X)
        for some, X in zip(fitted, ([Image.fromarray(image)], image[None]), strict=True)
    )
    np.testing.assert_array_equal(as_file, as_array)


@pytest.mark.parametrize(
    ("sizes", "params", "shape"),
    [
        ([LARGE, LARGE], {"resize": "crop"}, (32, 32, 3)),
        ([LARGE, LARGE], {"resize": "pad"}, (32, 32, 3)),
        ([LARGE, LARGE], {"resize": "squash"}, (32, 32, 3)),
        ([LARGE, SMALL], {"resize": "squash"}, (32, 32, 3)),
        ([SMALL, SMALL], {"resize": "crop", "image_size": 96}, (40, 40, 3)),
        ([SMALL, SMALL], {"resize": "pad", "image_size": 96}, (60, 60, 3)),
        ([SMALL, SMALL], {"resize": "squash", "image_size": 96}, (40, 60, 3)),
        ([SMALL, SMALL], {"resize": "pad", "image_size": 50}, (50, 50, 3)),
        ([SMALL, SMALL], {"image_size": None}, (40, 60, 3)),
        ([LARGE, SMALL], {"image_size": None}, (32, 32, 3)),
        ([LARGE, SMALL], {"image_shape": (10, 20, 1)}, (10, 20, 1)),
    ],
)
def test_files_are_read_as_the_rule_needs_them_and_no_larger(sizes, params, shape):
    params = {"image_size": 32, **params}
    assert extractor(**params).fit(opened(*sizes)).image_shape_ == shape


def test_a_network_that_keeps_the_size_of_images_keeps_that_of_files_too():
    clf = scratch(max_epochs=1).fit(opened(SMALL, SMALL), [0, 1])
    assert clf.image_shape_ == (40, 60, 3)
    assert clf.net_.module_.preprocess.image_size is None


def test_files_of_any_sizes_are_grey_if_all_of_them_are():
    grey = [image.convert("L") for image in opened(SMALL, LARGE)]
    assert extractor(image_size=32).fit(grey).image_shape_ == (32, 32, 1)
    mixed = [*grey, *opened(SMALL)]
    assert extractor(image_size=32).fit(mixed).image_shape_ == (32, 32, 3)


@pytest.mark.parametrize(
    ("resize", "columns"),
    [("crop", range(20, 40)), ("squash", range(1, 60, 3))],
)
def test_images_that_keep_their_size_meet_files_of_another_by_the_same_rule(
    resize, columns
):
    fitted = extractor(image_size=None, resize=resize).fit(opened((20, 20)))
    striped = np.tile(np.arange(60, dtype=np.uint8), (20, 1))
    seen = seen_by(fitted, [Image.fromarray(striped).convert("RGB")])
    np.testing.assert_allclose(seen[0, 10, 1:-1, 0], list(columns)[1:-1], atol=1)


def test_a_rule_that_is_set_after_fit_waits_for_the_next_fit():
    X = opened(LARGE)
    fitted = extractor(image_size=32, resize="crop").fit(X)
    before = fitted.transform(X)
    np.testing.assert_array_equal(
        fitted.set_params(resize="squash").transform(X), before
    )
    assert not np.allclose(fitted.fit(X).transform(X), before)


def test_activations_of_one_rule_are_not_those_of_another():
    X = photograph(*SMALL)[None]
    features = [extractor(resize=resize).fit_transform(X) for resize in RESIZE]
    assert not np.allclose(features[0], features[1])
    assert not np.allclose(features[1], features[2])


@pytest.mark.parametrize("make", [extractor, scratch, transfer])
def test_an_unknown_rule_is_refused(make):
    with pytest.raises(ValueError, match=r"'resize' parameter of .*'crop'.*'stretch'"):
        make(resize="stretch").fit(*pictures(12))


def test_training_does_not_go_on_under_another_rule():
    X, y = pictures(12)
    clf = scratch(warm_start=True, resize="crop").fit(X, y).set_params(resize="pad")
    with pytest.raises(ValueError, match="but resize changed since"):
        clf.fit(X, y)


def test_a_scratch_network_sees_the_square_that_the_rule_makes():
    X, y = np.stack([photograph(20, 90, seed) for seed in range(4)]), [0, 1, 0, 1]
    clf = scratch(max_epochs=1, resize="crop").fit(X, y)
    preprocess = clf.net_.module_.preprocess
    assert (preprocess.image_size, preprocess.resize) == ((20, 20), "crop")


def make_tiny():
    return nn.Sequential(nn.Conv2d(3, 4, 3))


TINY = Backbone(
    "tiny",
    make_tiny,
    {"stem": ["0"]},
    image_size=48,
    mean=(0.9, 0.5, 0.1),
    interpolation="bicubic",
)


@pytest.mark.parametrize("resize", RESIZE)
def test_interpolation_and_padding_of_a_backbone_hold_for_files_and_arrays(resize):
    X = photograph(60, 80)[None]
    params = {"weights": None, "device": "cpu", "resize": resize, "random_state": 0}
    as_array = FeatureExtractor(TINY, **params).fit(X)
    as_files = FeatureExtractor(TINY, **params).fit([Image.fromarray(X[0])])
    assert as_array.stages_.preprocess.interpolation == "bicubic"
    seen = seen_by(as_files, [Image.fromarray(X[0])])
    np.testing.assert_allclose(seen, seen_by(as_array, X), atol=2)


@pytest.mark.parametrize(("resize", "side"), [("crop", 128), ("pad", 288)])
def test_files_and_arrays_choose_the_same_network_size_by_what_is_seen(resize, side):
    X = photograph(90, 200)[None]
    for some in (X, [Image.fromarray(X[0])], opened((90, 200))):
        fitted = ResNetFeatureExtractor(
            "resnet18", weights=None, device="cpu", resize=resize
        ).fit(some)
        assert fitted.stages_.preprocess.image_size == (side, side)


LOST = r"X holds images of 400 x 300 pixels, but backbone='mini_resnet18' sees 32 x 32"


@pytest.mark.parametrize(
    "X",
    [
        np.zeros((3, *LARGE, 3), np.uint8),
        opened(LARGE, LARGE),
        opened(SMALL, LARGE, (301, 402)),
    ],
    ids=["array", "files of one size", "files of several sizes"],
)
def test_images_far_larger_than_the_network_sees_are_warned_of_once(X):
    with pytest.warns(UserWarning, match=LOST) as caught:
        fitted = extractor().fit(X)
    assert len(caught) == 1
    assert "'efficientnet_lite0' sees 288 x 288" in str(caught[0].message)
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fitted.transform(X)


def test_a_fit_with_validation_images_warns_once():
    X, y = np.zeros((4, *LARGE, 3), np.uint8), [0, 1, 0, 1]
    clf = transfer(image_size="auto", max_epochs=1, unfreeze_depth=0)
    with pytest.warns(UserWarning, match=LOST) as caught:
        clf.fit(X, y, X_val=X, y_val=y)
    assert len(caught) == 1


@pytest.mark.parametrize(
    ("estimator", "size"),
    [
        (extractor(), (127, 500)),
        (extractor(image_size=32), LARGE),
        (extractor(image_size=None), SMALL),
        (ResNetFeatureExtractor("resnet18", weights=None, device="cpu"), (1000, 1200)),
        (scratch(max_epochs=1), LARGE),
    ],
)
def test_a_size_that_is_normal_or_asked_for_is_not_warned_of(estimator, size):
    X = np.stack([photograph(*size, seed) for seed in range(2)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.fit(X, [0, 1])


def test_the_parameter_is_told_by_every_estimator():
    for estimator in (extractor(), scratch(), transfer(), ScratchCNNClassifier()):
        assert estimator.get_params()["resize"] in RESIZE


@pytest.mark.parametrize("resize", ["crop", "pad", "squash"])
@pytest.mark.parametrize("n_channels", [1, 3])
def test_arrays_are_seen_as_the_files_that_fit_was_given(resize, n_channels):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 60, 40, n_channels), dtype=np.uint8)
    pictures = [Image.fromarray(np.squeeze(image)) for image in images]
    fitted = extractor(image_size=32, resize=resize).fit(pictures)
    expected = fitted.transform(pictures)
    np.testing.assert_array_equal(fitted.transform(images), expected)
    if n_channels == 1:
        np.testing.assert_array_equal(fitted.transform(images[..., 0]), expected)
