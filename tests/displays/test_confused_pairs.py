"""The most confused pairs, alone and beside the confusion matrix."""

import sys
from itertools import pairwise
from operator import attrgetter

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.patches import Rectangle
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import FixedThresholdClassifier

from sktransfer import (
    ConfusedPair,
    ConfusedPairsDisplay,
    ScratchCNNClassifier,
    most_confused,
)
from sktransfer._displays.drawing.captions import WRONG_COLOR
from tests.helpers import CountingNet

# Before matplotlib 3.11 the extents of text are rounded to whole pixels.
is_rounded = tuple(map(int, matplotlib.__version__.split(".")[:2])) < (3, 11)
ROUNDING = 0.5 if is_rounded else 0

CLASSES = ["bird", "cat", "dog"]
Y_TRUE = np.array(["cat"] * 5 + ["dog"] * 3 + ["bird"] * 2)
Y_PRED = np.array(["dog"] * 3 + ["cat"] * 2 + ["cat"] + ["dog"] * 2 + ["bird", "cat"])
# How sure the classifier is of each prediction; the position is the brightness.
SURE = np.array([0.5, 0.9, 0.7, 0.8, 0.6, 0.5, 0.9, 0.9, 0.9, 0.6])
X = np.stack([np.full((8, 8), i, np.uint8) for i in range(10)])


def proba_of(y_pred, sure, classes):
    """Probabilities of which the greatest is `sure`, at the prediction."""
    rest = (1 - np.asarray(sure)) / (len(classes) - 1)
    proba = np.repeat(rest[:, None], len(classes), axis=1)
    proba[np.arange(len(y_pred)), np.searchsorted(classes, y_pred)] = sure
    return proba


PROBA = proba_of(Y_PRED, SURE, CLASSES)


def many_classes(n, names=None):
    """A display of n classes, of which each third is taken for the next."""
    y_true = np.repeat(np.arange(n), 3)
    y_pred = np.where(np.arange(3 * n) % 3 == 0, (y_true + 1) % n, y_true)
    proba = proba_of(y_pred, np.full(3 * n, 0.6), np.arange(n))
    images = np.zeros((3 * n, 8, 8), np.uint8)
    return ConfusedPairsDisplay.from_predictions(
        images, y_true, proba, display_labels=names
    )


def row_titles(display):
    return [
        text.get_text()
        for ax in display.figure_.axes
        for text in ax.texts
        if " taken for " in text.get_text()
    ]


def counts_written(display):
    return [t.get_text() for t in display.matrix_ax_.texts if not hasattr(t, "xy")]


def test_the_most_frequent_confusion_comes_first():
    assert most_confused(Y_TRUE, Y_PRED) == [
        ConfusedPair("cat", "dog", 3),
        ConfusedPair("bird", "cat", 1),
        ConfusedPair("dog", "cat", 1),
    ]


def test_pairs_hold_plain_labels_and_counts():
    (pair,) = most_confused(Y_TRUE, Y_PRED, n_pairs=1)
    assert [type(value) for value in pair] == [str, str, int]
    assert (pair.true, pair.predicted, pair.count) == ("cat", "dog", 3)


def test_pairs_of_one_count_follow_the_order_of_the_labels():
    pairs = most_confused(Y_TRUE, Y_PRED, labels=["dog", "cat", "bird"])
    assert [pair[:2] for pair in pairs[1:]] == [("dog", "cat"), ("bird", "cat")]


def test_only_the_labels_asked_for_are_looked_at():
    pairs = most_confused(Y_TRUE, Y_PRED, labels=["bird", "cat"])
    assert pairs == [ConfusedPair("bird", "cat", 1)]


def test_a_least_count_leaves_rare_pairs_out():
    assert len(most_confused(Y_TRUE, Y_PRED, min_count=2)) == 1


def test_where_all_is_right_nothing_is_confused():
    assert most_confused([0, 1, 1], [0, 1, 1]) == []


@pytest.mark.parametrize("name", ["n_pairs", "min_count"])
def test_counts_of_pairs_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} == 0, must be >= 1"):
        most_confused(Y_TRUE, Y_PRED, **{name: 0})


