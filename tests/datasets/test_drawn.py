"""Drawn shapes: one per image, balanced, repeatable, and visible."""

import numpy as np
import pytest

from sktransfer import datasets


def test_shapes_are_colour_images_with_their_names_as_labels():
    shapes = datasets.make_shapes(9, image_size=16, n_classes=3, random_state=0)
    assert shapes.data.shape == (9, 16, 16, 3)
    assert shapes.data.dtype == np.uint8
    assert shapes.target.dtype.kind == "U"
    assert shapes.target_names == ["circle", "square", "triangle"]
    assert "9 drawn images of 3" in shapes.DESCR
    X, y = datasets.make_shapes(
        9, image_size=16, n_classes=3, random_state=0, return_X_y=True
    )
    assert np.array_equal(X, shapes.data)
    assert np.array_equal(y, shapes.target)


@pytest.mark.parametrize("n_classes", [2, 8])
def test_class_sizes_differ_by_at_most_one_image(n_classes):
    y = datasets.make_shapes(n_classes * 2 + 1, n_classes=n_classes).target
    names, counts = np.unique(y, return_counts=True)
    assert len(names) == n_classes
    assert sorted(counts) == [2] * (n_classes - 1) + [3]


def test_the_same_seed_draws_the_same_shapes_and_another_seed_others():
    first, same, other = (datasets.make_shapes(20, random_state=s) for s in (0, 0, 1))
    assert np.array_equal(first.data, same.data)
    assert first.target.tolist() == same.target.tolist()
    assert not np.array_equal(first.data, other.data)
    assert first.target.tolist() != other.target.tolist()


def test_a_shape_without_noise_is_one_colour_whole_inside_its_background():
    X, y = datasets.make_shapes(
        64, n_classes=8, noise=0, random_state=0, return_X_y=True
    )
    for image, name in zip(X.astype(int), y, strict=True):
        background = image[0, 0]
        covered = np.any(image != background, axis=2)
        # Wholly covered pixels differ by a quarter of full brightness everywhere.
        colours = np.unique(image[covered], axis=0, return_counts=True)
        shape = colours[0][colours[1].argmax()]
        assert np.all(np.abs(shape - background) >= 64), name
        assert 0.02 < covered.mean() < 0.7, name


def test_a_ring_has_a_hole_and_a_circle_has_none():
    X, y = datasets.make_shapes(
        40, image_size=64, n_classes=5, noise=0, random_state=0, return_X_y=True
    )
    for image, name in zip(X, y, strict=True):
        rows, columns = np.nonzero(np.any(image != image[0, 0], axis=2))
        middle = image[round(rows.mean()), round(columns.mean())]
        assert np.array_equal(middle, image[0, 0]) == (name == "ring")


def test_noise_is_a_share_of_full_brightness():
    X = datasets.make_shapes(200, noise=0.05, random_state=0).data
    corners = X[:, 0, 0].astype(float) - X[:, 0, 1]
    # Of two pixels of the same background; a few clip, or touch the shape.
    assert np.median(np.abs(corners)) == pytest.approx(
        0.6745 * 2**0.5 * 0.05 * 255, rel=0.15
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 3}, "n_samples=3 must be at least n_classes=4"),
        ({"n_samples": 0}, "'n_samples' parameter of make_shapes"),
        ({"image_size": 7}, "'image_size' parameter of make_shapes"),
        ({"image_size": 16.0}, "'image_size' parameter of make_shapes"),
        ({"n_classes": 1}, r"n_classes.*range \[2, 8\]. Got 1"),
        ({"n_classes": 9}, r"n_classes.*range \[2, 8\]. Got 9"),
        ({"noise": -0.1}, "'noise' parameter of make_shapes"),
        ({"noise": 1.1}, "'noise' parameter of make_shapes"),
        ({"random_state": "seed"}, "'random_state' parameter of make_shapes"),
    ],
)
def test_shapes_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        datasets.make_shapes(**options)
