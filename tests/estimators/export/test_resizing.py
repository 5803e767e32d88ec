"""What an exported network sees is what predictions see, bit for bit."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sktransfer._estimators.export.program import Prepare, ShowViews
from sktransfer._estimators.export.resizing import Resize
from sktransfer._images.augmentation import apply_views
from sktransfer._images.geometry import RESIZE
from sktransfer._images.preprocessing import Preprocess, interpolate
from sktransfer._images.views import tta_views

INTERPOLATIONS = ("bilinear", "bicubic")
# Enlarged, made smaller, both at once, one side alone, and many times smaller, where
# whole numbers of float32 would not do without their low bits.
SIZES = [
    ((8, 8), (32, 32)),
    ((48, 61), (32, 29)),
    ((20, 90), (32, 64)),
    ((40, 33), (40, 16)),
    ((40, 33), (16, 33)),
    ((1, 9), (32, 32)),
    ((900, 700), (40, 64)),
]


def images(height, width, n_channels=3, n=3):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, height, width, n_channels), dtype=np.uint8)
    pixels[0] = (pixels[0] > 127) * 255  # overshoots if bicubic
    return torch.from_numpy(pixels)


@pytest.mark.parametrize("n_channels", [1, 3, 5])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("own", "size"), SIZES)
def test_bytes_are_resized_to_the_levels_of_torch(own, size, interpolation, n_channels):
    x = images(*own, n_channels).permute(0, 3, 1, 2)
    expected = F.interpolate(x, size, mode=interpolation, antialias=True)
    resized = Resize(own, size, interpolation, in_bytes=True)(x.float())
    assert torch.equal(resized, expected.float())


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize(("own", "size"), SIZES)
def test_floats_are_resized_as_on_a_gpu(own, size, interpolation):
    # Up to rounding: a hundredth of a level is 1/25,500.
    x = images(*own).permute(0, 3, 1, 2).float()
    expected = interpolate(x, size, interpolation, in_bytes=True)
    resized = Resize(own, size, interpolation, in_bytes=False)(x)
    torch.testing.assert_close(resized, expected, rtol=0, atol=0.01)


@pytest.mark.parametrize("n_channels", [1, 3])
@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("resize", RESIZE)
@pytest.mark.parametrize("image_size", [None, (24, 24), (24, 40)])
def test_images_are_prepared_bit_for_bit(image_size, resize, interpolation, n_channels):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    preprocess = Preprocess(image_size, mean, std, interpolation, resize)
    for height, width in ((24, 24), (30, 50), (50, 17)):
        x = images(height, width, n_channels)
        prepare = Prepare(preprocess, tuple(x.shape[1:]), in_bytes=True)
        assert torch.equal(prepare(x), preprocess(x))


@pytest.mark.parametrize("tta", ["flip", "flip_shift"])
def test_every_view_of_all_images_comes_after_the_one_before(tta):
    x = images(40, 70)
    views = tta_views(tta, 40, 70).views
    shown = ShowViews(views, (40, 70, 3))(x).chunk(len(views))
    for some, view in zip(shown, views, strict=True):
        assert torch.equal(some, apply_views(x, (view,), np.zeros(3, np.int64)))
