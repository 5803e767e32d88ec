"""Images of every kind, panels, captions, and predictions that are checked once."""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import FixedThresholdClassifier, GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer._displays.content.predictions import (
    check_predictions,
    find_image_shape,
    name_classes,
    predict_images,
    predicts_most_probable,
)
from sktransfer._displays.content.shown_images import prepare_images
from sktransfer._displays.drawing.captions import Caption, percent, shorten
from sktransfer._displays.drawing.image_grid import draw_grid, draw_image
from sktransfer._displays.drawing.panels import make_axes, make_panels
from tests.helpers import Counting, CountingNet

PROBA = np.array([[0.9, 0.1, 0.0], [0.2, 0.3, 0.5], [0.1, 0.8, 0.1]])
X3 = np.zeros((3, 4, 4), np.uint8)


class WithShape(LogisticRegression):
    """A classifier that says on which images it was fitted."""

    def fit(self, X, y):
        self.image_shape_ = (4, 2, 1)
        return super().fit(X, y)


def boxes(panels):
    """What each panel takes up, text included, in pixels."""
    figure = panels.ravel()[0].figure
    figure.canvas.draw()
    return [panel.get_tightbbox() for panel in panels.ravel()]


def test_a_uint8_image_is_divided_by_255_however_dark():
    (image,) = prepare_images(np.full((1, 4, 4), 3, np.uint8), [0])
    np.testing.assert_allclose(image, 3 / 255)


def test_a_uint16_image_is_divided_by_65535():
    (image,) = prepare_images(np.full((1, 4, 4, 3), 65535, np.uint16), [0])
    assert image.shape == (4, 4, 3)
    np.testing.assert_allclose(image, 1)


def test_floats_from_0_to_1_stay_as_they_are():
    X = np.random.default_rng(0).random((3, 4, 4, 3), dtype=np.float32) / 2
    np.testing.assert_array_equal(prepare_images(X, [2])[0], X[2])


def test_floats_of_another_scale_are_moved_all_alike():
    X = np.stack([np.full((2, 2), 10.0), np.full((2, 2), 200.0)])
    dark, bright = prepare_images(X, [0, 1])
    np.testing.assert_allclose(bright, 1)
    np.testing.assert_allclose(dark, 0.05)


def test_normalised_floats_are_moved_to_0_to_1():
    (image,) = prepare_images(np.array([[[-2.0, 0.0], [1.0, 2.0]]]), [0])
    np.testing.assert_allclose(image, [[0, 0.5], [0.75, 1]])


def test_pixels_that_are_not_finite_do_not_spoil_the_scale():
    (image,) = prepare_images(np.array([[[np.nan, 0.0], [4.0, 8.0]]]), [0])
    np.testing.assert_allclose(image, [[np.nan, 0], [0.5, 1]])


@pytest.mark.parametrize(
    ("n_channels", "shape"), [(1, (4, 4)), (2, (4, 4)), (4, (4, 4, 3))]
)
def test_an_image_is_shown_grey_or_in_three_colours(n_channels, shape):
    X = np.zeros((1, 4, 4, n_channels), np.uint8)
    assert prepare_images(X, [0])[0].shape == shape


def test_rows_of_pixels_take_the_image_shape():
    X = np.arange(24, dtype=np.uint8).reshape(2, 12)
    (image,) = prepare_images(X, [1], (2, -1, 1))
    np.testing.assert_allclose(image, X[1].reshape(2, 6) / 255, rtol=1e-6)


def test_a_frame_of_pixels_is_rows_by_position():
    frame = pd.DataFrame(np.eye(3, 4), index=[7, 8, 9])
    np.testing.assert_array_equal(prepare_images(frame, [2])[0], [[0, 0], [1, 0]])


class Watched(np.ndarray):
    """Notes the shape of what is taken from it."""

    taken = ()

    def __getitem__(self, key):
        found = np.asarray(super().__getitem__(key))
        self.taken += (found.shape,)
        return found


def test_of_many_images_only_the_shown_ones_are_read():
    X = np.arange(50, dtype=np.uint8).repeat(16).reshape(50, 4, 4).view(Watched)
    (image,) = prepare_images(X, [3])
    np.testing.assert_allclose(image, 3 / 255)
    assert X.taken == ((1, 4, 4),)