def test_predictions_of_another_length_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        most_confused(Y_TRUE, Y_PRED[:4])


def test_the_matrix_and_the_pairs_are_those_of_scikit_learn_and_most_confused():
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA)
    np.testing.assert_array_equal(
        display.confusion_matrix, confusion_matrix(Y_TRUE, Y_PRED)
    )
    assert display.pairs == most_confused(Y_TRUE, Y_PRED)
    (drawn,) = display.matrix_ax_.images
    np.testing.assert_array_equal(drawn.get_array(), display.confusion_matrix)


def test_each_pair_is_named_above_its_images():
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA, n_pairs=2)
    assert row_titles(display) == [
        "1. cat taken for dog: 3",
        "2. bird taken for cat: 1",
    ]


def test_the_images_of_a_pair_are_those_confused_the_surest_first():
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA, n_images=2)
    assert [rows.tolist() for rows in display.indices] == [[1, 2], [9], [5]]
    shown = [panel for panel in display.axes_[0] if panel.images]
    drawn = [panel.images[0].get_array()[0, 0] * 255 for panel in shown]
    np.testing.assert_allclose(drawn, [1, 2])
    assert [panel.get_title() for panel in shown] == ["90 %", "70 %"]


def test_the_pairs_are_outlined_and_numbered_in_the_matrix():
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA)
    outlines = [p for p in display.matrix_ax_.patches if isinstance(p, Rectangle)]
    assert [p.get_xy() for p in outlines] == [(1.5, 0.5), (0.5, -0.5), (0.5, 1.5)]
    assert {to_hex(p.get_edgecolor()) for p in outlines} == {WRONG_COLOR.lower()}
    numbers = [t.get_text() for t in display.matrix_ax_.texts if hasattr(t, "xy")]
    assert numbers == ["1", "2", "3"]


def test_axes_say_which_side_is_true():
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA)
    ax = display.matrix_ax_
    assert (ax.get_ylabel(), ax.get_xlabel()) == ("True label", "Predicted label")
    assert [t.get_text() for t in ax.get_xticklabels()] == CLASSES
    assert ax.get_title() == "10 images, accuracy 50.0 %"


@pytest.mark.parametrize(("n", "n_written"), [(2, 4), (20, 400), (21, 0), (100, 0)])
def test_counts_are_written_up_to_twenty_classes(n, n_written):
    assert len(counts_written(many_classes(n))) == n_written


def test_beyond_twenty_classes_a_colour_bar_stands_in_for_the_counts():
    assert any(ax.get_ylabel() == "Images" for ax in many_classes(30).figure_.axes)
    assert not any(ax.get_ylabel() == "Images" for ax in many_classes(10).figure_.axes)


def overlaps(labels, low, high):
    """How much each name overlaps the next, as a share of its own extent."""
    extents = sorted((label.get_window_extent() for label in labels), key=low)
    return max((high(a) - low(b)) / (high(a) - low(a)) for a, b in pairwise(extents))


@pytest.mark.parametrize("n", [2, 10, 20, 40, 41, 60, 61, 100])
def test_names_of_classes_do_not_overlap(n):
    display = many_classes(n, [f"a rather long name of class {i}" for i in range(n)])
    display.figure_.canvas.draw()
    ax = display.matrix_ax_
    # A little of each extent is empty.
    across, along = attrgetter("x0"), attrgetter("x1")
    assert overlaps(ax.get_xticklabels(), across, along) < 0.25
    across, along = attrgetter("y0"), attrgetter("y1")
    assert overlaps(ax.get_yticklabels(), across, along) < 0.25


@pytest.mark.parametrize(("n", "step"), [(60, 1), (61, 2), (80, 2), (81, 3), (100, 3)])
def test_of_more_than_sixty_classes_every_second_or_third_is_named(n, step):
    ax = many_classes(n).matrix_ax_
    expected = list(range(0, n, step))
    assert ax.get_xticks().tolist() == ax.get_yticks().tolist() == expected
    assert [t.get_text() for t in ax.get_yticklabels()] == [str(i) for i in expected]


