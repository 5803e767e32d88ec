"""Shape and scale of images are found, or refused with the value received."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sktransfer._images.shapes import (
    array_shape,
    find_range,
    looks_channels_first,
    row_shape,
    scale_of,
)


@pytest.mark.parametrize(
    ("n_features", "image_shape", "expected"),
    [
        (64, None, (8, 8, 1)),
        (3072, None, (32, 32, 3)),
        (1, None, (1, 1, 1)),
        (3, None, (1, 1, 3)),
        (24, (2, 4, 3), (2, 4, 3)),
        (24, (-1, 4, 3), (2, 4, 3)),
        (24, (2, 4, -1), (2, 4, 3)),
        (24, [2, np.int64(4), 3], (2, 4, 3)),
    ],
)
def test_rows_get_their_image_shape(n_features, image_shape, expected):
    assert row_shape(n_features, image_shape) == expected


@pytest.mark.parametrize("n_features", [0, 2, 10, 3071])
def test_rows_that_are_not_a_square_image_need_a_shape(n_features):
    with pytest.raises(ValueError, match=f"image_shape=None .*n_features={n_features}"):
        row_shape(n_features, None)


def test_the_suggested_shape_fits():
    with pytest.raises(ValueError, match=r"image_shape=\(3, 7, 1\)"):
        row_shape(3 * 7, None)


@pytest.mark.parametrize(
    "image_shape",
    [
        (2, 4, 4),
        (-1, 5, 3),
        (-1, -1, 3),
        (0, 4, 3),
        (-2, 4, 3),
        (2.0, 4, 3),
        (True, 8, 3),
        (6, 4),
        24,
        "abc",
        (100, 100, -1),
    ],
)
def test_a_wrong_image_shape_is_named_with_its_value(image_shape):
    with pytest.raises(ValueError, match=re.escape(f"image_shape={image_shape!r}")):
        row_shape(24, image_shape)


@pytest.mark.parametrize(
    ("shape", "image_shape", "expected"),
    [
        ((5, 48), None, (4, 4, 3)),
        ((5, 24), (2, 4, 3), (2, 4, 3)),
        ((5, 8, 6), None, (8, 6, 1)),
        ((5, 8, 6), (8, -1, 1), (8, 6, 1)),
        ((5, 8, 6, 3), None, (8, 6, 3)),
        ((5, 8, 6, 4), (8, 6, -1), (8, 6, 4)),
        ((5, 8, 6, 12), None, (8, 6, 12)),
    ],
)
def test_arrays_give_their_image_shape(shape, image_shape, expected):
    assert array_shape(shape, image_shape) == expected


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_first_arrays_are_recognised(channels):
    with pytest.raises(ValueError, match=r"channels-first.*transpose\(0, 2, 3, 1\)"):
        array_shape((5, channels, 32, 32), None)


@pytest.mark.parametrize(
    "shape", [(), (5,), (5, 0, 4), (5, 4, 0, 3), (5, 4, 4, 0), (5, 2, 2, 2, 3)]
)
def test_arrays_that_hold_no_images_are_refused(shape):
    with pytest.raises(ValueError, match="X must have shape") as caught:
        array_shape(shape, None)
    assert str(shape) in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "image_shape"), [((5, 8, 6), (8, 6, 3)), ((5, 8, 6, 3), (6, 8, -1))]
)
def test_an_image_shape_that_contradicts_the_array_is_refused(shape, image_shape):
    with pytest.raises(ValueError, match=r"image_shape=.* contradicts X"):
        array_shape(shape, image_shape)


@pytest.mark.parametrize(
    ("dtype", "scale"),
    [
        (np.uint8, 255.0),
        ("uint16", 65535.0),
        (">u2", 65535.0),
        (np.float32, 1.0),
        (np.int64, 1.0),
        (bool, 1.0),
    ],
)
def test_scale_is_decided_by_dtype(dtype, scale):
    assert scale_of(dtype) == scale


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (np.full((3, 2, 2, 1), 255, np.uint8), 1),
        (np.full((3, 2, 2, 1), 65535, np.uint16), 1),
        (np.full((3, 2, 2, 1), 255, np.int64), 255),
        (np.full((2500, 2, 2, 1), 0.5, np.float32), 0.5),
        (np.zeros((0, 2, 2, 1)), 1),
    ],
)
def test_the_highest_value_is_found_in_units_of_full_brightness(images, expected):
    assert find_range(images)[1] == expected


def test_the_lowest_value_is_found():
    assert find_range(np.array([[[[-2.0]]], [[[1.0]]]])) == (-2, 1)


def test_every_image_counts_for_the_range():
    images = np.zeros((3001, 2, 2, 1), np.float32)
    images[1234] = 200
    assert find_range(images) == (0, 200)


@pytest.mark.parametrize("value", [1e38, -1e38])
def test_a_value_that_no_image_has_is_an_error(value):
    images = np.zeros((9, 2, 2, 1), np.float32)
    images[5, 1, 0] = value
    with pytest.raises(ValueError, match=r"X\[5\] holds the value -?1e\+38"):
        find_range(images)


def smooth(n, height, width, n_channels=3):
    """Make images whose neighbouring pixels are alike."""
    rng = np.random.default_rng(0)
    steps = rng.normal(size=(n, height, width, n_channels)).cumsum(1).cumsum(2)
    return (128 + 3 * steps).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("shape", [(8, 8), (32, 32), (30, 40)])
@pytest.mark.parametrize("is_grey", [False, True])
def test_channels_that_come_first_are_noticed_in_rows(shape, is_grey):
    images = smooth(50, *shape)
    if is_grey:
        images[:] = images[..., :1]
    assert not looks_channels_first(images)
    planes = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    assert looks_channels_first(planes.reshape(images.shape))


@pytest.mark.parametrize("shape", [(32, 32, 3), (6, 6, 3), (32, 32, 1)])
def test_of_noise_and_tiny_or_grey_images_nothing_is_said(shape):
    images = np.random.default_rng(0).integers(0, 256, (50, *shape), dtype=np.uint8)
    assert not looks_channels_first(images)
    assert not looks_channels_first(np.zeros((5, *shape), np.uint8))
