import sys
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from sktransfer import ResNetTransferClassifier, TrainingHistoryDisplay
from sktransfer._displays.history import begins_with_probe


@pytest.fixture(scope="module")
def digits():
    digits = load_digits(n_class=4)
    return digits.data[:100] / 16, digits.target[:100]


@pytest.fixture(scope="module")
def fitted(digits):
    clf = ResNetTransferClassifier(
        "mini_resnet18",
        unfreeze_schedule={0: 0, 1: 2},
        early_stopping=True,
        n_iter_no_change=5,
        augment=None,
        max_epochs=3,
        random_state=0,
    )
    return clf.fit(*digits)


def rows(depths, *, valid_losses=None, seconds=1.0):
    history = []
    for i, depth in enumerate(depths):
        row = {
            "train_loss": 2.0 / (i + 1),
            "train_accuracy": 1 - 0.5 / (i + 1),
            "unfreeze_depth": depth,
            "dur": seconds,
        }
        if valid_losses is not None:
            row["valid_loss"] = valid_losses[i]
            row["valid_accuracy"] = 0.5
        history.append(row)
    return history


def lines_of(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def marks_of(ax):
    """Text by position of the stages named above a panel."""
    (top,) = ax.child_axes
    return {
        float(at): label.get_text()
        for at, label in zip(top.get_xticks(), top.get_xticklabels(), strict=True)
    }


def verticals_of(ax):
    is_vertical = [line for line in ax.get_lines() if len(set(line.get_xdata())) == 1]
    return [
        float(line.get_xdata()[0]) for line in is_vertical if len(line.get_xdata()) > 1
    ]


def legends_of(display):
    return [
        text.get_text()
        for ax in display.axes_
        if ax.get_legend()
        for text in ax.get_legend().get_texts()
    ]


def test_the_curves_are_those_of_the_history(fitted):
    loss, accuracy = TrainingHistoryDisplay.from_estimator(fitted).axes_
    for ax, key in [(loss, "loss"), (accuracy, "accuracy")]:
        for label, prefix in [("training", "train"), ("validation", "valid")]:
            line = lines_of(ax)[label]
            assert list(line.get_xdata()) == [1, 2, 3]
            expected = [row[f"{prefix}_{key}"] for row in fitted.history_]
            assert list(line.get_ydata()) == expected


def test_the_stages_that_open_are_named_above_the_epoch(fitted):
    for ax in TrainingHistoryDisplay.from_estimator(fitted).axes_:
        assert marks_of(ax) == {1.0: "linear probe", 2.0: "layer3, layer4"}
        assert verticals_of(ax) == [1.0, 2.0]


def test_an_epoch_that_trained_the_head_is_no_linear_probe(digits):
    clf = ResNetTransferClassifier(
        "mini_resnet18",
        unfreeze_depth=0,
        head_init="random",
        augment=None,
        max_epochs=1,
        random_state=0,
    )
    display = TrainingHistoryDisplay.from_estimator(clf.fit(*digits))
    assert not display.starts_solved
    assert marks_of(display.axes_[0]) == {1.0: "head"}


def test_a_linear_probe_is_named_only_if_it_has_the_mark_for_itself():
    history = rows([0, 1, 2], seconds=1.0)
    history[0]["dur"] = 0.01  # the next mark is too close to have its own name
    names = ["stem", "layer1", "head"]
    for x, expected in (("epoch", "linear probe"), ("seconds", "layer1, head")):
        display = TrainingHistoryDisplay(
            history=history, stage_names=names, x=x, starts_solved=True
        ).plot()
        assert next(iter(marks_of(display.axes_[0]).values())) == expected


@pytest.mark.parametrize(
    ("head_init", "warm_start", "depth", "expected"),
    [
        ("probe", False, 0, True),
        ("random", False, 0, False),
        ("probe", True, 0, False),
        ("probe", False, 2, False),
    ],
)
def test_a_probe_is_recognised_by_its_settings(head_init, warm_start, depth, expected):
    fitted = SimpleNamespace(
        head_init=head_init, warm_start=warm_start, history_=rows([depth])
    )
    assert begins_with_probe(fitted) is expected


def test_the_best_epoch_has_a_star_on_the_validation_curves(fitted):
    display = TrainingHistoryDisplay.from_estimator(fitted)
    label = f"best epoch: {fitted.best_epoch_}"
    for ax in display.axes_:
        star, curve = lines_of(ax)[label], lines_of(ax)["validation"]
        assert list(star.get_xdata()) == [fitted.best_epoch_]
        assert star.get_ydata()[0] == curve.get_ydata()[fitted.best_epoch_ - 1]
    assert label in legends_of(display)


def test_the_best_epoch_of_an_estimator_is_its_own():
    class Fitted(BaseEstimator):
        history_ = rows([0, 0], valid_losses=[1.0, 2.0])
        best_epoch_ = 2

        def fit(self, X, y):
            return self

        def __sklearn_is_fitted__(self):
            return True

    assert TrainingHistoryDisplay.from_estimator(Fitted()).best_epoch == 2


def test_the_best_epoch_of_a_history_has_the_least_validation_loss():
    history = rows([0, 0, 0], valid_losses=[1.0, 0.2, 0.3])
    display = TrainingHistoryDisplay.from_history(history)
    assert display.best_epoch == 2
    assert list(lines_of(display.axes_[0])["best epoch: 2"].get_xdata()) == [2]


def test_without_validation_there_is_neither_its_curve_nor_a_best_epoch():
    display = TrainingHistoryDisplay.from_history(rows([0, 1]))
    assert display.best_epoch is None
    assert legends_of(display) == ["training", "stages opened"]
    assert "validation" not in lines_of(display.axes_[0])


def test_a_best_epoch_without_validation_is_marked_on_the_training_curve():
    display = TrainingHistoryDisplay(history=rows([0, 0]), best_epoch=2).plot()
    assert list(lines_of(display.axes_[0])["best epoch: 2"].get_ydata()) == [1.0]


def test_seconds_are_counted_from_the_first_epoch_on():
    history = rows([0, 1, 1], seconds=2.0)
    display = TrainingHistoryDisplay.from_history(history, x="seconds")
    ax = display.axes_[0]
    assert list(lines_of(ax)["training"].get_xdata()) == [2.0, 4.0, 6.0]
    assert ax.get_xlabel() == "Seconds of epochs"


def test_in_seconds_a_stage_opens_where_its_epoch_begins():
    history = rows([0, 1, 1], seconds=2.0)
    display = TrainingHistoryDisplay.from_history(history, x="seconds")
    assert verticals_of(display.axes_[0]) == [0.0, 2.0]


def test_without_an_estimator_a_mark_shows_the_depth():
    display = TrainingHistoryDisplay.from_history(rows([0, 2, 2, 3]))
    assert marks_of(display.axes_[0]) == {
        1.0: "depth 0",
        2.0: "depth 2",
        4.0: "depth 3",
    }


@pytest.mark.parametrize(
    ("depths", "label"),
    [([1], "all stages"), ([0], "head")],
)
def test_stages_that_learn_from_the_first_epoch_are_named(depths, label):
    display = TrainingHistoryDisplay(history=rows(depths), stage_names=["stem", "head"])
    assert marks_of(display.plot().axes_[0]) == {1.0: label}


def test_many_stages_that_open_together_are_named_as_a_range():
    names = ["stem", "layer1", "layer2", "layer3", "layer4", "head"]
    display = TrainingHistoryDisplay(history=rows([0, 4]), stage_names=names).plot()
    assert marks_of(display.axes_[0])[2.0] == "layer1 to layer4"


def test_marks_too_close_to_each_other_share_a_label_but_not_a_line():
    names = ["stem", "layer1", "layer2", "head"]
    history = rows([0, 1, 2, *[2] * 97])
    display = TrainingHistoryDisplay(history=history, stage_names=names).plot()
    assert marks_of(display.axes_[0]) == {1.0: "layer1 to head"}
    assert verticals_of(display.axes_[0]) == [1.0, 2.0, 3.0]


def test_histories_put_one_after_another_are_counted_on():
    first = rows([0, 1], valid_losses=[2.0, 1.0])
    display = TrainingHistoryDisplay.from_history([*first, *rows([1, 1])])
    lines = lines_of(display.axes_[0])
    assert list(lines["training"].get_xdata()) == [1, 2, 3, 4]
    np.testing.assert_array_equal(
        lines["validation"].get_ydata(), [2.0, 1.0, np.nan, np.nan]
    )
    assert list(marks_of(display.axes_[0])) == [1.0, 2.0]


def test_stages_that_close_and_open_again_are_marked_once():
    display = TrainingHistoryDisplay.from_history(rows([0, 1, 0, 1, 2]))
    assert list(marks_of(display.axes_[0])) == [1.0, 2.0, 5.0]


def test_a_history_without_depths_has_no_marks():
    history = [{"train_loss": 1.0, "train_accuracy": 0.5}]
    ax = TrainingHistoryDisplay.from_history(history).axes_[0]
    assert not ax.child_axes
    assert not verticals_of(ax)


@pytest.mark.parametrize("n_epochs", [1, 2, 5, 30, 100])
def test_ticks_are_whole_epochs_of_the_history(n_epochs):
    display = TrainingHistoryDisplay.from_history(rows([0] * n_epochs))
    low, high = display.axes_[0].get_xlim()
    ticks = [tick for tick in display.axes_[0].get_xticks() if low <= tick <= high]
    assert ticks
    assert all(tick == int(tick) and 1 <= tick <= n_epochs for tick in ticks)


def test_no_accuracy_above_all_is_on_the_axis():
    history = [{"train_loss": 0.0, "train_accuracy": 1.0}]
    ax = TrainingHistoryDisplay.from_history(history).axes_[1]
    assert 1.0 < ax.get_ylim()[1] <= 1.02


def test_training_and_validation_differ_in_more_than_colour():
    history = rows([0, 0], valid_losses=[1.0, 2.0])
    lines = lines_of(TrainingHistoryDisplay.from_history(history).axes_[0])
    looks = [
        {line.get_marker(), line.get_linestyle()}
        for line in (lines["training"], lines["validation"])
    ]
    assert not looks[0] & looks[1]


def test_the_last_step_of_a_pipeline_and_the_best_of_a_search_are_looked_through(
    digits, fitted
):
    pipeline = make_pipeline(FunctionTransformer(), fitted)
    search = GridSearchCV(pipeline, {}, refit=True)
    search.best_estimator_ = pipeline
    search.cv_results_ = {}
    for estimator in (pipeline, search):
        display = TrainingHistoryDisplay.from_estimator(estimator)
        assert display.history == fitted.history_
        assert display.stage_names == fitted.net_.module_.names


def test_it_is_drawn_in_the_place_of_the_axes_it_is_given():
    figure, (left, right) = plt.subplots(1, 2)
    display = TrainingHistoryDisplay.from_history(rows([0]), ax=right)
    assert display.ax_ is right
    assert display.figure_ is figure
    assert display.axes_.shape == (2,)
    assert left.axison
    assert not right.axison


def test_it_can_be_drawn_again_over_another_axis():
    display = TrainingHistoryDisplay.from_history(rows([0, 1]))
    assert display.axes_[0].get_xlabel() == "Epoch"
    assert display.plot(x="seconds") is display
    assert display.axes_[0].get_xlabel() == "Seconds of epochs"


def test_an_unfitted_estimator_is_refused():
    with pytest.raises(NotFittedError):
        TrainingHistoryDisplay.from_estimator(ResNetTransferClassifier())


def test_an_estimator_without_a_history_is_refused(digits):
    clf = make_pipeline(LogisticRegression()).fit(digits[0], digits[1])
    with pytest.raises(ValueError, match=r"with a history_.* Got Pipeline instead"):
        TrainingHistoryDisplay.from_estimator(clf)


def test_an_empty_history_is_refused():
    with pytest.raises(ValueError, match="history has no rows"):
        TrainingHistoryDisplay.from_history([])


def test_a_row_that_lacks_a_value_is_named():
    history = [*rows([0]), {"train_loss": 1.0}]
    with pytest.raises(ValueError, match="Row 1 of history has no 'train_accuracy'"):
        TrainingHistoryDisplay.from_history(history)


def test_seconds_that_nobody_measured_are_refused():
    history = [{"train_loss": 1.0, "train_accuracy": 0.5}]
    with pytest.raises(ValueError, match=r"'dur'.*pass x='epoch'"):
        TrainingHistoryDisplay.from_history(history, x="seconds")


def test_an_unknown_axis_is_refused():
    with pytest.raises(ValueError, match="x='hours' is unknown"):
        TrainingHistoryDisplay.from_history(rows([0]), x="hours")


def test_without_matplotlib_the_error_names_the_method(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    match = r"TrainingHistoryDisplay\.from_history requires"
    with pytest.raises(ImportError, match=match):
        TrainingHistoryDisplay.from_history(rows([0]))
    match = r"TrainingHistoryDisplay\.plot requires"
    with pytest.raises(ImportError, match=match):
        TrainingHistoryDisplay(history=rows([0])).plot()


def test_stages_of_a_history_without_its_estimator_are_named():
    names = ["stem", "layer1", "layer2", "head"]
    display = TrainingHistoryDisplay.from_history(rows([0, 2]), stage_names=names)
    assert marks_of(display.axes_[0]) == {1.0: "head", 2.0: "layer1, layer2"}


def test_fewer_names_than_stages_that_open_are_refused():
    with pytest.raises(ValueError, match=r"stage_names has 1 names.*needs 3; pass"):
        TrainingHistoryDisplay.from_history(rows([0, 2]), stage_names=["head"])


@pytest.mark.parametrize("best_epoch", [0, 3, -1])
def test_a_best_epoch_that_is_none_of_the_epochs_is_refused(best_epoch):
    display = TrainingHistoryDisplay(history=rows([0, 0]), best_epoch=best_epoch)
    with pytest.raises(ValueError, match=f"best_epoch == {best_epoch}, must be"):
        display.plot()


def test_rows_that_were_only_stored_are_checked_when_they_are_drawn():
    with pytest.raises(ValueError, match="Row 0 of history has no 'train_accuracy'"):
        TrainingHistoryDisplay(history=[{"train_loss": 1.0}]).plot()


def test_a_depth_that_is_none_opens_nothing():
    history = rows([None, 0, None, 1])
    display = TrainingHistoryDisplay.from_history(history)
    assert list(marks_of(display.axes_[0])) == [2.0, 4.0]


@pytest.mark.parametrize(
    "history",
    [{"train_loss": [1.0], "train_accuracy": [0.5]}, "train_loss", None, [[1.0, 0.5]]],
)
def test_what_is_no_list_of_rows_is_refused(history):
    with pytest.raises(TypeError, match=r"history must be a list of dicts"):
        TrainingHistoryDisplay.from_history(history)


def test_rows_of_another_kind_are_not_taken_for_a_history_of_a_classifier():
    class Other(BaseEstimator):
        history_ = [{"epoch": 1, "train_loss": 1.0, "valid_loss": 1.0}]  # noqa: RUF012

        def fit(self, X, y):
            return self

        def __sklearn_is_fitted__(self):
            return True

    with pytest.raises(ValueError, match=r"train_accuracy, such as .* Got Other"):
        TrainingHistoryDisplay.from_estimator(Other())


def test_parameters_named_steps_are_no_pipeline():
    class Stepped(BaseEstimator):
        history_ = rows([0])
        steps = 5

        def fit(self, X, y):
            return self

        def __sklearn_is_fitted__(self):
            return True

    assert TrainingHistoryDisplay.from_estimator(Stepped()).history == rows([0])
