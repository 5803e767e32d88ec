import sys

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import ModelComparisonDisplay, ResNetTransferClassifier
from sktransfer._displays.content.scores import count_trainable, spread

Y_TRUE = np.array(["cat", "cat", "dog", "dog", "emu"])
GOOD = Y_TRUE
FAIR = np.array(["cat", "cat", "dog", "cat", "emu"])
POOR = np.array(["cat", "dog", "emu", "dog", "cat"])


@pytest.fixture(scope="module")
def digits():
    digits = load_digits(n_class=4)
    return digits.data[:100] / 16, digits.target[:100]


@pytest.fixture(scope="module")
def fitted(digits):
    clf = ResNetTransferClassifier(
        "mini_resnet18", unfreeze_depth=1, augment=None, max_epochs=2, random_state=0
    )
    return clf.fit(*digits)


class Timed(ClassifierMixin, BaseEstimator):
    """Predicts always the same and counts how often it is asked."""

    def __init__(self, seconds=1.0):
        self.seconds = seconds

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.fit_time_ = self.seconds
        self.n_asked_ = 0
        return self

    def predict(self, X):
        self.n_asked_ += 1
        return np.repeat(self.classes_[:1], len(X))


def compared(**options):
    """A display of two models, one of three seeds."""
    return ModelComparisonDisplay.from_predictions(
        Y_TRUE,
        {"transfer": [POOR, GOOD, FAIR], "scratch": POOR},
        **{"seconds": {"transfer": [1.0, 2.0, 6.0], "scratch": 8.0}, **options},
    )


def medians_of(ax):
    """Position of the large marker of each model, in order."""
    return [
        (float(bars[0].get_xdata()[0]), float(bars[0].get_ydata()[0]))
        for bars in ax.containers
    ]


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_seed_is_a_point():
    points = [points.get_offsets() for points in compared().ax_.collections]
    found = [np.asarray(p).round(6).tolist() for p in points if len(p) == 3]
    assert [[1.0, 0.4], [2.0, 1.0], [6.0, 0.8]] in found


def test_the_large_marker_is_the_median_of_the_seeds():
    assert medians_of(compared().ax_) == [(2.0, 0.8), (8.0, 0.4)]


def test_error_bars_reach_from_the_least_to_the_greatest():
    along_x, along_y = compared().ax_.containers[0][2]
    assert np.allclose(along_x.get_segments()[0], [[1.0, 0.8], [6.0, 0.8]])
    assert np.allclose(along_y.get_segments()[0], [[2.0, 0.4], [2.0, 1.0]])


def test_one_seed_has_no_error_bars():
    assert not compared().ax_.containers[1][2]


def test_equal_seeds_have_no_error_bars_but_are_counted():
    display = ModelComparisonDisplay.from_predictions(
        Y_TRUE, {"a": [FAIR, FAIR]}, seconds={"a": [1.0, 1.0]}
    )
    assert not display.ax_.containers[0][2]
    assert legend_of(display.ax_) == ["a\n80.0 % (80.0 % to 80.0 %), 2 seeds"]


def test_the_legend_shows_median_spread_and_seeds():
    display = compared()
    assert legend_of(display.ax_) == [
        "transfer\n80.0 % (40.0 % to 100.0 %), 3 seeds",
        "scratch\n40.0 %, 1 seed",
    ]
    title = display.ax_.get_legend().get_title().get_text()
    assert title == "Accuracy, median (least to greatest)"


def test_long_names_are_shortened_in_the_legend():
    display = ModelComparisonDisplay.from_predictions(
        Y_TRUE, {"x" * 200: GOOD}, seconds={"x" * 200: 1}
    )
    assert len(legend_of(display.ax_)[0].split("\n")[0]) <= 32
    assert display.to_table()[0]["model"] == "x" * 200


def test_eight_models_all_look_different():
    names = [f"model {i}" for i in range(8)]
    display = ModelComparisonDisplay.from_predictions(
        Y_TRUE, dict.fromkeys(names, GOOD), seconds=dict.fromkeys(names, 1)
    )
    looks = [
        (to_hex(bars[0].get_color()), bars[0].get_marker())
        for bars in display.ax_.containers
    ]
    assert len(set(looks)) == 8
    assert len({marker for _, marker in looks[:6]}) == 6


