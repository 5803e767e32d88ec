"""What is odd about images is said, once and with the first of them."""

import warnings

import numpy as np
import pytest
from PIL import Image

from tests.helpers import pictures, transfer

X, y = pictures(12)


@pytest.fixture
def files(tmp_path):
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i}.png")
    return [str(tmp_path / f"{i}.png") for i in range(len(X))]


def fit(X):
    return transfer(unfreeze_depth=0).fit(X, y)


def test_frames_are_warned_about_in_fit_and_predict(files):
    frames = [Image.fromarray(image) for image in X[:3]]
    frames[0].save(files[4], format="gif", save_all=True, append_images=frames[1:])
    message = r"1 of 12 pictures hold several frames.* X\[4\], '.*4\.png'"
    with pytest.warns(UserWarning, match=message):
        clf = fit(files)
    message = r"1 of 3 pictures hold several frames.* X\[2\], <PIL\.Gif"
    with (
        Image.open(files[4]) as image,
        pytest.warns(UserWarning, match=message),
    ):
        clf.predict([files[0], files[1], image])


def test_colours_that_a_grey_model_does_not_see_are_warned_about(files):
    grey = [Image.fromarray(image).convert("L") for image in X]
    with warnings.catch_warnings(action="error"):
        clf = fit(grey)
        clf.predict(grey)
    with pytest.warns(UserWarning, match=r"12 of 12 pictures show colours, .* X\[0\]"):
        clf.predict(files)


def test_a_cut_jpeg_is_warned_about(files, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    whole = tmp_path / "whole.jpg"
    Image.fromarray(noise).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:2000] + b"\xff\xd9")
    with pytest.warns(
        UserWarning, match=r"1 of 12 .* uniform grey.*X\[11\], .*cut\.jpg"
    ):
        fit([*files[:11], str(cut)])


def test_rows_with_one_channel_after_the_other_are_warned_about():
    steps = np.random.default_rng(0).normal(size=(12, 3, 16, 16))
    planes = steps.cumsum(2).cumsum(3).astype(np.float32)
    planes = (planes - planes.min()) / np.ptp(planes)
    message = r"pass X\.reshape\(-1, 3, 16, 16\)\.transpose\(0, 2, 3, 1\)"
    with pytest.warns(UserWarning, match=message):
        fit(planes.reshape(12, -1))
    with warnings.catch_warnings(action="error"):
        fit(planes.transpose(0, 2, 3, 1).reshape(12, -1))


def test_images_three_pixels_high_are_warned_about():
    images = np.zeros((12, 3, 16, 3), np.uint8)
    with pytest.warns(UserWarning, match="3 pixels high; if their channels come first"):
        fit(images)


def deep(white, values=X):
    """Make 16-bit arrays and pictures of images, one channel each."""
    levels = np.rint(values[..., 0] / 255 * white).astype(np.uint16)
    return levels, [Image.fromarray(image) for image in levels]


@pytest.mark.parametrize("as_pictures", [False, True])
def test_deep_images_that_use_few_levels_are_said(as_pictures):
    with pytest.raises(ValueError, match=r"all but black\. .* pass max_value=255"):
        fit(deep(255)[as_pictures])
    with pytest.warns(UserWarning, match=r"65535 is white\. .* pass max_value=4095"):
        fit(deep(4095)[as_pictures])
    with warnings.catch_warnings(action="error"):
        clf = fit(deep(65535)[as_pictures])
        clf.predict(deep(255)[as_pictures])  # dark, after bright ones: it may be so


@pytest.mark.parametrize("as_pictures", [False, True])
@pytest.mark.parametrize("white", [255, 4095])
def test_max_value_makes_deep_images_what_they_are_in_8_bits(as_pictures, white):
    images = deep(white)[as_pictures]
    with warnings.catch_warnings(action="error"):
        clf = transfer(unfreeze_depth=0, max_value=white).fit(images, y)
        expected = fit(X[..., :1]).predict_proba(X[..., :1])
        np.testing.assert_allclose(clf.predict_proba(images), expected, atol=1e-3)
        if not as_pictures:
            other_order = images.astype(">u2")
            found = clf.predict_proba(other_order)
            np.testing.assert_array_equal(found, clf.predict_proba(images))


def test_bytes_of_0_and_1_are_refused():
    with pytest.raises(ValueError, match="If 1 is white, multiply X by 255"):
        fit(X // 128)


@pytest.mark.parametrize("max_value", [0, -1, "white", None])
def test_a_wrong_max_value_is_named(max_value):
    with pytest.raises(ValueError, match="max_value"):
        transfer(max_value=max_value).fit(X, y)


def test_a_max_value_that_makes_images_black_is_refused_in_fit_and_said_in_predict():
    unit, levels = X / 255, X.astype(float)
    with pytest.raises(ValueError, match="If 1 is white, pass max_value=1"):
        transfer(unfreeze_depth=0, max_value=255).fit(unit, y)
    clf = transfer(unfreeze_depth=0, max_value=255).fit(levels, y)
    with pytest.warns(UserWarning, match="pass X on the same scale"):
        clf.predict(unit)


def test_the_max_value_of_fit_counts():
    clf = transfer(unfreeze_depth=0, max_value=4095).fit(deep(4095)[0], y)
    expected = clf.predict_proba(deep(4095)[0])
    clf.set_params(max_value="auto")
    np.testing.assert_array_equal(clf.predict_proba(deep(4095)[0]), expected)


def test_negative_values_are_not_taken_for_black():
    decibels = (X / 255 - 1) * 80
    with pytest.warns(UserWarning, match="down to -80, as if it were normalised"):
        fit(decibels)


def test_the_validation_set_is_named():
    with pytest.raises(ValueError, match=r"^X_val: X\[1\] holds the value"):
        transfer().fit(X, y, X_val=X.astype(np.float32) * 1e20, y_val=y)