@pytest.mark.parametrize(
    "kind",
    [list, tuple, np.array, pd.Series, lambda paths: pd.DataFrame({"path": paths})],
)
def test_paths_are_shown_whole_and_never_enlarged(kind, tmp_path):
    for i, size in enumerate([(8, 6), (600, 300)]):
        Image.new("RGB", size, (255, 0, 0)).save(tmp_path / f"{i}.png")
    paths = kind([str(tmp_path / f"{i}.png") for i in range(2)])
    small, large = prepare_images(paths, [0, 1])
    assert small.shape == (6, 8, 3)
    assert large.shape == (112, 224, 3)
    np.testing.assert_array_equal(small[0, 0], [1, 0, 0])


@pytest.mark.parametrize(
    "kind", [list, tuple, np.asarray, lambda X: X.tolist(), "memmap"]
)
def test_arrays_in_any_container_are_shown(kind, tmp_path):
    X = np.arange(48, dtype=np.float32).reshape(3, 4, 4) / 48
    np.save(tmp_path / "X.npy", X)
    given = np.load(tmp_path / "X.npy", "r") if kind == "memmap" else kind(X)
    shown = prepare_images(given, [2, 0])
    np.testing.assert_allclose(shown, X[[2, 0]], rtol=1e-6)


def test_pictures_are_cut_to_what_an_estimator_sees():
    picture = Image.new("L", (60, 20), 255)
    (image,) = prepare_images([picture], [0], (32, 32, 3))
    assert image.shape == (20, 20, 3)


def test_a_grey_picture_is_shown_grey():
    assert prepare_images([Image.new("L", (5, 7))], np.array([0]))[0].shape == (7, 5)


def test_long_names_lose_their_middle():
    assert shorten("golden retriever", 10) == "golden…ver"
    assert shorten("cat\n dog", 10) == "cat dog"


def test_a_wrong_image_has_a_frame_in_its_colour_and_others_none():
    _, (left, right) = plt.subplots(1, 2)
    draw_image(left, np.zeros((8, 8)), Caption("a", "#B84E00", framed=True))
    draw_image(right, np.zeros((8, 8)), Caption("b"))
    spine = left.spines["top"]
    assert spine.get_visible()
    assert spine.get_linewidth() == 3
    assert plt.matplotlib.colors.to_hex(spine.get_edgecolor()) == "#b84e00"
    assert not right.spines["top"].get_visible()


def test_small_images_keep_their_pixels_and_large_ones_are_smoothed():
    _, ax = plt.subplots()
    small = draw_image(ax, np.zeros((8, 8)), Caption(""))
    large = draw_image(ax, np.zeros((512, 512)), Caption(""))
    assert small.get_interpolation() == "nearest"
    assert large.get_interpolation() == "antialiased"


def test_dollar_signs_in_a_caption_are_no_formula():
    caption = Caption("$\\bad$")
    *_, artists = draw_grid(None, [np.zeros((8, 8))], [caption], 1, "f", title="$\\x$")
    artists[0].figure.canvas.draw()
    assert artists[0].axes.get_title() == "$\\bad$"


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_in_given_axes_the_title_stands_above_every_caption(layout):
    figure, (ax, neighbour) = plt.subplots(1, 2, figsize=(12, 5), layout=layout)
    # In a constrained layout this lowers the top of every axes in the row.
    neighbour.set_title("One line\nand another\nand a third")
    images, captions = [np.zeros((8, 8))] * 6, [Caption("one\ntwo\nthree")] * 6
    frame, panels, _ = draw_grid(ax, images, captions, 2, "f", title="The title")
    tops = [box.y1 for box in boxes(panels)]
    (title,) = (text for axes in figure.axes for text in axes.texts)
    assert title.get_text() == "The title"
    assert title.get_window_extent().y0 > max(tops)
    assert frame is ax


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_captions_do_not_run_into_the_row_above(layout):
    _, ax = plt.subplots(figsize=(8, 5), layout=layout)
    images, captions = [np.zeros((8, 8))] * 6, [Caption("one\ntwo\nthree")] * 6
    _, panels, _ = draw_grid(ax, images, captions, 2, "f")
    above, middle, below = boxes(panels[:, :1])
    assert middle.y1 <= above.y0
    assert below.y1 <= middle.y0