@pytest.mark.parametrize(
    ("slow", "scale"), [(29.0, "linear"), (31.0, "log"), (5000.0, "log")]
)
def test_the_axis_is_logarithmic_beyond_a_factor_of_ten(slow, scale):
    seconds = {"transfer": [3.0, 3.0, 3.0], "scratch": slow}
    ax = compared(seconds=seconds).ax_
    assert ax.get_xscale() == scale
    low, high = ax.get_xlim()
    assert low < 3.0 < slow < high


def test_a_linear_axis_begins_at_zero_and_has_room_beyond_the_last_point():
    display = compared(seconds={"transfer": [3.0, 3.1, 3.2], "scratch": 3.2})
    low, high = display.ax_.get_xlim()
    assert low == 0
    assert high > 1.04 * 3.2


@pytest.mark.parametrize("slow", [0, 100])
def test_costs_of_zero_can_be_drawn(slow):
    display = compared(seconds={"transfer": 0, "scratch": slow})
    assert display.ax_.get_xscale() == "linear"
    assert medians_of(display.ax_)[0] == (0.0, 0.8)


def test_no_score_above_all_is_on_the_axis():
    display = ModelComparisonDisplay.from_predictions(
        Y_TRUE, {"a": GOOD}, seconds={"a": 1}
    )
    assert 1.0 < display.ax_.get_ylim()[1] <= 1.02


def test_memory_is_given_in_bytes_and_drawn_in_mib():
    memory = {"transfer": 3 * 2**20, "scratch": [5 * 2**20]}
    display = compared(peak_memory=memory, x="peak_memory")
    assert [x for x, _ in medians_of(display.ax_)] == [3.0, 5.0]
    assert display.ax_.get_xlabel() == "Peak memory, MiB"
    assert display.to_table()[0]["peak_memory_median"] == 3 * 2**20


def test_macro_f1_is_that_of_scikit_learn():
    display = compared(y_metric="f1_macro")
    expected = f1_score(Y_TRUE, POOR, average="macro")
    assert medians_of(display.ax_)[1] == (8.0, pytest.approx(expected))
    assert display.ax_.get_ylabel() == "Macro F1"


def test_the_table_holds_the_spread_of_every_quantity():
    row = compared(n_parameters={"transfer": 10}).to_table()[0]
    assert row["model"] == "transfer"
    assert row["n_seeds"] == 3
    for name, expected in {
        "accuracy": (0.8, 0.4, 1.0),
        "seconds": (2.0, 1.0, 6.0),
        "n_parameters": (10, 10, 10),
        "peak_memory": (None, None, None),
    }.items():
        assert tuple(row[f"{name}_{w}"] for w in ("median", "min", "max")) == expected
    assert row["f1_macro_max"] == 1.0


def test_what_is_unknown_is_none_in_the_table():
    row = compared(n_parameters={"transfer": 10}).to_table()[1]
    assert row["n_parameters_median"] is None


def test_the_spread_is_median_least_and_greatest():
    assert spread([3.0, 1.0, 2.0, 10.0]) == (2.5, 1.0, 10.0)


def test_another_axis_is_drawn_without_predicting_again(digits):
    X, y = digits
    clf = Timed().fit(X, y)
    display = ModelComparisonDisplay.from_estimators({"a": clf}, X, y)
    display.plot(y_metric="f1_macro")
    assert display.ax_.get_ylabel() == "Macro F1"
    display.to_table()
    assert clf.n_asked_ == 1


def test_estimators_bring_their_seconds_and_parameters(digits, fitted):
    X, y = digits
    display = ModelComparisonDisplay.from_estimators({"transfer": fitted}, X, y)
    row = display.to_table()[0]
    assert row["accuracy_median"] == accuracy_score(y, fitted.predict(X))
    assert row["seconds_median"] == fitted.fit_time_
    assert medians_of(display.ax_)[0][0] == fitted.fit_time_


