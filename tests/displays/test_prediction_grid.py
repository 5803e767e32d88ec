"""PredictionGridDisplay and TopLossesDisplay: which images they show, and how."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from PIL import Image
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import FixedThresholdClassifier

from sktransfer import (
    PredictionGridDisplay,
    ScratchCNNClassifier,
    TopLossesDisplay,
)
from sktransfer._displays.drawing.captions import WRONG_COLOR, WRONG_MARK
from tests.helpers import CountingNet

DISPLAYS = [PredictionGridDisplay, TopLossesDisplay]
# Wrong are the images 1 (by little), 3 (surely) and 5.
Y = np.array(["cat", "cat", "dog", "dog", "dog", "cat"])
PROBA = np.array(
    [[0.9, 0.1], [0.45, 0.55], [0.48, 0.52], [0.99, 0.01], [0.2, 0.8], [0.3, 0.7]]
)
# The position of an image is its brightness.
X = np.stack([np.full((8, 8), i, np.uint8) for i in range(6)])


def titles(display):
    return [panel.get_title() for panel in display.axes_.ravel() if panel.images]


def is_framed(panel):
    return all(spine.get_visible() for spine in panel.spines.values())


def test_a_caption_has_the_truth_the_prediction_and_its_probability():
    display = PredictionGridDisplay.from_predictions(X, Y, PROBA)
    assert titles(display)[0] == "True: cat\nPrediction: cat\n90 %"
    assert titles(display)[3] == f"True: dog\nPrediction: cat\n{WRONG_MARK} 99 %"


def test_wrong_predictions_alone_are_framed_and_coloured():
    display = PredictionGridDisplay.from_predictions(X, Y, PROBA)
    panels = display.axes_.ravel()
    assert [is_framed(panel) for panel in panels] == [0, 1, 0, 1, 0, 1]
    assert to_hex(panels[1].title.get_color()) == WRONG_COLOR.lower()
    assert to_hex(panels[1].spines["left"].get_edgecolor()) == WRONG_COLOR.lower()
    assert to_hex(panels[0].title.get_color()) == "#000000"


def test_the_images_drawn_are_those_of_the_indices():
    display = PredictionGridDisplay.from_predictions(X, Y, PROBA, show="wrong")
    drawn = [panel.images[0].get_array() for panel in display.axes_.ravel()]
    np.testing.assert_allclose([a[0, 0] * 255 for a in drawn], display.indices)
    assert display.indices.tolist() == [1, 3, 5]


def test_the_most_confident_wrong_ones_come_first():
    display = PredictionGridDisplay.from_predictions(
        X, Y, PROBA, show="most_confident_wrong", n_images=2
    )
    assert display.indices.tolist() == [3, 5]
    np.testing.assert_allclose(display.confidences, [0.99, 0.7])


def test_the_least_sure_have_the_smallest_margin():
    proba = np.array([[0.4, 0.3, 0.3], [0.5, 0.45, 0.05], [0.98, 0.01, 0.01]])
    display = PredictionGridDisplay.from_predictions(
        X[:3], [0, 1, 2], proba, show="least_sure"
    )
    assert display.indices.tolist() == [1, 0, 2]


def test_what_is_drawn_at_random_repeats_and_follows_the_seed():
    def drawn(seed):
        many = np.resize(X, (100, 8, 8))
        y, proba = np.resize(Y, 100), np.resize(PROBA, (100, 2))
        display = PredictionGridDisplay.from_predictions(
            many, y, proba, n_images=10, random_state=seed
        )
        return display.indices.tolist()

    assert drawn(None) == drawn(None) == drawn(0)
    assert drawn(1) != drawn(0)
    assert len(set(drawn(1))) == 10


def test_drawing_at_random_leaves_the_global_state_alone():
    before = str(np.random.get_state())  # noqa: NPY002
    PredictionGridDisplay.from_predictions(X, Y, PROBA, n_images=2)
    assert str(np.random.get_state()) == before  # noqa: NPY002


def test_more_images_asked_for_than_there_are_shows_all_in_order():
    display = PredictionGridDisplay.from_predictions(X, Y, PROBA, n_images=1000)
    assert display.indices.tolist() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("options", "title"),
    [
        ({"n_images": 2}, "2 of 6 images, drawn at random; accuracy 50.0 %"),
        ({}, "All 6 images; accuracy 50.0 %"),
        (
            {"show": "wrong", "n_images": 2},
            "2 of 3 wrong predictions among 6 images, drawn at random; accuracy 50.0 %",
        ),
        (
            {"show": "most_confident_wrong"},
            "All 3 wrong predictions among 6 images, the most confident first; "
            "accuracy 50.0 %",
        ),
        (
            {"show": "least_sure", "n_images": 1},
            "1 of 6 images, the least sure first; accuracy 50.0 %",
        ),
    ],
)
def test_the_title_says_which_images_are_shown(options, title):
    display = PredictionGridDisplay.from_predictions(X, Y, PROBA, **options)
    assert display.figure_._suptitle.get_text().replace("\n", " ") == title


def test_one_wrong_prediction_is_said_in_the_singular():
    display = PredictionGridDisplay.from_predictions(
        X[:3], Y[:3], PROBA[:3], show="wrong"
    )
    assert display.title == "One wrong prediction among 3 images; accuracy 66.7 %"


@pytest.mark.parametrize("show", ["wrong", "most_confident_wrong"])
def test_without_wrong_predictions_the_figure_says_so(show):
    right = PROBA[[0, 4]]
    display = PredictionGridDisplay.from_predictions(
        X[:2], ["cat", "dog"], right, show=show
    )
    (text,) = display.ax_.texts
    assert text.get_text() == "No wrong predictions among 2 images."
    assert display.axes_.shape == (0, 0)
    assert display.images == []


def test_the_highest_losses_come_first():
    display = TopLossesDisplay.from_predictions(X, Y, PROBA, n_images=3)
    assert display.indices.tolist() == [3, 5, 1]
    np.testing.assert_allclose(display.losses, -np.log([0.01, 0.3, 0.45]))
    np.testing.assert_allclose(display.true_proba, [0.01, 0.3, 0.45])


def test_a_top_loss_has_truth_prediction_loss_and_the_true_probability():
    display = TopLossesDisplay.from_predictions(X, Y, PROBA)
    assert titles(display)[0] == (
        f"True: dog\nPrediction: cat\n{WRONG_MARK} loss 4.61\ntrue: 1 %"
    )
    assert titles(display)[3] == "True: dog\nPrediction: dog\nloss 0.65\ntrue: 52 %"
    assert not is_framed(display.axes_.ravel()[3])


def test_the_title_of_top_losses_has_the_mean_loss_and_the_accuracy():
    display = TopLossesDisplay.from_predictions(X, Y, PROBA, n_images=2)
    mean = -np.log([0.9, 0.45, 0.52, 0.01, 0.8, 0.3]).mean()
    assert display.title == (
        f"Highest losses, 2 of 6 images; mean loss {mean:.2f}, accuracy 50.0 %"
    )


@pytest.mark.parametrize("share", [0.0004, 0.004, 0.0, 0.046])
def test_small_probabilities_keep_a_digit(share):
    proba = np.array([[share, 1 - share], [1.0, 0.0]])
    display = TopLossesDisplay.from_predictions(X[:2], [0, 0], proba, classes=[0, 1])
    shown = {0.0004: "< 0.1 %", 0.004: "0.4 %", 0.0: "0 %", 0.046: "5 %"}[share]
    assert titles(display)[0].endswith(f"\ntrue: {shown}")


@pytest.mark.parametrize("display", DISPLAYS)
def test_an_estimator_predicts_once(display):
    clf = CountingNet(PROBA).fit(X, Y)
    drawn = display.from_estimator(clf, X, Y)
    assert clf.n_calls_ == 1
    assert sorted(drawn.indices) == list(range(6))
    drawn.plot()
    assert clf.n_calls_ == 1


@pytest.mark.parametrize("display", DISPLAYS)
def test_from_estimator_and_from_predictions_draw_the_same(display):
    one = display.from_estimator(CountingNet(PROBA).fit(X, Y), X, Y, n_images=4)
    other = display.from_predictions(X, Y, PROBA, n_images=4)
    assert titles(one) == titles(other)
    assert one.indices.tolist() == other.indices.tolist()


@pytest.mark.parametrize("display", DISPLAYS)
def test_display_labels_are_printed_and_labels_kept(display):
    drawn = display.from_predictions(
        X, (Y == "dog").astype(int), PROBA, display_labels=["Felis", "Canis"]
    )
    said = dict(zip(drawn.indices.tolist(), titles(drawn), strict=True))
    assert said[0].startswith("True: Felis\nPrediction: Felis\n")
    assert said[3].startswith("True: Canis\nPrediction: Felis\n")
    assert set(drawn.y_true.tolist()) == {0, 1}


@pytest.mark.parametrize("display", DISPLAYS)
def test_classes_of_one_display_label_can_still_be_confused(display):
    drawn = display.from_predictions(X, Y, PROBA, display_labels=["pet", "pet"])
    assert sum(is_framed(panel) for panel in drawn.axes_.ravel()) == 3


@pytest.mark.parametrize("display", DISPLAYS)
def test_long_names_fit_into_their_column(display):
    names = [f"golden retriever number {i}" for i in range(2)]
    drawn = display.from_predictions(X, Y, PROBA, display_labels=names)
    drawn.figure_.canvas.draw()
    panels = drawn.axes_.ravel()
    widths = [panel.title.get_window_extent().width for panel in panels]
    apart = panels[1].get_window_extent().x0 - panels[0].get_window_extent().x0
    assert max(widths) <= apart


@pytest.mark.parametrize("display", DISPLAYS)
def test_of_a_hundred_classes_each_image_has_its_own(display):
    predicted = np.array([0, 12, 24, 99, 98, 97])
    proba = np.full((6, 100), 0.5 / 99)
    proba[np.arange(6), predicted] = 0.5
    drawn = display.from_predictions(
        X, predicted[::-1], proba, classes=np.arange(100), n_images=6
    )
    said = dict(zip(drawn.indices.tolist(), titles(drawn), strict=True))
    for row in range(6):
        begin = f"True: {predicted[5 - row]}\nPrediction: {predicted[row]}\n"
        assert said[row].startswith(begin)


@pytest.mark.parametrize("display", DISPLAYS)
def test_one_class_is_always_right(display):
    drawn = display.from_predictions(X[:2], ["cat", "cat"], [[1.0], [1.0]])
    assert drawn.title.endswith("accuracy 100.0 %")
    assert not any(is_framed(panel) for panel in drawn.axes_.ravel())


@pytest.mark.parametrize("display", DISPLAYS)
def test_one_wrong_prediction_of_thousands_is_no_hundred_percent(display):
    n = 3000
    proba = np.tile([0.9, 0.1], (n, 1))
    y = np.zeros(n, int)
    y[7] = 1
    drawn = display.from_predictions(np.zeros((n, 2, 2)), y, proba, n_images=1)
    assert drawn.title.endswith("accuracy > 99.9 %")


@pytest.mark.parametrize("display", DISPLAYS)
def test_given_predictions_are_what_is_shown(display):
    drawn = display.from_predictions(X, Y, PROBA, y_pred=["dog"] * 6, n_images=6)
    said = dict(zip(drawn.indices.tolist(), titles(drawn), strict=True))
    assert said[0].startswith("True: cat\nPrediction: dog\n")
    assert drawn.title.endswith("accuracy 50.0 %")
    assert set(drawn.y_pred.tolist()) == {"dog"}


@pytest.mark.parametrize("display", DISPLAYS)
def test_a_threshold_counts_in_captions_and_accuracy(display):
    rows = X.reshape(6, -1)
    clf = FixedThresholdClassifier(LogisticRegression(), threshold=1.1)
    drawn = display.from_estimator(clf.fit(rows, Y), rows, Y)
    assert set(drawn.y_pred.tolist()) == {"cat"}
    assert drawn.title.endswith("accuracy 50.0 %")


@pytest.mark.parametrize("display", DISPLAYS)
def test_images_are_drawn_in_the_place_of_given_axes(display):
    figure, (left, right) = plt.subplots(1, 2)
    drawn = display.from_predictions(X, Y, PROBA, ax=right)
    assert drawn.ax_ is right
    assert drawn.figure_ is figure
    middle = left.get_position().x1
    assert all(panel.get_position().x0 > middle for panel in drawn.axes_.ravel())


@pytest.mark.parametrize("display", DISPLAYS)
def test_plot_returns_the_display_and_draws_again_with_other_columns(display):
    drawn = display.from_predictions(X, Y, PROBA, n_columns=3)
    assert drawn.axes_.shape == (2, 3)
    assert drawn.plot(n_columns=2) is drawn
    assert drawn.axes_.shape == (3, 2)


@pytest.mark.parametrize("display", DISPLAYS)
def test_drawn_again_in_the_same_axes_the_first_images_are_gone(display):
    figure, (ax, _) = plt.subplots(1, 2)
    drawn = display.from_predictions(X, Y, PROBA, n_columns=3, ax=ax)
    drawn.plot(ax, n_columns=2)
    assert sum(len(panel.images) for panel in figure.axes) == 6


@pytest.mark.parametrize("display", DISPLAYS)
def test_image_options_reach_imshow(display):
    drawn = display.from_predictions(X, Y, PROBA, im_kw={"cmap": "viridis"})
    assert drawn.axes_[0, 0].images[0].get_cmap().name == "viridis"


@pytest.mark.parametrize("display", DISPLAYS)
def test_the_constructor_only_stores(display):
    drawn = display.from_predictions(X, Y, PROBA)
    stored = {name: v for name, v in vars(drawn).items() if not name.endswith("_")}
    again = display(**stored)
    assert vars(again) == stored
    assert titles(again.plot()) == titles(drawn)


@pytest.mark.parametrize("display", DISPLAYS)
def test_rows_of_pixels_need_a_shape_that_fits(display):
    rows = np.zeros((6, 10), np.uint8)
    with pytest.raises(ValueError, match="image_shape=None cannot be inferred"):
        display.from_predictions(rows, Y, PROBA)
    drawn = display.from_predictions(rows, Y, PROBA, image_shape=(2, 5, 1))
    assert drawn.images[0].shape == (2, 5)
    clf = LogisticRegression().fit(rows, Y)
    drawn = display.from_estimator(clf, rows, Y, image_shape=(2, 5, 1))
    assert drawn.images[0].shape == (2, 5)


@pytest.mark.parametrize("display", DISPLAYS)
def test_an_unfitted_estimator_is_refused(display):
    with pytest.raises(NotFittedError):
        display.from_estimator(ScratchCNNClassifier(), X, Y)


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:5], "inconsistent numbers of samples"),
        (np.where(Y == "cat", "bat", Y), r"not in classes: \['bat'\]"),
    ],
)
def test_labels_that_do_not_fit_are_refused_before_predicting(display, y, message):
    clf = CountingNet(PROBA).fit(X, Y)
    with pytest.raises(ValueError, match=message):
        display.from_estimator(clf, X, y)
    assert clf.n_calls_ == 0


@pytest.mark.parametrize("display", DISPLAYS)
@pytest.mark.parametrize("name", ["n_images", "n_columns"])
@pytest.mark.parametrize("value", [0, -1])
def test_counts_below_one_are_refused(display, name, value):
    with pytest.raises(ValueError, match=f"{name} == {value}, must be >= 1"):
        display.from_predictions(X, Y, PROBA, **{name: value})
    with pytest.raises(ValueError, match=f"{name} == {value}, must be >= 1"):
        display.from_estimator(CountingNet(PROBA).fit(X, Y), X, Y, **{name: value})


def test_an_unknown_choice_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"show='best' must be one of \['all', 'wrong"):
        PredictionGridDisplay.from_predictions(X, Y, PROBA, show="best")


@pytest.mark.parametrize("display", DISPLAYS)
def test_nan_among_the_probabilities_is_refused(display):
    with pytest.raises(ValueError, match="y_proba contains NaN"):
        display.from_predictions(X, Y, np.where(PROBA == 0.9, np.nan, PROBA))


@pytest.mark.parametrize("display", DISPLAYS)
def test_missing_matplotlib_is_reported_before_predicting(display, monkeypatch):
    clf = CountingNet(PROBA).fit(X, Y)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    name = display.__name__
    with pytest.raises(ImportError, match=f"{name}.from_estimator requires matplotlib"):
        display.from_estimator(clf, X, Y)
    with pytest.raises(ImportError, match=f"{name}.from_predictions requires"):
        display.from_predictions(X, Y, PROBA)
    assert clf.n_calls_ == 0


def test_rows_of_pixels_in_any_classifier_are_shown_as_images():
    rows = X.reshape(6, -1)
    clf = LogisticRegression().fit(rows, Y)
    display = PredictionGridDisplay.from_estimator(clf, rows, Y)
    assert display.images[0].shape == (8, 8)


@pytest.mark.parametrize(
    ("resize", "shape"),
    [("crop", (10, 10, 3)), ("pad", (10, 12, 3)), ("squash", (10, 12, 3))],
)
def test_files_are_shown_cropped_or_whole_as_a_fitted_classifier_takes_them(
    tmp_path, resize, shape
):
    for i in range(8):
        color = (30 * i, 0, 255 * (i % 2))
        Image.new("RGB", (12, 10), color).save(tmp_path / f"{i}.png")
    frame = pd.DataFrame({"path": [str(tmp_path / f"{i}.png") for i in range(8)]})
    y = np.array(["red", "blue"] * 4)
    clf = ScratchCNNClassifier(
        width=4, max_epochs=1, augment=None, random_state=0, resize=resize
    )
    clf.fit(frame, y)
    display = TopLossesDisplay.from_estimator(clf, frame, y, n_images=3)
    assert [image.shape for image in display.images] == [shape] * 3
    row = display.indices[0]
    np.testing.assert_allclose(display.images[0][0, 0, 0], 30 * row / 255, atol=1e-6)
