"""Pictures are read upright, opaque and with 8 bits, or refused by name."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sktransfer._images.pictures import decoding, opening
from sktransfer._images.pictures.reading import (
    read_and_note,
    read_pictures,
    read_shape,
)

RED, WHITE, BLACK = (255, 0, 0), (255, 255, 255), (0, 0, 0)


def saved(folder: Path, name: str, image: Image.Image, **options) -> str:
    path = folder / name
    image.save(path, **options)
    return str(path)


def grey16(values) -> Image.Image:
    return Image.fromarray(np.asarray(values, dtype=np.uint16))


def draw_smooth(width, height):
    """Draw a picture with soft shades, as photographs have."""
    x, y = np.meshgrid(np.linspace(0, 7, width), np.linspace(0, 5, height))
    shades = [np.sin(x + y), np.cos(x * y / 4), np.sin(y - x / 2)]
    return Image.fromarray((127 + 120 * np.stack(shades, 2)).astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + body))
        return struct.pack(">I", len(body)) + kind + body + check

    size = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b"\0"))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + pixels + chunk(b"IEND", b"")


def test_common_shape_is_height_width_channels(tmp_path):
    path = saved(tmp_path, "a.png", Image.new("RGB", (5, 3)))
    assert read_shape([path, Image.new("RGB", (5, 3))]) == (3, 5, 3)


def test_common_shape_of_different_sizes_is_none():
    assert read_shape([Image.new("L", (5, 3)), Image.new("L", (3, 5))]) is None


@pytest.mark.parametrize("mode", ["1", "L", "I", "I;16"])
def test_only_grey_pictures_share_one_channel(mode):
    grey, colour = Image.new(mode, (2, 2)), Image.new("RGB", (2, 2))
    assert read_shape([grey, grey]) == (2, 2, 1)
    assert read_shape([grey, colour]) == (2, 2, 3)


def test_common_shape_decodes_no_pixels(tmp_path):
    (tmp_path / "a.png").write_bytes(png_header(40, 30))
    assert read_shape([tmp_path / "a.png"]) == (30, 40, 3)


@pytest.mark.parametrize(
    "function", [read_shape, lambda p: read_pictures(p, (2, 2, 3))]
)
def test_missing_files_are_counted_and_the_first_five_listed(tmp_path, function):
    there = saved(tmp_path, "a.png", Image.new("L", (2, 2)))
    missing = [str(tmp_path / f"missing{i}.png") for i in range(7)]
    with pytest.raises(FileNotFoundError, match="7 of 8 image files") as caught:
        function([there, *missing])
    assert "missing4.png" in str(caught.value)
    assert "missing5.png" not in str(caught.value)


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"image 0 .* not a regular file"):
        read_shape([tmp_path])


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused_rather_than_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ValueError, match=r"image 0 .*pipe\.png.* not a regular file"):
        read_pictures([tmp_path / "pipe.png"], (2, 2, 3))


def test_a_path_with_a_null_character_is_a_value_error_with_its_index():
    with pytest.raises(ValueError, match=r"image 1 .* could not be read"):
        read_shape([Image.new("L", (2, 2)), "a\0.png"])


@pytest.mark.parametrize(
    "function", [read_shape, lambda p: read_pictures(p, (2, 2, 3))]
)
def test_a_decompression_bomb_is_refused_from_its_header(tmp_path, function):
    (tmp_path / "bomb.png").write_bytes(png_header(15_000, 15_000))
    message = r"15000 = 225,000,000 pixels.* 200,000,000 .*PIL\.Image\.MAX_IMAGE_PIXELS"
    with pytest.raises(ValueError, match=message):
        function([tmp_path / "bomb.png"])


@pytest.mark.parametrize("limit", [300, None])
def test_a_higher_limit_of_pillow_is_kept_to(tmp_path, monkeypatch, limit):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "a.png")
    monkeypatch.setattr(opening, "MAX_PIXELS", 200)
    with pytest.raises(ValueError, match=r"256 pixels.* 200 are allowed"):
        read_shape([tmp_path / "a.png"])
    assert Image.MAX_IMAGE_PIXELS == opening._PILLOWS_OWN
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    assert read_shape([tmp_path / "a.png"]) == (16, 16, 3)
    assert limit == Image.MAX_IMAGE_PIXELS


def test_a_lower_limit_of_pillow_is_kept_to(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    with pytest.raises(ValueError, match=r"256 pixels.* 200 are allowed"):
        read_shape([Image.new("RGB", (16, 16))])


def test_large_jpegs_are_decoded_near_the_size_that_is_needed(tmp_path):
    photograph = draw_smooth(640, 480)
    photograph.save(tmp_path / "a.jpg", quality=95)
    read = read_pictures([tmp_path / "a.jpg"], (48, 64, 3), "squash").astype(int)
    with Image.open(tmp_path / "a.jpg") as image:
        whole = read_pictures([image], (48, 64, 3), "squash")
        assert image.size == (640, 480)  # the user's own stays as it is
    assert 0 < np.abs(read - whole).max() <= 6
    assert np.abs(read - whole).mean() < 0.5


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "1", "L", "I;16"])
def test_very_large_pictures_are_decoded_in_strips(tmp_path, monkeypatch, mode):
    image = draw_smooth(200, 150)
    if mode == "RGBA":
        image.putalpha(draw_smooth(200, 150).convert("L").rotate(180))
    elif mode == "I;16":
        values = np.asarray(image.convert("L")).astype(np.uint16) * 257
        image = Image.fromarray(values)
    else:
        image = image.convert(mode)
    image.save(tmp_path / "a.png")
    whole = read_pictures([tmp_path / "a.png"], (15, 20, 3), "squash").astype(int)
    monkeypatch.setattr(decoding, "LARGE", 1_000)
    monkeypatch.setattr(decoding, "PIXELS_OF_STRIP", 4_000)
    read = read_pictures([tmp_path / "a.png"], (15, 20, 3), "squash")
    assert 0 < np.abs(read - whole).max() <= 6
    assert np.abs(read - whole).mean() < 1.2


def test_an_even_larger_bomb_is_a_value_error_too(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png_header(90_000, 90_000))
    with pytest.raises(ValueError, match=r"image 0 .* could not be read"):
        read_shape([tmp_path / "bomb.png"])


def test_pixels_come_back_unchanged_and_in_order(tmp_path):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (40, 4, 6, 3), dtype=np.uint8)
    pictures = [
        saved(tmp_path, f"{i}.png", Image.fromarray(image))
        if i % 2
        else Image.fromarray(image)
        for i, image in enumerate(images)
    ]
    read = read_pictures(pictures, (4, 6, 3))
    assert read.dtype == np.uint8
    np.testing.assert_array_equal(read, images)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tiff"])
def test_exif_orientation_is_applied(tmp_path, orientation, suffix):
    # With four different quarters, all eight orientations look different.
    upright = np.kron([[0, 80], [160, 240]], np.ones((16, 32))).astype(np.uint8)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored)).convert("RGB")
    path = saved(tmp_path, f"a.{suffix}", image, exif=exif)
    assert read_shape([path]) == (32, 64, 3)
    read = read_pictures([path], (32, 64, 1))[0, ..., 0].astype(int)
    np.testing.assert_allclose(read[8::16, 16::32], upright[8::16, 16::32], atol=6)


def test_a_png_with_its_exif_behind_the_pixels_is_read_as_it_is_stored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    left, right = np.full((32, 32), 80, np.uint8), np.full((32, 32), 160, np.uint8)
    image = Image.fromarray(np.hstack([left, right]))
    path = Path(saved(tmp_path, "a.png", image, exif=exif))
    before, rest = path.read_bytes().split(b"eXIf", 1)
    # A chunk is its length in four bytes, its name, its body and a checksum.
    size = struct.unpack(">I", before[-4:])[0] + 4
    tag, pixels, end = rest[:size], rest[size:-12], rest[-12:]
    path.write_bytes(before[:-4] + pixels + before[-4:] + b"eXIf" + tag + end)
    assert ImageOps.exif_transpose(Image.open(path)).size == (32, 64)
    assert read_shape([path]) == (32, 64, 1)
    assert read_pictures([path], (32, 64, 1))[0, 0, ::32, 0].tolist() == [80, 160]


def test_one_lazy_image_listed_many_times_is_turned_every_time(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = saved(tmp_path, "a.jpg", Image.new("RGB", (64, 32), RED), exif=exif)
    with Image.open(path) as image:
        assert read_shape([image] * 50) == (64, 32, 3)
        assert (
            read_pictures([image] * 50, (64, 32, 3)).min(axis=(1, 2))[:, 0].min() > 250
        )


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "PA"])
def test_transparent_pixels_become_white(mode):
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    image.putpixel((0, 0), (0, 0, 0, 0))
    if mode == "PA":
        palette = Image.new("P", (2, 1))
        palette.putpalette([0, 0, 0])
        palette = palette.convert("PA")
        palette.putalpha(image.getchannel("A"))
        image = palette
    image = image.convert(mode)
    assert read_pictures([image], (1, 2, 3))[0, 0].tolist() == [
        list(WHITE),
        list(BLACK),
    ]


def test_half_transparent_black_becomes_middle_grey():
    image = Image.new("RGBA", (1, 1), (0, 0, 0, 128))
    assert read_pictures([image], (1, 1, 1)).item() == 127


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_the_transparent_colour_of_a_palette_becomes_white(tmp_path, suffix):
    image = Image.new("P", (2, 1))
    image.putpalette([*BLACK, *RED])
    image.putpixel((1, 0), 1)
    path = saved(tmp_path, f"a.{suffix}", image, transparency=0)
    assert read_pictures([path], (1, 2, 3))[0, 0].tolist() == [list(WHITE), list(RED)]


@pytest.mark.parametrize(
    ("image", "transparency"),
    [
        (Image.new("L", (1, 1), 9), 9),
        (Image.new("RGB", (1, 1), (1, 2, 3)), (1, 2, 3)),
        (grey16([[1000]]), 1000),
    ],
    ids=["L", "RGB", "I;16"],
)
def test_the_transparent_colour_of_a_png_becomes_white(tmp_path, image, transparency):
    path = saved(tmp_path, "a.png", image, transparency=transparency)
    assert read_pictures([path], (1, 1, 3)).ravel().tolist() == list(WHITE)


@pytest.mark.parametrize("suffix", ["png", "tiff", "pgm"])
def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path, suffix):
    path = saved(tmp_path, f"a.{suffix}", grey16([[0, 257, 257 * 128, 65535]]))
    assert read_pictures([path], (1, 4, 1)).ravel().tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("value", [-1, 65536])
def test_integers_beyond_sixteen_bits_are_refused(value):
    image = Image.fromarray(np.array([[value]], dtype=np.int32))
    with pytest.raises(ValueError, match=r"image 0 .*\[0, 65535\]"):
        read_pictures([image], (1, 1, 1))


@pytest.mark.parametrize(
    "function", [read_shape, lambda p: read_pictures(p, (2, 2, 1))]
)
def test_float_pictures_are_refused(tmp_path, function):
    path = saved(tmp_path, "a.tiff", Image.new("F", (2, 2), 0.5))
    with pytest.raises(ValueError, match=r"image 0 .*a\.tiff.*mode 'F'"):
        function([path])


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "P", "1"])
def test_other_colour_modes_are_converted(mode):
    image = Image.new("RGB", (2, 2), WHITE).convert(mode)
    assert (read_pictures([image], (2, 2, 3)) == 255).all()


def test_a_cmyk_jpeg_keeps_its_colour(tmp_path):
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    read = read_pictures([saved(tmp_path, "a.jpg", image)], (8, 8, 3))
    np.testing.assert_allclose(read[0, 4, 4].astype(int), RED, atol=4)


def test_another_size_is_scaled_to_cover_and_cropped_at_the_centre():
    wide = np.zeros((4, 12, 3), dtype=np.uint8)
    wide[:, 4:8] = RED
    read = read_pictures([Image.fromarray(wide)], (8, 8, 3))
    assert (read[:, :, 1:7] == RED).all()


def test_scaling_down_averages_rather_than_picks():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    read = read_pictures([Image.fromarray(board.astype(np.uint8))], (8, 8, 1))
    assert np.ptp(read) <= 16
    assert abs(read.mean() - 127.5) < 4


def test_an_extremely_long_picture_is_cropped_without_growing():
    assert read_pictures([Image.new("L", (60_000, 1), 7)], (64, 64, 1)).max() == 7


def test_a_truncated_file_is_named_and_its_cause_kept(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    path = Path(saved(tmp_path, "cut.jpg", Image.fromarray(noise)))
    path.write_bytes(path.read_bytes()[:-200])
    good = Image.new("RGB", (32, 32))
    with pytest.raises(
        ValueError, match=r"image 1 \('.*cut\.jpg'\) could not"
    ) as caught:
        read_pictures([good, path], (32, 32, 3))
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize(
    "content",
    [b"", b"<svg></svg>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n"],
    ids=["empty", "svg", "eps"],
)
def test_other_formats_are_refused_whatever_their_name(tmp_path, content):
    (tmp_path / "a.jpg").write_bytes(content)
    why = "its format is none of JPEG, PNG" if content else "it is empty"
    with pytest.raises(ValueError, match=rf"image 0 .*a\.jpg.* {why}"):
        read_shape([tmp_path / "a.jpg"])


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "bmp", "gif", "tiff", "ppm"])
def test_every_common_format_is_read_from_its_content(tmp_path, suffix):
    path = Path(saved(tmp_path, f"a.{suffix}", Image.new("RGB", (8, 8), WHITE)))
    unnamed = path.rename(tmp_path / "picture")
    assert (read_pictures([unnamed], (8, 8, 3)) >= 250).all()


@pytest.mark.parametrize("channels", [2, 4])
def test_pictures_are_read_as_grey_or_rgb_only(channels):
    with pytest.raises(ValueError, match=r"image_shape=.* 1 \(grey\) or 3 \(RGB\)"):
        read_pictures([Image.new("L", (2, 2))], (2, 2, channels))


def animated(path, suffix, n_frames=3):
    frames = [Image.new("RGB", (8, 8), (80 * i, 0, 0)) for i in range(n_frames)]
    frames[0].save(path, format=suffix, save_all=True, append_images=frames[1:])
    return str(path)


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tiff", "avif"])
def test_files_with_several_frames_are_listed_and_the_first_is_read(tmp_path, suffix):
    one, many = (animated(tmp_path / str(n), suffix, n) for n in (1, 3))
    images, findings = read_and_note([one, many, one], (8, 8, 3))
    assert findings == ([1], [], [], None)
    np.testing.assert_array_equal(images[1], images[0])


def test_the_second_picture_of_a_phone_counts_for_nothing(tmp_path):
    path = animated(tmp_path / "a.jpg", "mpo")
    assert read_and_note([path], (8, 8, 3))[1] == ([], [], [], None)


def test_pictures_that_lose_their_colours_are_listed():
    red, grey = (Image.new("RGB", (64, 64), colour) for colour in (RED, (9, 9, 9)))
    pictures = [grey, red, grey.convert("L"), grey.convert("LA"), red.convert("P")]
    assert read_and_note(pictures, (8, 8, 1))[1].coloured == [1, 4]
    assert read_and_note(pictures, (8, 8, 3))[1].coloured == []


def test_a_jpeg_whose_end_was_replaced_is_listed(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = Path(saved(tmp_path, "a.jpg", Image.fromarray(noise)))
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(path.read_bytes()[:2000] + b"\xff\xd9")
    grey = saved(tmp_path, "grey.png", Image.new("RGB", (64, 64), (128, 128, 128)))
    with_margins = Image.new("RGB", (64, 96), (128, 128, 128))
    with_margins.paste(Image.fromarray(noise), (0, 16))
    wide = saved(tmp_path, "wide.jpg", with_margins)
    assert read_and_note([path, cut, grey, wide], (64, 64, 3))[1].cut_off == [1]


def test_a_picture_that_was_closed_is_read(tmp_path):
    path = animated(tmp_path / "a.gif", "gif")
    with Image.open(path) as image:
        image.load()
    assert read_pictures([image], (8, 8, 3)).shape == (1, 8, 8, 3)


def test_transparent_colours_are_no_colours():
    image = Image.new("RGBA", (64, 64), (255, 0, 0, 0))
    image.paste((9, 9, 9, 255), (0, 0, 32, 64))
    assert read_and_note([image], (8, 8, 1))[1].coloured == []