def test_the_parameters_are_those_that_were_trained(fitted):
    stages = fitted.net_.module_
    expected = sum(
        p.numel()
        for name in ("layer4", "head")
        for p in getattr(stages, name).parameters()
    )
    assert count_trainable(fitted) == expected
    assert count_trainable(LogisticRegression()) is None


def test_seeds_are_a_list_of_estimators(digits):
    X, y = digits
    seeds = [Timed(seconds).fit(X, y) for seconds in (1.0, 4.0, 2.0)]
    display = ModelComparisonDisplay.from_estimators({"a": seeds}, X, y)
    assert display.seconds == {"a": [1.0, 4.0, 2.0]}
    assert display.to_table()[0]["n_seeds"] == 3


def test_pipelines_and_searches_are_looked_through(digits):
    X, y = digits
    pipeline = make_pipeline(FunctionTransformer(), Timed(3.0)).fit(X, y)
    search = GridSearchCV(pipeline, {"timed__seconds": [5.0]}, cv=2).fit(X, y)
    display = ModelComparisonDisplay.from_estimators(
        {"pipeline": pipeline, "search": search}, X, y
    )
    assert display.seconds == {"pipeline": [3.0], "search": [5.0]}


def test_a_model_whose_seconds_nobody_knows_is_named_before_it_predicts(digits):
    X, y = digits
    known = Timed().fit(X, y)
    unknown = LogisticRegression().fit(X, y)
    with pytest.raises(
        ValueError, match=r"seconds of model 'linear' is unknown; pass "
    ):
        ModelComparisonDisplay.from_estimators({"a": known, "linear": unknown}, X, y)
    assert known.n_asked_ == 0


def test_drawing_again_in_the_same_axes_draws_anew():
    display = ModelComparisonDisplay(
        accuracy={"a": [0.5, 0.6], "b": [0.9, 0.8]},
        f1_macro={"a": [0.5, 0.6], "b": [0.9, 0.8]},
        seconds={"a": [1.0, 1.1], "b": [500.0, 600.0]},
        n_parameters={"a": [10.0, 10.0], "b": [11.0, 11.0]},
    )
    _, (again, once) = plt.subplots(1, 2)
    display.plot(again, x="seconds").plot(again, x="n_parameters")
    display.plot(once, x="n_parameters")
    assert len(again.collections) == len(once.collections)
    assert again.get_xscale() == once.get_xscale() == "linear"
    assert again.get_xlim() == once.get_xlim()
    assert len(again.get_legend().get_texts()) == 2


def test_an_axis_that_nobody_measured_is_refused_when_drawn_again():
    display = compared()
    with pytest.raises(ValueError, match=r"peak_memory=\{'transfer': \.\.\.\}"):
        display.plot(x="peak_memory")


@pytest.mark.parametrize("estimators", [{}, {"a": []}])
def test_no_estimators_are_refused(estimators, digits):
    with pytest.raises(ValueError, match="is empty"):
        ModelComparisonDisplay.from_estimators(estimators, *digits)


@pytest.mark.parametrize("predictions", [{}, {"a": []}])
def test_no_predictions_are_refused(predictions):
    with pytest.raises(ValueError, match="is empty"):
        ModelComparisonDisplay.from_predictions(Y_TRUE, predictions)


def test_models_without_names_are_refused():
    with pytest.raises(TypeError, match="predictions must be a mapping"):
        ModelComparisonDisplay.from_predictions(Y_TRUE, [GOOD])


def test_an_unfitted_estimator_is_refused(digits):
    with pytest.raises(NotFittedError):
        ModelComparisonDisplay.from_estimators(
            {"a": ResNetTransferClassifier()}, *digits
        )


def test_an_estimator_that_does_not_predict_is_refused(digits):
    with pytest.raises(ValueError, match=r"estimators\['a'\].*FunctionTransformer"):
        ModelComparisonDisplay.from_estimators({"a": FunctionTransformer()}, *digits)


