from itertools import product

import numpy as np
import pytest
from PIL import Image

from sktransfer._images.levels import guess_white, judge, rescale
from sktransfer._images.pictures.reading import (
    read_and_note,
    read_pictures,
    read_shapes,
)

# More of 12 bits than 8 bits can hold.
VALUES = np.arange(0, 4096, 3)


@pytest.mark.parametrize(
    ("brightest", "white"),
    [(1, 1), (9, 15), (16, 255), (300, 1023), (4000, 4095), (70000, 70000)],
)
def test_white_is_guessed_from_the_bits_that_are_used(brightest, white):
    assert guess_white(brightest) == white


@pytest.mark.parametrize(
    ("brightest", "white", "message"),
    [
        (255, 65535, "pass max_value=255"),
        (1, 255, "multiply them by 255"),
        (0.003, 1, "pass max_value=0.003"),
    ],
)
def test_images_that_are_all_but_black_are_refused(brightest, white, message):
    with pytest.raises(ValueError, match=f"all but black; .*{message}"):
        judge("X", brightest, white)


def test_images_that_use_few_levels_are_warned_about():
    assert "pass max_value=4095" in judge("X", 4090, 65535)
    assert judge("X", 4400, 65535) is None
    assert judge("X", 0, 65535) is None


@pytest.mark.parametrize(
    ("dtype", "result", "white"),
    [
        ("uint16", "uint16", 65535),
        (">u2", "uint16", 65535),
        ("int32", "float32", 1),
        ("float64", "float32", 1),
    ],
)
def test_white_becomes_that_of_the_dtype(dtype, result, white):
    images = VALUES.astype(dtype).reshape(-1, 1, 1, 1)
    images = np.concatenate([images] * 2)  # more than are rescaled at a time
    scaled = rescale(images, 4095)
    assert scaled.dtype == result
    expected = np.tile(VALUES / 4095, 2)
    np.testing.assert_allclose(scaled.ravel() / white, expected, atol=1e-5)


def test_what_has_no_other_white_is_not_copied():
    bytes_, floats = np.ones((2, 1, 1, 1), np.uint8), np.ones((2, 1, 1, 1))
    assert rescale(bytes_, 4095) is bytes_
    assert rescale(floats, "auto") is floats
    assert rescale(floats, 1) is floats


def test_what_is_brighter_than_white_is_named():
    images = np.zeros((600, 1, 1, 1), np.uint16)
    images[500] = 4096
    with pytest.raises(ValueError, match=r"X\[500\] .* 4096, .* max_value=4095"):
        rescale(images, 4095)


def deep(values, kind):
    """Make a picture with more than 8 bits."""
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[kind]
    image = Image.fromarray(np.asarray(values, dtype)[None])
    assert image.mode == kind
    return image


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [*product(["I;16", "I", "F"], [None, "tiff"]), ("I;16", "png")],
)
def test_a_picture_keeps_all_levels_below_its_white(tmp_path, kind, suffix):
    image = deep(VALUES, kind)
    if suffix is not None:
        image.save(tmp_path / "a", format=suffix)
        image = tmp_path / "a"
    shape = read_shapes([image], 4095).common
    assert shape == (1, len(VALUES), 1)
    images, found = read_and_note([image], shape, max_value=4095)
    np.testing.assert_array_equal(images.ravel(), np.rint(VALUES * 255 / 4095))
    assert found.brightest == VALUES.max()


def test_a_picture_that_is_brighter_than_white_is_named():
    image = deep([0, 300], "I;16")
    with pytest.raises(ValueError, match=r"image 1 .* from 0 to 300, .* \[0, 255\]"):
        read_pictures([deep([255, 7], "I;16"), image], (1, 2, 1), max_value=255)


def test_pictures_of_8_bits_have_the_white_of_8_bits():
    image = Image.new("L", (4, 4), 200)
    assert np.all(read_pictures([image], (4, 4, 1), max_value=4095) == 200)
