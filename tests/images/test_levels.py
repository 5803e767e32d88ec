import struct
import zlib
from itertools import product

import numpy as np
import pytest
from PIL import Image

from sktransfer._images.levels import find_brightest, guess_white, judge, rescale
from sktransfer._images.pictures.reading import (
    read_and_note,
    read_pictures,
    read_shapes,
)
from sktransfer._images.streams import ahead

# More of 12 bits than 8 bits can hold.
VALUES = np.arange(0, 4096, 3)


@pytest.mark.parametrize(
    ("brightest", "white"),
    [
        (0.01, 0.01),
        (0.9, 1),
        (1, 1),
        (9, 15),
        (16, 255),
        (300, 1023),
        (4000, 4095),
        (70000, 70000),
    ],
)
def test_white_is_guessed_from_the_bits_that_are_used(brightest, white):
    assert guess_white(brightest) == white


@pytest.mark.parametrize(
    ("brightest", "white", "message"),
    [
        (255, 65535, "If 255 is white, pass max_value=255"),
        (1, 255, "If 1 is white, pass max_value=1"),
        (0.003, 1, "pass max_value=0.003"),
    ],
)
def test_images_that_are_all_but_black_are_refused(brightest, white, message):
    with pytest.raises(ValueError, match=f"all but black.*{message}"):
        judge("X", brightest, white)


def test_images_that_use_few_levels_are_warned_about():
    assert "pass max_value=4095" in judge("X", 4090, 65535)
    assert "If 16 is white, multiply by 15.9" in judge(
        "X", 16, 255, "multiply by {factor:.3g}"
    )
    assert judge("X", 4400, 65535) is None
    assert judge("X", 0, 65535) is None


@pytest.mark.parametrize("dtype", ["uint16", ">u2", "int32", "float64"])
def test_white_becomes_1(monkeypatch, dtype):
    monkeypatch.setattr(ahead, "VALUES_AT_A_TIME", 100)  # several parts
    images = VALUES.astype(dtype).reshape(-1, 1, 1, 1)
    scaled = rescale(images, 4095)
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled.ravel(), VALUES / 4095, atol=1e-6)


def test_what_has_no_other_white_is_not_copied():
    bytes_, floats = np.ones((2, 1, 1, 1), np.uint8), np.ones((2, 1, 1, 1))
    assert rescale(bytes_, 4095) is bytes_
    assert rescale(floats, "auto") is floats
    assert rescale(floats, 1) is floats


def test_the_search_for_the_brightest_value_ends_early(monkeypatch):
    monkeypatch.setattr(ahead, "VALUES_AT_A_TIME", 10)
    images = np.arange(100, dtype=np.uint8).reshape(-1, 1, 1, 1)
    assert find_brightest(images, 255) == 99
    assert find_brightest(images, 12) == 19


@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_of_colours_with_16_bits_it_is_known_that_half_are_lost(tmp_path, suffix):
    # Pillow cannot write such files.
    file = tmp_path / f"a.{suffix}"
    write_16_bit_colours(file, np.full((4, 4, 3), 4095, np.uint16))
    images, found = read_and_note([file], (4, 4, 3))
    assert np.all(images == 15)
    assert found.brightest == 15 * 257
    with pytest.raises(ValueError, match=r"only 8 can be read.* max_value=4095"):
        read_pictures([file], (4, 4, 3), max_value=4095)


def write_16_bit_colours(file, pixels):
    """Write a file as cameras and scanners do."""
    height, width, _ = pixels.shape
    if file.suffix == ".png":
        header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
        chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
        file.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(body))
                + kind
                + body
                + struct.pack(">I", zlib.crc32(kind + body))
                for kind, body in chunks
            )
        )
        return
    data = pixels.astype("<u2").tobytes()
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, 8),  # bits: three numbers at offset 8
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 14),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    where = 14 + len(data)
    file.write_bytes(
        struct.pack("<2sHI3H", b"II", 42, where, 16, 16, 16)
        + data
        + struct.pack("<H", len(tags))
        + entries
        + bytes(4)
    )


def deep(values, kind):
    """Make a picture with more than 8 bits."""
    dtype = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[kind]
    image = Image.fromarray(np.atleast_2d(np.asarray(values, dtype)))
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


@pytest.mark.parametrize("max_value", ["auto", 4095])
def test_a_transparent_value_is_no_level(tmp_path, max_value):
    image = deep([[0, 2000, 60000]], "I;16")
    image.save(tmp_path / "a.png", transparency=60000)
    shape = (1, 3, 1)
    images, found = read_and_note([tmp_path / "a.png"], shape, max_value=max_value)
    assert found.brightest == 2000
    assert images.ravel()[2] == 255