def test_labels_of_another_length_are_refused_before_predicting(digits):
    X, y = digits
    clf = Timed().fit(X, y)
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[100, 99"):
        ModelComparisonDisplay.from_estimators({"a": clf}, X, y[:-1])
    assert clf.n_asked_ == 0


def test_predictions_of_another_length_are_refused():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        ModelComparisonDisplay.from_predictions(
            Y_TRUE, {"a": [GOOD, GOOD[:-1]]}, seconds={"a": 1}
        )


def test_labels_of_no_image_are_refused():
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        ModelComparisonDisplay.from_predictions([], {"a": np.array([])})


def test_another_number_of_seconds_than_seeds_is_refused():
    with pytest.raises(
        ValueError, match=r"seconds\['transfer'\] has 2 values.* 3 seeds"
    ):
        compared(seconds={"transfer": [1.0, 2.0], "scratch": 1})


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_a_cost_that_is_no_cost_is_refused(bad):
    with pytest.raises(ValueError, match=r"seconds\['scratch'\] must hold finite"):
        compared(seconds={"transfer": 1, "scratch": bad})


def test_the_cost_of_a_model_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match=r"no predictions: \['typo'\]"):
        compared(n_parameters={"typo": 1})


@pytest.mark.parametrize("option", [{"x": "hours"}, {"y_metric": "precision"}])
def test_an_unknown_axis_is_refused(option):
    ((name, value),) = option.items()
    with pytest.raises(ValueError, match=f"{name}='{value}' is unknown; pass one of"):
        compared(**option)
    with pytest.raises(ValueError, match=f"{name}='{value}' is unknown; pass one of"):
        compared().plot(**option)


def test_a_list_of_labels_is_one_seed_and_rows_of_an_array_are_many():
    display = ModelComparisonDisplay.from_predictions(
        Y_TRUE,
        {"list": list(FAIR), "rows": np.stack([GOOD, POOR])},
        seconds={"list": 1, "rows": 1},
    )
    assert display.accuracy == {"list": [0.8], "rows": [1.0, 0.4]}


def test_it_is_drawn_into_the_axes_it_is_given():
    figure, ax = plt.subplots()
    display = compared(ax=ax)
    assert display.ax_ is ax
    assert display.figure_ is figure


def test_without_matplotlib_the_error_names_the_method(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    match = r"ModelComparisonDisplay\.from_predictions requires"
    with pytest.raises(ImportError, match=match):
        compared()


def test_without_matplotlib_nothing_is_predicted(digits, monkeypatch):
    clf = Timed().fit(*digits)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    match = r"ModelComparisonDisplay\.from_estimators requires"
    with pytest.raises(ImportError, match=match):
        ModelComparisonDisplay.from_estimators({"a": clf}, *digits)
    assert clf.n_asked_ == 0


def test_macro_f1_is_a_mean_over_the_same_classes_for_every_seed():
    # By the truth alone class "cow" is not there; the second seed predicts it.
    truth = np.array(["ant", "bee"])
    display = ModelComparisonDisplay.from_predictions(
        truth,
        {"a": [truth, np.array(["ant", "cow"])], "b": truth},
        seconds={"a": 1, "b": 1},
    )
    assert display.f1_macro == {
        "a": [pytest.approx(2 / 3), pytest.approx(1 / 3)],
        "b": [pytest.approx(2 / 3)],
    }


def test_macro_f1_is_a_mean_over_the_classes_that_are_given():
    display = compared(labels=["cat", "cow", "dog", "emu"])
    assert display.f1_macro["transfer"][1] == 0.75


def test_macro_f1_counts_classes_that_estimators_know_and_nobody_has(digits):
    X, y = digits
    clf = Timed().fit(X, y)
    some = y < 2
    display = ModelComparisonDisplay.from_estimators({"a": clf}, X[some], y[some])
    expected = f1_score(
        y[some],
        np.zeros(some.sum(), int),
        labels=range(4),
        average="macro",
        zero_division=0,
    )
    assert display.f1_macro["a"] == [pytest.approx(expected)]


def test_one_class_can_be_compared():
    display = ModelComparisonDisplay.from_predictions(
        ["cat", "cat"], {"a": ["cat", "cat"]}, seconds={"a": 1}
    )
    assert display.f1_macro == {"a": [1.0]}


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (["cat", "dog"], r"lacks labels that occur: \['emu'\]"),
        (["cat", "dog", "emu", "cat"], "contains a label twice"),
    ],
)
def test_classes_that_do_not_fit_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        compared(labels=labels)


