"""A few views of every image, drawn once."""

import numpy as np
import pytest
import torch
from sklearn.base import clone

from sktransfer import ActivationCache, DrawnViews
from sktransfer._images.augmentation import apply_views
from sktransfer._images.views import AS_IT_IS, MIRRORED, View, list_views
from tests.helpers import epoch, pictures, transfer


def test_views_differ_begin_with_the_image_and_depend_on_the_seed_alone():
    views = DrawnViews(12).views(64, 64)
    assert views[0] == AS_IT_IS
    assert len(set(views)) == len(views) == 12
    assert views == DrawnViews(12).views(64, 64)
    assert views != DrawnViews(12, random_state=1).views(64, 64)
    assert all(abs(v.down) <= 4 and abs(v.right) <= 4 for v in views)
    assert {v.is_mirrored for v in views} == {True, False}
    assert not any(v.is_mirrored for v in DrawnViews(12, mirror=False).views(64, 64))


def test_finite_views_of_the_named_augmentations():
    assert list_views(None, 8, 8) == (AS_IT_IS,)
    assert list_views("flip", 8, 8) == (AS_IT_IS, MIRRORED)
    assert list_views("flip_crop", 8, 8) is None
    assert list_views("advanced", 8, 8) is None
    assert list_views(None, 8, 8, is_mixed=True) is None
    assert list_views(lambda batch: batch, 8, 8) is None


def test_a_view_shifts_and_mirrors_with_a_reflected_border():
    row = torch.arange(5.0).reshape(1, 1, 5, 1)
    images = row.expand(4, 5, 5, 1)
    views = (AS_IT_IS, View(right=2), MIRRORED, View(0, -1, True))
    shown = apply_views(images, views, np.arange(4))[:, 0, :, 0]
    assert shown.tolist() == [
        [0, 1, 2, 3, 4],
        [2, 3, 4, 3, 2],
        [4, 3, 2, 1, 0],
        [3, 2, 1, 0, 1],
    ]
    down = apply_views(images.transpose(1, 2), (View(down=2),), np.zeros(4, int))
    assert down[0, :, 0, 0].tolist() == [2, 3, 4, 3, 2]


def test_training_sees_the_drawn_views_and_no_other():
    images = torch.randint(0, 256, (64, 8, 8, 3), dtype=torch.uint8)
    augment = DrawnViews(4)
    views = augment.views(8, 8)
    known = [apply_views(images, views, np.full(64, i)) for i in range(len(views))]
    seen = set()
    got = epoch(images, augment)
    for i, image in enumerate(got):
        seen |= {v for v, of_view in enumerate(known) if torch.equal(image, of_view[i])}
        assert any(torch.equal(image, of_view[i]) for of_view in known)
    assert seen == set(range(len(views)))


def test_drawn_views_are_computed_once_each_and_may_be_cloned_and_searched():
    X, y = pictures(20)
    cache = ActivationCache()
    clf = transfer(
        activation_cache=cache, unfreeze_depth=0, augment=DrawnViews(3), max_epochs=30
    )
    clone(clf).fit(X, y)
    clone(clf).fit(X, y)
    assert cache.info().misses == 60
    assert clone(clf).augment == DrawnViews(3)


@pytest.mark.parametrize("n_views", [0, 1.5, "many"])
def test_a_wrong_number_of_views_is_refused(n_views):
    with pytest.raises(ValueError, match=f"n_views={n_views!r} of DrawnViews"):
        transfer(augment=DrawnViews(n_views)).fit(*pictures(12))