def test_captions_shrink_in_narrow_axes():
    _, ax = plt.subplots(figsize=(5, 5))
    images, captions = [np.zeros((8, 8))] * 4, [Caption("text")] * 4
    _, panels, _ = draw_grid(ax, images, captions, 4, "f")
    assert 4 <= panels[0, 0].title.get_fontsize() < 9


def test_a_long_title_is_broken_where_the_figure_ends():
    title = "Twenty words " * 10
    frame, _, _ = draw_grid(
        None, [np.zeros((8, 8))], [Caption("")], 1, "f", title=title
    )
    figure = frame.figure
    figure.canvas.draw()
    assert figure._suptitle.get_window_extent().width <= figure.bbox.width


def test_panels_without_an_image_are_invisible():
    images, captions = [np.zeros((8, 8))] * 4, [Caption("")] * 4
    _, panels, _ = draw_grid(None, images, captions, 3, "f")
    assert panels.shape == (2, 3)
    assert [panel.axison for panel in panels.ravel()] == [True] * 4 + [False] * 2


def test_panels_take_the_place_of_axes_that_were_put_by_hand():
    figure = plt.figure()
    ax = figure.add_axes((0.5, 0.5, 0.4, 0.4))
    _, panels = make_panels(ax, 2, 2, (1, 1), "f")
    box = panels[1, 0].get_position()
    assert (box.x0, box.y0) == pytest.approx((0.5, 0.5))


@pytest.mark.parametrize("layout", [None, "constrained"])
def test_a_grid_drawn_again_in_the_same_axes_replaces_the_first(layout):
    figure, (ax, _) = plt.subplots(1, 2, layout=layout)
    images, captions = [np.zeros((8, 8))] * 6, [Caption("")] * 6
    draw_grid(ax, images, captions, 3, "f", title="First")
    _, panels, _ = draw_grid(ax, images, captions, 2, "f", title="Second")
    assert [t.get_text() for a in figure.axes for t in a.texts] == ["Second"]
    # The two given, the title and the panels.
    assert len(figure.axes) == 2 + 1 + panels.size


def test_a_sentence_and_a_grid_replace_each_other():
    figure, ax = plt.subplots()
    draw_grid(ax, [], [], 3, "f", title="No images.")
    draw_grid(ax, [np.zeros((8, 8))], [Caption("")], 3, "f")
    assert not ax.texts
    draw_grid(ax, [], [], 3, "f", title="Again none.")
    assert figure.axes == [ax]
    assert [text.get_text() for text in ax.texts] == ["Again none."]


def test_axes_whose_panels_the_caller_removed_are_drawn_into_again():
    figure, ax = plt.subplots()
    _, panels = make_panels(ax, 1, 2, (1, 1), "f")
    panels[0, 0].remove()
    make_panels(ax, 1, 3, (1, 1), "f")
    assert len(figure.axes) == 4


@pytest.mark.parametrize(
    ("fraction", "n_decimals", "text"),
    [
        (0, 0, "0 %"),
        (1, 1, "100.0 %"),
        (1, 0, "100 %"),
        (2999 / 3000, 1, "> 99.9 %"),
        (0.996, 0, "99.6 %"),
        (0.5, 1, "50.0 %"),
        (0.98, 0, "98 %"),
        (1e-5, 1, "< 0.1 %"),
        (np.float32(1 - 1e-6), 0, "> 99.9 %"),
        (np.float32(1 + 1e-6), 0, "100 %"),
    ],
)
def test_only_a_whole_is_a_hundred_percent(fraction, n_decimals, text):
    assert percent(fraction, n_decimals) == text


def test_without_matplotlib_the_error_names_the_caller(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"Some\.plot requires matplotlib"):
        make_axes(None, 1, 1, "Some.plot")


def test_labels_become_positions_among_the_classes_also_unsorted_ones():
    found = check_predictions(X3, ["c", "a", "b"], PROBA, classes=["c", "b", "a"])
    assert found.y_true.tolist() == [0, 2, 1]
    assert found.y_pred.tolist() == [0, 2, 1]
    assert name_classes(found.classes, found.display_labels) == ("c", "b", "a")


