"""Which images count, how much, and on which side of the split."""

import numpy as np
import pandas
import pytest

from sktransfer._estimators.targets import split_rows, weigh_images
from tests.helpers import pictures, scratch


def test_weights_are_one_on_average_over_the_images_that_count():
    weights, _ = weigh_images([0, 1, 2, 3], None, np.array([0, 0, 1, 1]))
    np.testing.assert_allclose(weights, [0, 0.5, 1, 1.5])
    assert weights.dtype == np.float32


def test_class_weights_multiply_sample_weights():
    weights, _ = weigh_images([1, 1, 2], {"a": 1, "b": 3}, np.array(["a", "b", "b"]))
    np.testing.assert_allclose(weights, np.array([1, 3, 6]) / (10 / 3), rtol=1e-6)


def test_balanced_classes_weigh_the_same():
    y = np.repeat([0, 1], [30, 10])
    weights, _ = weigh_images(None, "balanced", y)
    assert weights[y == 0].sum() == pytest.approx(weights[y == 1].sum())


@pytest.mark.parametrize(("n", "is_split"), [(9_999, False), (10_000, True)])
def test_auto_sets_images_aside_from_ten_thousand_on(n, is_split):
    labels = np.arange(n) % 2
    train, valid = split_rows(labels, np.ones(n), "auto", 0.1, 0)
    assert (valid is not None) == is_split
    assert len(train) == (9_000 if is_split else n)


def test_both_sides_are_disjoint_stratified_and_without_images_of_weight_zero():
    labels = np.repeat([0, 1], [80, 40])
    weights = np.ones(120)
    weights[::4] = 0
    train, valid = split_rows(labels, weights, True, 0.2, 0)
    assert not set(train) & set(valid)
    assert sorted([*train, *valid]) == np.flatnonzero(weights).tolist()
    assert np.bincount(labels[valid]).tolist() == [12, 6]


def test_balancing_counts_weights_so_that_zero_leaves_an_image_out():
    y = np.repeat([0, 1], [20, 22])
    sample_weight = np.r_[np.ones(22), np.zeros(20)]
    zeros, by_class = weigh_images(sample_weight, "balanced", y)
    removed, by_class_removed = weigh_images(None, "balanced", y[:22])
    np.testing.assert_allclose(zeros[:22], removed)
    np.testing.assert_allclose(by_class, by_class_removed)
    assert not zeros[22:].any()


def test_a_class_of_weight_zero_counts_for_nothing():
    y = np.repeat([0, 1, 2], 4)
    weights, by_class = weigh_images(np.repeat([1, 1, 0], 4), "balanced", y)
    assert np.isfinite(weights).all()
    assert by_class.tolist() == [1, 1, 0]


@pytest.mark.parametrize("missing", [None, float("nan"), pandas.NA])
def test_missing_labels_among_others_are_named(missing):
    X, y = pictures()
    labels = [*y[:7], missing, *y[8:]]
    for some in (labels, np.array(labels, object), pandas.Series(labels, dtype=object)):
        with pytest.raises(ValueError, match=r"y\[7\] is missing .*leave out"):
            scratch().fit(X, some)
        with pytest.raises(ValueError, match=r"y_val\[7\] is missing"):
            scratch().fit(X, y, X_val=X, y_val=some)


@pytest.mark.parametrize("make", [iter, set, dict.fromkeys])
def test_labels_that_cannot_be_indexed_are_refused_with_the_conversion(make):
    X, y = pictures()
    with pytest.raises(TypeError, match=r"y is a .*; pass a list, such as list\(y\)"):
        scratch().fit(X, make(list(y)))
