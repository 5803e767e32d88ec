"""Images that are not square are cropped, padded or squashed, by one rule for all."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from sktransfer._images.geometry import RESIZE, Box, centre_box, frame_shape
from sktransfer._images.pictures.decoding import resize_picture
from sktransfer._images.pictures.reading import read_pictures, read_shapes
from sktransfer._images.preprocessing import Preprocess, interpolate

CPU = torch.device("cpu")
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
INTERPOLATIONS = ("bilinear", "bicubic")


def photograph(height, width, seed=0):
    """Coloured clouds with some noise, uint8: smooth and rough like a photograph."""
    rng = np.random.default_rng(seed)
    clouds = Image.fromarray(rng.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    pixels = np.asarray(clouds.resize((width, height), Image.Resampling.BICUBIC))
    noise = rng.normal(0, 4, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def seen(images, size, resize, interpolation="bilinear"):
    """What the network sees of images, as pixels on a scale of 255."""
    preprocess = Preprocess((size, size), MEAN, STD, interpolation, resize)
    x = preprocess(torch.as_tensor(images))
    return (255 * (x * preprocess.std + preprocess.mean)).permute(0, 2, 3, 1).numpy()


def channels(values):
    """One number a channel, for images (n, 3, height, width)."""
    return torch.tensor(values).view(1, 3, 1, 1)


def striped(height, width):
    """An image whose columns hold their own number."""
    return np.tile(np.arange(width, dtype=np.uint8), (height, 1))


@pytest.mark.parametrize("size", [(7, 3), (4, 9), (1, 1000), (33, 50)])
@pytest.mark.parametrize("proportions", [(1, 1), (2, 3), (224, 160)])
def test_the_centre_box_is_centred_and_touches_two_sides(size, proportions):
    box = centre_box(size, proportions)
    assert box.height == size[0] or box.width == size[1]
    assert 1 <= box.height <= size[0]
    assert 1 <= box.width <= size[1]
    assert abs(size[0] - box.rows.stop - box.top) <= 1
    assert abs(size[1] - box.columns.stop - box.left) <= 1
    high, wide = proportions
    if box.height == size[0]:
        assert box.width == max(1, round(box.height * wide / high))
    else:
        assert box.height == max(1, round(box.width * high / wide))


def test_proportions_that_fit_leave_all_of_the_image():
    assert centre_box((6, 9), (2, 3)) == Box(0, 0, 6, 9)


def test_the_frame_is_the_square_within_around_or_the_image_itself():
    shapes = [frame_shape((30, 40, 3), resize) for resize in RESIZE]
    assert shapes == [(30, 30, 3), (40, 40, 3), (30, 40, 3)]


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize("size", [(48, 48), (20, 20), (12, 12)])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_square_images_are_resized_alike_by_every_rule(dtype, size, interpolation):
    images = np.stack([photograph(20, 20, seed) for seed in range(3)])
    x = torch.as_tensor(images if dtype == np.uint8 else images.astype(dtype) / 255)
    results = [Preprocess(size, MEAN, STD, interpolation, rule)(x) for rule in RESIZE]
    expected = x.permute(0, 3, 1, 2)
    if size != (20, 20):
        expected = F.interpolate(expected, size, mode=interpolation, antialias=True)
    expected = expected.float() / (255 if dtype == np.uint8 else 1)
    expected = (expected - channels(MEAN)) / channels(STD)
    for result in results:
        assert torch.equal(result, expected)


def test_crop_keeps_the_centre_at_its_scale():
    kept = seen(striped(4, 10)[None, :, :, None].repeat(3, 3), 4, "crop")
    np.testing.assert_allclose(kept[0, :, :, 0], striped(4, 10)[:, 3:7], atol=1e-3)


@pytest.mark.parametrize(("height", "width"), [(4, 10), (10, 4)])
def test_pad_keeps_all_and_fills_with_the_mean(height, width):
    image = photograph(height, width)
    x = Preprocess((10, 10), MEAN, STD, resize="pad")(torch.as_tensor(image)[None])
    if width < height:
        x, image = x.transpose(2, 3), image.transpose(1, 0, 2)
    assert not x[:, :, :3].any()
    assert not x[:, :, 7:].any()
    middle = 255 * (x * channels(STD) + channels(MEAN))[0, :, 3:7].permute(1, 2, 0)
    np.testing.assert_allclose(middle, image, atol=1e-3)


def test_squash_shows_all_columns_and_no_others():
    image = striped(10, 40)[None, :, :, None].repeat(3, 3)
    squashed = seen(image, 10, "squash")[0, :, :, 0]
    np.testing.assert_allclose(squashed[:, 1:-1], [np.arange(5.5, 34, 4)] * 10, atol=1)


@pytest.mark.parametrize("resize", RESIZE)
def test_images_that_keep_their_size_are_not_cut_or_padded(resize):
    image = photograph(6, 11)[None]
    x = Preprocess(None, (0.0,) * 3, (1.0,) * 3, resize=resize)(torch.as_tensor(image))
    assert torch.equal(x, torch.as_tensor(image).permute(0, 3, 1, 2) / 255)


@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("size", [(32, 32), (90, 90), (40, 64)])
def test_pillow_and_torch_resize_alike(resize, interpolation, size):
    image = photograph(61, 80)
    by_pillow = resize_picture(
        Image.fromarray(image), size, resize, interpolation, fill=MEAN
    )
    preprocess = Preprocess(size, (0.0,) * 3, (1.0,) * 3, interpolation, resize)
    by_torch = 255 * preprocess(torch.as_tensor(image)[None])[0].permute(1, 2, 0)
    if resize == "pad":
        mean = np.round(255 * np.array(MEAN))
        is_filled = (by_torch == 0).all(dim=2).numpy()
        assert (by_pillow[is_filled] == mean).all()
        by_pillow = np.where(is_filled[:, :, None], 0, by_pillow)
    np.testing.assert_allclose(by_pillow, by_torch, atol=2)


def test_bicubic_overshoots_are_cut_off_in_uint8_and_kept_in_floats():
    edge = np.zeros((1, 16, 16, 1), np.uint8)
    edge[:, :, 8:] = 255
    preprocess = Preprocess((64, 64), (0.0,), (1.0,), "bicubic")
    integers = preprocess(torch.as_tensor(edge))
    floats = preprocess(torch.as_tensor(edge.astype(np.float32) / 255))
    # As on a GPU, which resizes bytes as floats.
    x = torch.as_tensor(edge).permute(0, 3, 1, 2)
    resized = [interpolate(some, (64, 64), "bicubic", True) for some in (x, x.float())]
    torch.testing.assert_close(resized[0].float(), resized[1], atol=1, rtol=0)
    assert integers.min() == 0
    assert integers.max() == 1
    assert floats.max() > 1.02
    torch.testing.assert_close(floats.clamp(0, 1), integers, atol=1 / 255, rtol=0)


def test_everything_that_changes_numbers_is_in_the_printed_network():
    changes = [{}, {"resize": "crop"}, {"interpolation": "bicubic"}]
    printed = {repr(Preprocess((8, 8), MEAN, STD, **change)) for change in changes}
    assert len(printed) == 3


def test_padding_of_a_grey_picture_is_the_mean_of_the_colours():
    grey = resize_picture(Image.new("L", (4, 2), 7), (4, 4), "pad", fill=MEAN)
    assert grey.tolist() == [[128] * 4, [7] * 4, [7] * 4, [128] * 4]


@pytest.mark.parametrize("resize", RESIZE)
def test_an_extremely_long_picture_is_resized_without_growing(resize):
    read = read_pictures([Image.new("L", (60_000, 1), 7)], (64, 64, 1), resize)
    assert set(np.unique(read)) <= {7, 128}


@pytest.mark.parametrize(("height", "width"), [(300, 400), (256, 341), (400, 260)])
@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
def test_a_picture_read_as_a_file_is_seen_like_the_same_array(
    height, width, size, resize, interpolation
):
    image = photograph(height, width)
    shape = (size, size, 3)
    options = {"interpolation": interpolation, "fill": MEAN}
    read = read_pictures([Image.fromarray(image)], shape, resize, **options)
    from_file = seen(read, size, resize, interpolation)
    np.testing.assert_allclose(
        from_file, seen(image[None], size, resize, interpolation), atol=2.5
    )


def test_the_typical_shape_of_pictures_is_their_median():
    sizes = [(10, 40), (20, 30), (30, 20)]
    found = read_shapes([Image.new("RGB", size) for size in sizes])
    assert found == (None, (30, 20, 3))
    assert read_shapes([Image.new("L", (5, 4))] * 2) == ((4, 5, 1), (4, 5, 1))
