"""The pictures of a study, drawn by the displays and put into words."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils import _safe_indexing

from sktransfer._displays.comparison import ModelComparisonDisplay
from sktransfer._displays.confused_pairs import ConfusedPairsDisplay
from sktransfer._displays.content.confusions import most_confused
from sktransfer._displays.content.predictions import has_network
from sktransfer._displays.content.shown_images import prepare_images
from sktransfer._displays.drawing.captions import Caption, shorten
from sktransfer._displays.drawing.confusion_matrix import draw_matrix
from sktransfer._displays.drawing.image_grid import MOST_CHARACTERS, draw_grid
from sktransfer._displays.drawing.panels import make_figure
from sktransfer._displays.history import TrainingHistoryDisplay, begins_with_probe
from sktransfer._displays.prediction_grid import PredictionGridDisplay
from sktransfer._displays.saliency import SaliencyDisplay
from sktransfer._displays.top_losses import TopLossesDisplay
from sktransfer._study.data import StudyData
from sktransfer._study.pictures import Picture, history_name
from sktransfer._study.report import RunResult, group_by_model, summarise

CALLER = "The study"
# Dots per inch of the files; a CSS pixel is 1/96 inch by definition.
DPI, CSS_DPI = 120, 96
N_COLUMNS = 6
N_AT_RANDOM, N_HARDEST, N_SALIENCY, MOST_SAMPLES = 24, 12, 4, 12
# Inches: side of a confusion matrix, and the first picture, which fits on a phone.
CONFUSION_SIDE, COMPARISON = 5.5, (4.4, 3.3)


def draw_pictures(
    data: StudyData,
    results: Sequence[RunResult],
    fitted: Mapping[str, Any],
    subject: str,
) -> tuple[dict[str, Picture], list[str]]:
    """Draw everything that can be drawn.

    Parameters
    ----------
    data : StudyData
        The images of the study.

    results : sequence of RunResult
        What its fits gave.

    fitted : mapping of str to classifier
        The models of the last seed.

    subject : str
        The model whose predictions are shown image by image.

    Returns
    -------
    pictures : dict of str to Picture
        By name.

    left_out : list of str
        Which pictures are missing and why, one sentence each.
    """
    import matplotlib.pyplot as plt

    run = group_by_model(results)[subject][-1]
    # The user's own style may be unsuitable here, such as white on black.
    with plt.style.context("default"):
        pictures = {
            "comparison": _draw_comparison(data, results),
            "samples": _draw_samples(data),
            "confusion": _draw_confusion(data, results),
            "at_random": _draw_at_random(data, run),
            **{
                history_name(name): _draw_history(name, model)
                for name, model in fitted.items()
                if getattr(model, "history_", None)
            },
            **dict(_draw_mistakes(data, run)),
        }
        if gives_maps(fitted[subject]):
            pictures["saliency"] = _draw_saliency(data, fitted[subject], run)
    return pictures, _explain_missing(data, run, fitted)


def _explain_missing(
    data: StudyData, run: RunResult, fitted: Mapping[str, Any]
) -> list[str]:
    """Say which pictures are missing, and why."""
    reasons = [
        f"The training history of {name}: this model keeps none."
        for name, model in fitted.items()
        if not getattr(model, "history_", None)
    ]
    if run.proba is None:
        reasons.append(
            f"The most confident mistakes and highest losses of {run.model}: this "
            "model gives no probabilities."
        )
    if not len(_find_mistakes(data, run)):
        reasons.append(f"The mistakes of {run.model}: there are none.")
    if not has_network(fitted[run.model]):
        reasons.append(
            f"What {run.model} looks at: this model has no network of stages."
        )
    elif not gives_maps(fitted[run.model]):
        reasons.append(
            f"What {run.model} looks at: no stage of this network returns maps."
        )
    return reasons


def gives_maps(model: Any) -> bool:
    """Whether a stage of a model returns maps, which Grad-CAM needs."""
    from sktransfer._displays.content.grad_cam import has_maps

    return has_network(model) and has_maps(model.net_.module_, model.image_shape_)


def _make_picture(figure: Any, title: str, caption: str, alt: str) -> Picture:
    """Keep a figure as PNG, and close it."""
    import matplotlib.pyplot as plt

    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=DPI, facecolor="white")
    width, height = figure.get_size_inches() * CSS_DPI
    plt.close(figure)
    return Picture(title, caption, alt, file.getvalue(), round(width), round(height))


def _draw_comparison(data: StudyData, results: Sequence[RunResult]) -> Picture:
    """Draw accuracy against seconds, one point per seed."""
    groups = group_by_model(results)
    figure = make_figure(*COMPARISON, CALLER)
    ModelComparisonDisplay.from_predictions(
        data.y_test,
        {model: [run.predictions for run in runs] for model, runs in groups.items()},
        labels=data.labels,
        seconds={
            model: [run.seconds for run in runs] for model, runs in groups.items()
        },
        ax=figure.add_subplot(),
    )
    texts = [
        f"{model} {row['accuracy']['median']:.1%} in {row['seconds']['median']:.1f} s"
        for model, row in summarise(results).items()
    ]
    return _make_picture(
        figure,
        "Accuracy against time",
        "Higher is more accurate; further left is faster to train.",
        f"Chart of test accuracy against training time: {'; '.join(texts)}.",
    )


def _draw_samples(data: StudyData) -> Picture:
    """Draw one random training image of each of the first classes."""
    order = np.random.default_rng(0).permutation(len(data.y_train))
    labels = data.y_train[order]
    rows = [
        int(order[np.argmax(labels == label)]) for label in data.labels[:MOST_SAMPLES]
    ]
    names = data.names[: len(rows)]
    frame, _, _ = draw_grid(
        None,
        prepare_images(data.X_train, rows),
        [Caption(shorten(name, MOST_CHARACTERS)) for name in names],
        N_COLUMNS,
        CALLER,
    )
    is_all = len(rows) == len(data.names)
    which = "class" if is_all else f"of the first {len(rows)} classes"
    return _make_picture(
        frame.figure,
        "Training images",
        f"One image of each {which}, chosen at random.",
        f"{len(rows)} training images, one of each of these classes: "
        f"{', '.join(names)}.",
    )


def _draw_confusion(data: StudyData, results: Sequence[RunResult]) -> Picture:
    """Draw the confusion matrix of each model."""
    runs = [group[-1] for group in group_by_model(results).values()]
    figure = make_figure(CONFUSION_SIDE * len(runs), CONFUSION_SIDE, CALLER)
    # The default engine cuts off the titles of panels that must be square.
    figure.set_layout_engine("compressed")
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for ax, run in zip(panels, runs, strict=True):
        counts = confusion_matrix(data.y_test, run.predictions, labels=data.labels)
        draw_matrix(ax, counts, data.names, (), "Blues")
        ax.set_title(f"{run.model}: accuracy {run.accuracy:.1%}")
    return _make_picture(
        figure,
        "Confusion matrices",
        f"Test images by true class and predicted class; seed {runs[-1].seed}. "
        "Correct predictions are on the diagonal.",
        " ".join(
            f"Confusion matrix of {run.model}: {run.accuracy:.1%} of the test images "
            "are on the diagonal."
            for run in runs
        ),
    )


def _draw_history(name: str, model: Any) -> Picture:
    """Draw the loss and the accuracy of each epoch."""
    last = model.history_[-1]
    first = ""
    if begins_with_probe(model):
        first = (
            " The first epoch is the linear probe: the head alone, solved on the "
            "features of the pretrained network."
        )
    return _make_picture(
        TrainingHistoryDisplay.from_estimator(model).figure_,
        f"Training of {name}",
        "Loss and accuracy of each epoch, and the epochs in which stages began to "
        f"learn.{first}",
        f"Two charts of loss and accuracy of {name} over {len(model.history_)} epochs; "
        f"training accuracy ends at {last['train_accuracy']:.1%}.",
    )


def _find_mistakes(data: StudyData, run: RunResult) -> np.ndarray:
    """Return the rows of the test images that were predicted wrong."""
    return np.flatnonzero(run.predictions != data.y_test)


def _draw_display(display: Any, data: StudyData, run: RunResult, **options: Any) -> Any:
    """Draw a display of the predictions of a run, and return its figure."""
    proba = run.proba
    if proba is None:  # such a model is always certain
        proba = (run.predictions[:, None] == data.labels).astype(float)
    return display.from_predictions(
        data.X_test,
        data.y_test,
        proba,
        classes=data.labels,
        display_labels=data.names,
        **options,
    ).figure_


def _draw_at_random(data: StudyData, run: RunResult) -> Picture:
    """Draw random test images: a choice by hand could flatter the model."""
    n = min(N_AT_RANDOM, len(data.y_test))
    options = {"n_images": n, "n_columns": N_COLUMNS, "random_state": 0}
    note = "" if run.proba is not None else " The model gives no probabilities."
    return _make_picture(
        _draw_display(PredictionGridDisplay, data, run, **options),
        "Drawn at random",
        f"{n} test images with their class, the prediction and its probability; wrong "
        f"predictions are framed and marked.{note}",
        f"Grid of {n} test images drawn at random, each with its true class and its "
        f"predicted class. Of all test images, {run.accuracy:.1%} are predicted "
        "correctly.",
    )


def _draw_mistakes(data: StudyData, run: RunResult) -> Iterator[tuple[str, Picture]]:
    """Draw what the model finds hard or gets wrong; yield names and pictures."""
    wrong = _find_mistakes(data, run)
    if run.proba is not None:
        n = min(N_HARDEST, len(data.y_test))
        options: dict[str, Any] = {"n_images": N_HARDEST, "n_columns": N_COLUMNS}
        yield (
            "top_losses",
            _make_picture(
                _draw_display(TopLossesDisplay, data, run, **options),
                "Highest losses",
                f"The {n} test images whose true class got the lowest probability.",
                f"Grid of the {n} test images with the highest loss.",
            ),
        )
        if len(wrong):
            n = min(N_HARDEST, len(wrong))
            options["show"] = "most_confident_wrong"
            yield (
                "most_confident_wrong",
                _make_picture(
                    _draw_display(PredictionGridDisplay, data, run, **options),
                    "Most confident mistakes",
                    f"{n} of {len(wrong)} wrong predictions, the most confident first.",
                    f"Grid of the {n} test images that were predicted wrong with the "
                    "highest probability.",
                ),
            )
    if len(wrong):
        yield "confused_pairs", _draw_confused_pairs(data, run)


def _draw_confused_pairs(data: StudyData, run: RunResult) -> Picture:
    """Draw the pairs of classes that are confused most often, with examples."""
    name_of = dict(zip(data.labels.tolist(), data.names, strict=True))
    pairs = most_confused(data.y_test, run.predictions, labels=data.labels, n_pairs=3)
    listed = "; ".join(
        f"{name_of[true]} predicted as {name_of[predicted]}, "
        f"{'once' if count == 1 else f'{count} times'}"
        for true, predicted, count in pairs
    )
    return _make_picture(
        _draw_display(ConfusedPairsDisplay, data, run),
        "Most confused classes",
        f"{listed}.",
        f"Confusion matrix beside examples of the most confused pairs: {listed}.",
    )


def _draw_saliency(data: StudyData, model: Any, run: RunResult) -> Picture:
    """Draw random test images with the regions that support the prediction."""
    rows = np.random.default_rng(0).permutation(len(data.y_test))[:N_SALIENCY]
    display = SaliencyDisplay.from_estimator(
        model, _safe_indexing(data.X_test, rows.tolist()), display_labels=data.names
    )
    return _make_picture(
        display.figure_,
        "What the model looks at",
        "Test images drawn at random; below each, the regions in which the last stage "
        "with maps finds evidence for the predicted class (Grad-CAM).",
        f"{len(rows)} test images, each above the same image with the regions that "
        f"support the class predicted by {run.model}.",
    )