def test_a_class_without_images_keeps_its_column():
    found = check_predictions(X3, [0, 2, 2], PROBA, classes=[0, 1, 2])
    assert found.is_wrong.tolist() == [False, False, True]
    np.testing.assert_allclose(found.confidences, [0.9, 0.5, 0.8])


def test_the_loss_is_the_cross_entropy_and_finite():
    found = check_predictions(X3, [0, 1, 2], PROBA)
    np.testing.assert_allclose(found.losses, -np.log([0.9, 0.3, 0.1]))
    certain = check_predictions(X3[:2], [0, 1], [[0.0, 1.0], [0.0, 1.0]])
    assert np.isfinite(certain.losses).all()
    assert certain.losses[0] > 100


@pytest.mark.parametrize(
    "kind", [list, np.array, pd.Series, lambda y: pd.Series(y, dtype="string")]
)
def test_labels_may_be_texts_in_any_container(kind):
    assert check_predictions(X3, kind(["x", "z", "y"]), PROBA).y_true.tolist() == [
        0,
        2,
        1,
    ]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_true": [0, 1]}, "inconsistent numbers of samples"),
        ({"X": X3[:2]}, "inconsistent numbers of samples"),
        ({"y_proba": PROBA[:2]}, "inconsistent numbers of samples"),
        ({"y_true": [0, 1, 7]}, r"not in classes: \[7\]"),
        ({"y_true": ["0", "1", "2"]}, "not in classes"),
        ({"y_true": [0, 1, np.nan]}, "Input y_true contains NaN"),
        ({"y_true": [0, 1, np.nan], "classes": None}, "Input y_true contains NaN"),
        ({"y_pred": [0, 1]}, "inconsistent numbers of samples"),
        ({"y_pred": [0, 1, 7]}, r"y_pred contains labels that are not in .*: \[7\]"),
        ({"classes": [0, 1]}, "3 columns, but there are 2 classes"),
        ({"classes": [0, 1, 1]}, "a label twice"),
        ({"classes": None, "y_true": [0, 0, 1]}, r"Pass classes=estimator\.classes_"),
        ({"display_labels": ["a"]}, "display_labels has 1 names"),
        ({"y_proba": np.where(PROBA == 0.9, np.nan, PROBA)}, "y_proba contains NaN"),
        ({"y_proba": PROBA[:, 0]}, "Expected 2D array"),
        ({"y_proba": PROBA * 5}, "probabilities are in"),
        ({"y_proba": -PROBA}, "probabilities are in"),
        ({"y_proba": PROBA * [[1], [1], [0]]}, "Row 2 of y_proba sums to 0, but"),
    ],
)
def test_what_does_not_match_is_refused(changed, message):
    given = {"X": X3, "y_true": [0, 1, 2], "y_proba": PROBA, "classes": [0, 1, 2]}
    given |= changed
    X, y_true, y_proba = (given.pop(name) for name in ("X", "y_true", "y_proba"))
    with pytest.raises(ValueError, match=message):
        check_predictions(X, y_true, y_proba, **given)


def test_no_images_are_refused():
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        check_predictions(X3[:0], [], np.empty((0, 3)), classes=[0, 1, 2])


def test_one_path_is_no_set_of_images():
    with pytest.raises(TypeError, match="single str"):
        check_predictions("abc", [0, 1, 2], PROBA)


def test_an_unfitted_estimator_is_refused():
    with pytest.raises(NotFittedError):
        predict_images(LogisticRegression(), X3.reshape(3, -1), [0, 1, 2], None)


@pytest.mark.parametrize("refuse", [GaussianMixture, FunctionTransformer])
def test_what_is_no_classifier_is_refused(refuse):
    estimator = refuse().fit(np.random.default_rng(0).random((9, 2)))
    with pytest.raises(ValueError, match="to be a classifier"):
        predict_images(estimator, X3.reshape(3, -1), [0, 1, 2], None)


def test_no_set_of_images_is_refused():
    with pytest.raises(TypeError, match="X is None; pass the images"):
        check_predictions(None, [0, 1, 2], PROBA)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_rounded_probabilities_of_many_classes_are_taken(dtype):
    proba = np.random.default_rng(0).dirichlet(np.ones(1000), size=3).astype(dtype)
    found = check_predictions(X3, [0, 1, 2], proba, classes=np.arange(1000))
    assert found.y_pred.tolist() == proba.argmax(axis=1).tolist()