def test_of_many_classes_those_confused_are_named_above_their_images():
    display = many_classes(100, [f"number {i}" for i in range(100)])
    pair = display.pairs[1]
    assert row_titles(display)[1] == (
        f"2. number {pair.true} taken for number {pair.predicted}: {pair.count}"
    )


def test_without_confusions_the_matrix_stands_alone_and_says_so():
    display = ConfusedPairsDisplay.from_predictions(
        X[:3], CLASSES, np.eye(3), classes=CLASSES
    )
    assert display.pairs == []
    assert display.axes_.shape == (0, 0)
    title = display.matrix_ax_.get_title()
    assert title == "3 images, accuracy 100.0 %\nNo confusions."
    assert not row_titles(display)


def test_a_class_without_images_keeps_its_row():
    display = ConfusedPairsDisplay.from_predictions(
        X[:2], ["cat", "cat"], PROBA[:2], classes=CLASSES
    )
    assert display.confusion_matrix.tolist() == [[0, 0, 0], [0, 0, 2], [0, 0, 0]]


def test_dark_cells_have_light_numbers():
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA)
    color = {t.get_text(): to_hex(t.get_color()) for t in display.matrix_ax_.texts}
    assert color["3"] == "#b84e00"
    numbers = {t.get_position(): t for t in display.matrix_ax_.texts}
    assert to_hex(numbers[2, 1].get_color()) == "#ffffff"
    assert to_hex(numbers[0, 0].get_color()) == "#000000"


def test_an_estimator_predicts_once():
    clf = CountingNet(PROBA).fit(X, Y_TRUE)
    display = ConfusedPairsDisplay.from_estimator(clf, X, Y_TRUE)
    assert clf.n_calls_ == 1
    display.plot()
    assert clf.n_calls_ == 1
    other = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA)
    assert display.pairs == other.pairs
    assert row_titles(display) == row_titles(other)


def test_display_labels_name_classes_and_pairs():
    display = ConfusedPairsDisplay.from_predictions(
        X, Y_TRUE, PROBA, display_labels=["Aves", "Felis", "$\\Canis$"]
    )
    display.figure_.canvas.draw()
    assert row_titles(display)[0] == "1. Felis taken for $\\Canis$: 3"
    labels = [t.get_text() for t in display.matrix_ax_.get_yticklabels()]
    assert labels == ["Aves", "Felis", "$\\Canis$"]
    assert display.pairs[0].true == "cat"


def test_plot_returns_the_display_and_takes_other_axes_and_colours():
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA)
    figure, ax = plt.subplots(figsize=(10, 5))
    assert display.plot(ax, cmap="Greys") is display
    assert display.ax_ is ax
    assert display.figure_ is figure
    assert display.matrix_ax_.images[0].get_cmap().name == "Greys"


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_drawn_again_in_the_same_axes_nothing_of_the_first_stays(layout):
    figure, (ax, _) = plt.subplots(1, 2, layout=layout)
    n = 25
    display = many_classes(n)
    display.plot(ax)
    n_axes = len(figure.axes)
    display.plot(ax)
    figure.canvas.draw()
    assert len(figure.axes) == n_axes
    assert len(row_titles(display)) == len(display.pairs)


def test_colours_and_image_options_are_passed_on():
    options = {"cmap": "Greys", "im_kw": {"cmap": "viridis"}}
    for display in (
        ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA, **options),
        ConfusedPairsDisplay.from_estimator(
            CountingNet(PROBA).fit(X, Y_TRUE), X, Y_TRUE, **options
        ),
    ):
        assert display.matrix_ax_.images[0].get_cmap().name == "Greys"
        assert display.axes_[0, 0].images[0].get_cmap().name == "viridis"


def test_given_predictions_fill_the_matrix():
    display = ConfusedPairsDisplay.from_predictions(
        X, Y_TRUE, PROBA, y_pred=["cat"] * 10
    )
    assert display.confusion_matrix.tolist() == [[0, 2, 0], [0, 5, 0], [0, 3, 0]]
    assert display.pairs[0] == ConfusedPair("dog", "cat", 3)
    np.testing.assert_allclose(display.confidences[0], [0.5, 0.05, 0.05])


