import numpy as np
import pytest
import torch

from sktransfer._images.augmentation import (
    Placement,
    apply_views,
    call_augment,
    draw_placement,
    place,
)
from sktransfer._images.views import AS_IT_IS, MIRRORED, View
from tests.helpers import epoch, seeded


def images(n=64, height=8, width=8):
    x = torch.arange(n * height * width * 3) % 251
    return x.reshape(n, height, width, 3).to(torch.uint8)


def test_none_changes_nothing():
    assert torch.equal(epoch(images(), None), images())


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    x = images()
    flipped = epoch(x, "flip")
    same = [torch.equal(a, b) for a, b in zip(flipped, x, strict=True)]
    mirrored = [torch.equal(a, b.flip(1)) for a, b in zip(flipped, x, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 16 < sum(mirrored) < 48


def test_the_same_seed_gives_the_same_images():
    x = images()
    first, second = (epoch(x, "flip_crop", seed=3) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, epoch(x, "flip_crop", seed=4))


@pytest.mark.parametrize("shape", [(8, 8), (1, 5), (1, 1), (32, 16)])
def test_flip_crop_keeps_shape_and_dtype_and_invents_no_pixels(shape):
    x = images(6, *shape)
    y = epoch(x, "flip_crop")
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert set(y[0].flatten().tolist()) <= set(x[0].flatten().tolist())


def test_an_image_is_shifted_with_its_border_reflected_and_then_mirrored():
    x = torch.arange(5).view(1, 1, 5, 1)
    where = Placement(torch.tensor([0]), torch.tensor([2]), torch.tensor([False]))
    assert place(x, where).flatten().tolist() == [2, 3, 4, 3, 2]
    where = where._replace(right=torch.tensor([-1]))
    assert place(x, where).flatten().tolist() == [1, 0, 1, 2, 3]
    where = where._replace(is_mirrored=torch.tensor([True]))
    assert place(x, where).flatten().tolist() == [3, 2, 1, 0, 1]


def test_shifts_are_drawn_up_to_their_limit_in_both_directions():
    drawn = draw_placement(2000, 32, 16, True, seeded())
    assert drawn.down.unique().tolist() == [-2, -1, 0, 1, 2]
    assert drawn.right.unique().tolist() == [-1, 0, 1]


def test_every_image_can_have_a_view_of_its_own():
    x = images(3)
    views = (AS_IT_IS, MIRRORED, View(down=1))
    shown = apply_views(x, views, np.array([2, 0, 1]))
    assert torch.equal(shown[0, :-1], x[0, 1:])
    assert torch.equal(shown[1], x[1])
    assert torch.equal(shown[2], x[2].flip(1))


def test_a_callable_gets_the_batch():
    assert call_augment(lambda x: x + 1, images())[0, 0, 0, 0] == 1