def test_given_predictions_take_the_place_of_the_most_probable_class():
    found = check_predictions(X3, [0, 1, 2], PROBA, y_pred=[1, 1, 1])
    assert found.y_pred.tolist() == [1, 1, 1]
    assert found.is_wrong.tolist() == [True, False, True]
    np.testing.assert_allclose(found.confidences, PROBA[:, 1])


def rows_and_labels():
    """Rows of pixels that a classifier can tell apart, more or less."""
    rng = np.random.default_rng(0)
    y = np.arange(40) % 2
    return rng.normal(y[:, None], 1, (40, 4)), y


@pytest.mark.parametrize(
    "wrap", [lambda clf: clf, lambda clf: make_pipeline(FunctionTransformer(), clf)]
)
def test_the_prediction_is_that_of_the_estimator_not_the_most_probable_class(wrap):
    X, y = rows_and_labels()
    clf = wrap(FixedThresholdClassifier(LogisticRegression(), threshold=0.9))
    found = predict_images(clf.fit(X, y), X, y, None)
    assert 1 - found.is_wrong.mean() == clf.score(X, y)
    assert found.y_pred.tolist() == clf.predict(X).tolist()
    assert found.y_pred.tolist() != found.proba.argmax(axis=1).tolist()


def test_a_network_in_a_pipeline_and_a_search_predicts_once():
    X, y = X3.reshape(3, -1), [0, 1, 2]
    net = CountingNet(PROBA)
    pipeline = make_pipeline(FunctionTransformer(), net).fit(X, y)
    assert predicts_most_probable(pipeline)
    search = GridSearchCV(pipeline, {"functiontransformer__validate": [True]}, cv=2)
    assert not predicts_most_probable(search)
    search.best_estimator_ = pipeline
    assert predicts_most_probable(search)
    assert not predicts_most_probable(Counting(PROBA).fit(X, y))
    predict_images(pipeline, X, y, None)
    assert net.n_calls_ == 1


def test_rows_that_cannot_be_shown_are_refused_before_predicting():
    clf = Counting(PROBA).fit(None, [0, 1, 2])
    with pytest.raises(ValueError, match="image_shape=None cannot be inferred"):
        predict_images(clf, np.zeros((3, 10)), [0, 1, 2], None)
    with pytest.raises(ValueError, match=r"image_shape=\(4, 4, 1\) does not fit"):
        predict_images(clf, np.zeros((3, 10)), [0, 1, 2], None, (4, 4, 1))
    assert clf.n_calls_ == 0
    found = predict_images(clf, np.zeros((3, 10)), [0, 1, 2], None, (2, 5, 1))
    assert found.image_shape == (2, 5, 1)


def test_the_shape_behind_a_step_that_changes_it_is_not_that_of_the_rows():
    X, y = np.random.default_rng(0).random((12, 16)), np.arange(12) % 2
    pipeline = make_pipeline(FunctionTransformer(lambda X: X[:, ::2]), WithShape())
    found = predict_images(pipeline.fit(X, y), X, y, None)
    assert prepare_images(X, [0], found.image_shape)[0].shape == (4, 4)


def test_the_image_shape_is_found_inside_pipelines_searches_and_wrappers():
    X, y = np.random.default_rng(0).random((12, 8)), np.arange(12) % 2
    pipeline = make_pipeline(FunctionTransformer(), WithShape()).fit(X, y)
    search = GridSearchCV(WithShape(), {"C": [1.0]}, cv=2).fit(X, y)
    calibrated = CalibratedClassifierCV(WithShape(), cv=2).fit(X, y)
    threshold = FixedThresholdClassifier(WithShape()).fit(X, y)
    voting = VotingClassifier([("a", WithShape())]).fit(X, y)
    for estimator in (pipeline, search, calibrated, threshold, voting):
        assert find_image_shape(estimator, X) == (4, 2, 1)
    assert find_image_shape(LogisticRegression().fit(X, y), X) is None


def test_a_parameter_named_steps_is_no_pipeline():
    class WithSteps(LogisticRegression):
        steps, estimators_ = 3, 5

    X, y = rows_and_labels()
    assert predict_images(WithSteps().fit(X, y), X, y, None).image_shape is None