def test_a_threshold_counts_in_the_matrix():
    rows, y = X.reshape(10, -1), np.arange(10) // 5
    clf = FixedThresholdClassifier(LogisticRegression(), threshold=1.1).fit(rows, y)
    display = ConfusedPairsDisplay.from_estimator(clf, rows, y)
    assert display.confusion_matrix.tolist() == [[5, 0], [5, 0]]


def test_rows_of_pixels_take_an_image_shape_beside_an_estimator():
    rows = np.zeros((10, 6), np.uint8)
    display = ConfusedPairsDisplay.from_estimator(
        CountingNet(PROBA).fit(rows, Y_TRUE), rows, Y_TRUE, image_shape=(2, 3, 1)
    )
    assert display.images[0][0].shape == (2, 3)


def test_one_wrong_prediction_of_thousands_is_no_hundred_percent():
    proba = np.tile([0.9, 0.1], (3000, 1))
    y_true = np.arange(3000) == 7
    display = ConfusedPairsDisplay.from_predictions(
        np.zeros((3000, 2, 2)), y_true, proba
    )
    assert display.matrix_ax_.get_title() == "3000 images, accuracy > 99.9 %"


def test_one_class_has_no_confusions():
    display = ConfusedPairsDisplay.from_predictions(X[:2], [3, 3], [[1.0], [1.0]])
    assert display.confusion_matrix.tolist() == [[2]]
    assert display.pairs == []


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_rows_of_images_do_not_run_into_their_names(layout):
    figure, ax = plt.subplots(figsize=(11, 5), layout=layout)
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA, ax=ax)
    figure.canvas.draw()
    names = [t for a in figure.axes for t in a.texts if " taken for " in t.get_text()]
    for number, name in enumerate(names):
        extent = name.get_window_extent()
        assert display.axes_[number, 0].get_tightbbox().y1 <= extent.y0 + ROUNDING
        if number:
            assert extent.y1 <= display.axes_[number - 1, 0].get_tightbbox().y0


def test_the_constructor_only_stores():
    display = ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA)
    stored = {name: v for name, v in vars(display).items() if not name.endswith("_")}
    again = ConfusedPairsDisplay(**stored)
    assert vars(again) == stored
    assert row_titles(again.plot()) == row_titles(display)


def test_an_unfitted_estimator_is_refused():
    with pytest.raises(NotFittedError):
        ConfusedPairsDisplay.from_estimator(ScratchCNNClassifier(), X, Y_TRUE)


@pytest.mark.parametrize("name", ["n_pairs", "n_images"])
def test_counts_below_one_are_refused(name):
    for value in (0, -2):
        with pytest.raises(ValueError, match=f"{name} == {value}, must be >= 1"):
            ConfusedPairsDisplay.from_predictions(X, Y_TRUE, PROBA, **{name: value})


@pytest.mark.parametrize(
    ("y_true", "y_proba", "message"),
    [
        (Y_TRUE[:4], PROBA, "inconsistent numbers of samples"),
        (np.where(Y_TRUE == "cat", "owl", Y_TRUE), PROBA, r"not in classes: \['owl'\]"),
        (Y_TRUE, PROBA[:, :2], "2 columns, but there are 3 classes"),
        (Y_TRUE, np.where(PROBA == 0.8, np.nan, PROBA), "y_proba contains NaN"),
    ],
)
def test_what_does_not_agree_is_refused(y_true, y_proba, message):
    with pytest.raises(ValueError, match=message):
        ConfusedPairsDisplay.from_predictions(X, y_true, y_proba, classes=CLASSES)


def test_missing_matplotlib_is_reported_before_predicting(monkeypatch):
    clf = CountingNet(PROBA).fit(X, Y_TRUE)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(
        ImportError, match=r"Display.from_estimator requires matplotlib"
    ):
        ConfusedPairsDisplay.from_estimator(clf, X, Y_TRUE)
    assert clf.n_calls_ == 0
