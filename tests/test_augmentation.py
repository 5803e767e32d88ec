import pytest
import torch

from sktransfer._augmentation import augment_batch


def images(n=64, height=8, width=8):
    x = torch.arange(n * height * width * 3) % 251
    return x.reshape(n, height, width, 3).to(torch.uint8)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_none_changes_nothing():
    x = images()
    assert augment_batch(x, None, seeded()) is x


def test_flip_mirrors_about_half_of_the_images_left_to_right():
    x = images()
    flipped = augment_batch(x, "flip", seeded())
    same = [torch.equal(a, b) for a, b in zip(flipped, x, strict=True)]
    mirrored = [torch.equal(a, b.flip(1)) for a, b in zip(flipped, x, strict=True)]
    assert all(a != b for a, b in zip(same, mirrored, strict=True))
    assert 16 < sum(mirrored) < 48


def test_the_same_seed_gives_the_same_images():
    x = images()
    first, second = (augment_batch(x, "flip_crop", seeded(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment_batch(x, "flip_crop", seeded(4)))


@pytest.mark.parametrize("shape", [(8, 8), (1, 5), (1, 1), (32, 16)])
def test_flip_crop_keeps_shape_and_dtype_and_invents_no_pixels(shape):
    x = images(6, *shape)
    y = augment_batch(x, "flip_crop", seeded())
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert set(y[0].flatten().tolist()) <= set(x[0].flatten().tolist())


def test_a_callable_gets_the_batch():
    assert augment_batch(images(), lambda x: x + 1, seeded())[0, 0, 0, 0] == 1