def test_measured_costs_stand_beside_those_that_estimators_report(digits):
    X, y = digits
    linear = LogisticRegression().fit(X, y)
    display = ModelComparisonDisplay.from_estimators(
        {"told": Timed(3.0).fit(X, y), "linear": linear},
        X,
        y,
        seconds={"linear": 0.5},
        n_parameters={"linear": 260},
        peak_memory={"told": 2**20, "linear": 2**21},
        x="peak_memory",
    )
    assert display.seconds == {"told": [3.0], "linear": [0.5]}
    assert display.n_parameters == {"told": None, "linear": [260.0]}
    assert [x for x, _ in medians_of(display.ax_)] == [1.0, 2.0]


def test_seconds_that_were_measured_count_before_those_of_the_estimator(digits):
    clf = Timed(3.0).fit(*digits)
    display = ModelComparisonDisplay.from_estimators(
        {"a": clf}, *digits, seconds={"a": 9.0}
    )
    assert display.seconds == {"a": [9.0]}


def test_a_regressor_is_refused(digits):
    regressor = LinearRegression().fit(*digits)
    with pytest.raises(ValueError, match=r"to be a classifier.*LinearRegression"):
        ModelComparisonDisplay.from_estimators({"a": regressor}, *digits)


def test_one_picture_is_no_set_of_images(digits):
    clf = Timed().fit(*digits)
    with pytest.raises(TypeError, match="X is a single str"):
        ModelComparisonDisplay.from_estimators({"a": clf}, "photo.jpg", digits[1])


def test_a_parameter_named_steps_is_no_pipeline(digits):
    class Stepped(Timed):
        steps = 5

    display = ModelComparisonDisplay.from_estimators(
        {"a": Stepped(3.0).fit(*digits)}, *digits
    )
    assert display.seconds == {"a": [3.0]}


@pytest.mark.parametrize("bad", ["3", True, [[1.0, 2.0, 3.0]], {"hours": 1}])
def test_costs_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match=r"seconds\['scratch'\]"):
        compared(seconds={"transfer": 1, "scratch": bad})


def test_costs_without_names_are_refused():
    with pytest.raises(TypeError, match="seconds must be a mapping"):
        compared(seconds=[1.0, 2.0])


def test_a_column_of_labels_is_one_seed():
    display = ModelComparisonDisplay.from_predictions(
        Y_TRUE, {"a": FAIR[:, None]}, seconds={"a": 1}
    )
    assert display.accuracy == {"a": [0.8]}


def test_in_axes_that_are_given_the_legend_stays_inside():
    figure, (left, _) = plt.subplots(1, 2)
    legend = compared(ax=left).ax_.get_legend()
    figure.draw_without_rendering()
    inside, outside = legend.get_window_extent(), left.get_window_extent()
    assert inside.x0 >= outside.x0
    assert inside.x1 <= outside.x1


def test_in_a_figure_of_its_own_the_legend_hides_nothing():
    display = compared()
    display.figure_.draw_without_rendering()
    beside = display.ax_.get_legend().get_window_extent()
    assert beside.x0 >= display.ax_.get_window_extent().x1
    assert beside.x1 <= display.figure_.bbox.x1


def test_accuracy_that_is_not_quite_all_is_not_rounded_up_to_it():
    truth = np.repeat([0, 1], 1500)
    missed = truth.copy()
    missed[0] = 1
    display = ModelComparisonDisplay.from_predictions(
        truth, {"a": missed}, seconds={"a": 1}
    )
    assert legend_of(display.ax_) == ["a\n> 99.9 %, 1 seed"]
