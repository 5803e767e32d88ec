import numpy as np
import pytest
import torch

from sktransfer._images import variation
from sktransfer._images.variation import (
    CHANGES,
    CROP_AREA,
    CROP_SHAPE,
    ERASE_CHANCE,
    Variation,
    check_brightness,
    draw_variation,
    vary,
)
from tests.helpers import epoch, pictures, scratch, seeded, transfer


def photographs(n=24, height=12, width=16, channels=3):
    """Smooth bright images in which no pixel equals its neighbours."""
    rows, cols = np.mgrid[:height, :width]
    x = 40 + 7 * rows[..., None] + 3 * cols[..., None] + 20 * np.arange(channels)
    return torch.from_numpy(np.repeat(x[None], n, 0).astype(np.uint8))


def as_it_is(n=1, change="nothing", strength=1.0):
    """A variation that keeps all pixels in place, and changes colours if asked."""
    return Variation(
        torch.eye(2, 3).repeat(n, 1, 1),
        torch.full((n,), list(CHANGES).index(change)),
        torch.full((n,), strength),
        torch.zeros(n, 4),
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("shape", [(12, 16, 3), (5, 1, 3), (1, 1, 1), (9, 9, 2)])
def test_shape_dtype_and_range_remain(shape, dtype):
    x = photographs(40, *shape)
    x = x if dtype == torch.uint8 else x / 255
    y = vary(x, draw_variation(*x.shape[:3], seeded()))
    assert y.shape == x.shape
    assert y.dtype == dtype
    assert y.min() >= 0
    assert y.max() <= (255 if dtype == torch.uint8 else 1)


def test_equal_images_become_different_ones():
    y = epoch(photographs(24), "advanced")
    assert len({image.numpy().tobytes() for image in y}) > 22


def test_the_seed_alone_decides_and_global_chance_is_left_alone():
    x, before = photographs(), torch.get_rng_state()
    first, second = (epoch(x, "advanced", seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, epoch(x, "advanced", seed=4))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_image_may_stay_exactly_as_it_is():
    x = photographs(5)
    assert torch.equal(vary(x, as_it_is(5)), x)


def test_each_image_of_a_batch_gets_its_own_change(monkeypatch):
    x = photographs(48)
    drawn = draw_variation(48, 12, 16, seeded())
    monkeypatch.setattr(variation, "AT_ONCE", 48)
    together = vary(x, drawn)
    for i in range(48):
        alone = vary(x[i : i + 1], Variation(*(part[i : i + 1] for part in drawn)))
        # Sums over several images may be rounded differently.
        assert (together[i].int() - alone[0].int()).abs().max() <= 1


def test_a_crop_is_resized_to_the_whole():
    drawn = as_it_is()
    # The left half, and of it the lower half.
    drawn.affine[0] = torch.tensor([[0.5, 0, -0.5], [0, 0.5, 0.5]])
    x = torch.zeros(1, 8, 8, 1, dtype=torch.uint8)
    x[0, 4:, :4] = 200
    assert vary(x, drawn)[0, 2:, :6].min() == 200


def test_crops_keep_to_their_limits_and_half_of_them_are_mirrored():
    drawn = draw_variation(4000, 32, 32, seeded())
    still = drawn.change == list(CHANGES).index("nothing")
    width, height = drawn.affine[still, 0, 0], drawn.affine[still, 1, 1]
    area, shape = width.abs() * height, width.abs() / height
    assert area.max() <= CROP_AREA[1] + 1e-6
    # A crop that would be longer than the image is cut.
    assert area.min() > CROP_AREA[0] - 1e-6
    assert shape.min() > CROP_SHAPE[0] - 1e-6
    assert shape.max() < CROP_SHAPE[1] + 1e-6
    for size, middle in ((width.abs(), 0), (height, 1)):
        assert (drawn.affine[still, middle, 2].abs() + size).max() <= 1 + 1e-6
    assert 0.35 < (width < 0).float().mean() < 0.65


def test_a_rotation_keeps_right_angles_in_images_that_are_not_square():
    drawn = draw_variation(2000, 32, 64, seeded())
    turned = drawn.change == list(CHANGES).index("rotate")
    assert turned.sum() > 50
    # In pixels; the crop that follows only makes the rows longer or shorter.
    rows = drawn.affine[turned, :, :2] * torch.tensor([[1, 2], [0.5, 1]])
    assert len(rows[:, 0, 1].unique()) == len(rows)
    assert (rows[:, 0] * rows[:, 1]).sum(1).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("change", "strength", "wanted"),
    [
        ("brightness", -1.0, [50, 75]),
        ("brightness", 1.0, [150, 225]),
        ("contrast", -1.0, [112, 138]),
        ("contrast", 1.0, [88, 162]),
        ("sharpness", -1.0, [125, 125]),
        ("posterize", 1.0, [96, 144]),
        ("posterize", 0.0, [100, 150]),
        ("solarize", 1.0, [100, 105]),
        ("solarize", 0.1, [100, 150]),
        ("stretch", 0.0, [0, 255]),
    ],
)
def test_what_the_changes_of_brightness_do(change, strength, wanted):
    x = torch.tensor([100, 150], dtype=torch.uint8).view(1, 1, 2, 1)
    y = vary(x, as_it_is(1, change, strength)).flatten().int()
    assert (y - torch.tensor(wanted)).abs().max() <= 1


def test_saturation_moves_channels_towards_their_mean_or_away():
    x = torch.tensor([50, 100, 150], dtype=torch.uint8).view(1, 1, 1, 3)
    pale, colourful = (
        vary(x, as_it_is(1, "saturation", s)).flatten().tolist() for s in (-1.0, 1.0)
    )
    assert pale == [75, 100, 125]
    assert colourful == [25, 100, 175]


def test_equalizing_uses_the_whole_range():
    y = vary(photographs(1, 20, 20), as_it_is(1, "equalize"))
    assert y.amin((1, 2)).max() == 0
    assert y.amax((1, 2)).min() == 255


def test_a_box_is_filled_with_the_mean_of_its_image():
    drawn = as_it_is(2)
    drawn.erased[1] = torch.tensor([0, 0.5, 0.5, 1])
    x = photographs(2, 4, 4, 1)
    y = vary(x, drawn)
    assert torch.equal(y[0], x[0])
    assert torch.equal(y[1, 2:], x[1, 2:])
    assert torch.equal(y[1, :, :2], x[1, :, :2])
    mean = x[1].float().mean().round().to(torch.uint8)
    assert (y[1, :2, 2:] == mean).all()


def test_one_image_in_ten_is_erased_in_part():
    erased = draw_variation(4000, 8, 8, seeded()).erased
    assert erased.any(1).float().mean() == pytest.approx(ERASE_CHANCE, abs=0.02)
    assert erased.min() >= 0
    assert erased.max() <= 1


@pytest.mark.parametrize("make", [transfer, scratch])
def test_a_fit_is_repeatable_and_differs_from_one_that_only_mirrors(make):
    X, y = pictures(24)
    before = torch.get_rng_state()
    first, second = (make(augment="advanced").fit(X, y) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), before)
    assert first.history_[0]["train_loss"] == second.history_[0]["train_loss"]
    np.testing.assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    plain = make(augment="flip").fit(X, y)
    assert plain.history_[0]["train_loss"] != first.history_[0]["train_loss"]


def test_images_on_another_scale_are_refused_with_what_to_pass_instead():
    X, y = pictures(12)
    clf = scratch(augment="advanced")
    with pytest.raises(ValueError, match=r"augment='advanced' .* values from -2 to"):
        clf.fit(X / 64 - 2, y)
    check_brightness(X / 255)
    check_brightness(X)
