"""The pictures of a study: drawn by the displays, kept as PNG with their words."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix
from sklearn.utils import _safe_indexing

from sktransfer._displays.comparison import ModelComparisonDisplay
from sktransfer._displays.confused_pairs import ConfusedPairsDisplay
from sktransfer._displays.content.confusions import most_confused
from sktransfer._displays.content.shown_images import prepare_images
from sktransfer._displays.drawing.captions import Caption, shorten
from sktransfer._displays.drawing.confusion_matrix import draw_matrix
from sktransfer._displays.drawing.image_grid import MOST_CHARACTERS, draw_grid
from sktransfer._displays.drawing.panels import make_figure
from sktransfer._displays.history import TrainingHistoryDisplay
from sktransfer._displays.prediction_grid import PredictionGridDisplay
from sktransfer._displays.saliency import SaliencyDisplay
from sktransfer._displays.top_losses import TopLossesDisplay
from sktransfer._estimators.classifier import BaseImageClassifier
from sktransfer._study.data import StudyData
from sktransfer._study.report import RunResult, by_model, summary

CALLER = "The study"
# Dots of the files an inch; a CSS pixel is 1/96 inch by definition.
DPI, CSS_DPI = 120, 96
N_COLUMNS = 6
N_BY_LOT, N_HARDEST, N_SALIENCY, MOST_SAMPLES = 24, 12, 4, 12
# Inches of a confusion matrix.
CONFUSION_SIDE = 5.5
# Names of pictures of the whole study, and of those of single test images in the order
# in which they are shown; the histories are named after their models.
OF_THE_STUDY = ("comparison", "samples", "confusion")
IMAGE_BY_IMAGE = (
    "by_lot",
    "most_confident_wrong",
    "top_losses",
    "confused_pairs",
    "saliency",
)


@dataclass(frozen=True)
class Picture:
    """A picture and its words; `width` and `height` in CSS pixels."""

    title: str
    caption: str
    alt: str
    png: bytes
    width: int
    height: int

    @property
    def uri(self) -> str:
        """The picture itself, as the address of an image."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode('ascii')}"


def draw_pictures(
    data: StudyData,
    results: Sequence[RunResult],
    fitted: Mapping[str, Any],
    subject: str,
) -> tuple[dict[str, Picture], list[str]]:
    """Draw everything that can be drawn.

    Parameters
    ----------
    data, results
        Of the study.

    fitted : mapping of str to classifier
        The models of the last seed.

    subject : str
        The model whose predictions are shown image by image.

    Returns
    -------
    pictures : dict of str to Picture

    left_out : list of str
        Why others are not there.
    """
    import matplotlib.pyplot as plt

    run = by_model(results)[subject][-1]
    # The user's own style may be anything, such as white on black.
    with plt.style.context("default"):
        pictures = {
            "comparison": _comparison(data, results),
            "samples": _samples(data),
            "confusion": _confusion(data, results),
            "by_lot": _by_lot(data, run),
            **{
                history_of(name): _history(name, model)
                for name, model in fitted.items()
                if getattr(model, "history_", None)
            },
            **dict(_mistakes(data, run)),
        }
        if isinstance(fitted[subject], BaseImageClassifier):
            pictures["saliency"] = _saliency(data, fitted[subject], run)
    return pictures, _left_out(data, run, fitted)


def history_of(model_name: str) -> str:
    """Name of the picture of a model's training."""
    return f"history_{model_name}"


def png_files(folder: Path, model_names: Iterable[str]) -> dict[str, Path]:
    """The file in `folder` of every picture that a study may have, by name."""
    names = [*OF_THE_STUDY, *map(history_of, model_names), *IMAGE_BY_IMAGE]
    return {name: folder / f"{name}.png" for name in names}


def _left_out(data: StudyData, run: RunResult, fitted: Mapping[str, Any]) -> list[str]:
    """Say which pictures are missing, and why."""
    reasons = [
        f"The training history of {name}: it keeps none."
        for name, model in fitted.items()
        if not getattr(model, "history_", None)
    ]
    if run.proba is None:
        reasons.append(
            f"The most confident mistakes and highest losses of {run.model}: it gives "
            "no probabilities."
        )
    if not len(_wrong(data, run)):
        reasons.append(f"The mistakes of {run.model}: there are none.")
    if not isinstance(fitted[run.model], BaseImageClassifier):
        reasons.append(f"What {run.model} looks at: it has no network of stages.")
    return reasons


def _picture(figure: Any, title: str, caption: str, alt: str) -> Picture:
    """Keep a figure as PNG, and close it."""
    import matplotlib.pyplot as plt

    written = io.BytesIO()
    figure.savefig(written, format="png", dpi=DPI, facecolor="white")
    width, height = figure.get_size_inches() * CSS_DPI
    plt.close(figure)
    return Picture(title, caption, alt, written.getvalue(), round(width), round(height))


def _comparison(data: StudyData, results: Sequence[RunResult]) -> Picture:
    """Accuracy against seconds, a point a seed."""
    groups = by_model(results)
    display = ModelComparisonDisplay.from_predictions(
        data.y_test,
        {model: [run.predictions for run in runs] for model, runs in groups.items()},
        labels=data.labels,
        seconds={
            model: [run.seconds for run in runs] for model, runs in groups.items()
        },
    )
    told = [
        f"{model} {row['accuracy']['median']:.1%} in {row['seconds']['median']:.1f} s"
        for model, row in summary(results).items()
    ]
    return _picture(
        display.figure_,
        "Accuracy against time",
        "Further up is more accurate, further left is faster to train.",
        f"Chart of test accuracy against fit seconds: {'; '.join(told)}.",
    )


def _samples(data: StudyData) -> Picture:
    """A training image of each of the first classes, drawn by lot."""
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
    which = "each class" if len(rows) == len(data.names) else "some classes"
    return _picture(
        frame.figure,
        "Training images",
        f"One of {which}, drawn by lot.",
        f"{len(rows)} training images, one of each of these classes: "
        f"{', '.join(names)}.",
    )


def _confusion(data: StudyData, results: Sequence[RunResult]) -> Picture:
    """The confusion matrix of each model."""
    runs = [group[-1] for group in by_model(results).values()]
    figure = make_figure(CONFUSION_SIDE * len(runs), CONFUSION_SIDE, CALLER)
    # The other engine cuts the titles of panels that must be square.
    figure.set_layout_engine("compressed")
    panels = figure.subplots(1, len(runs), squeeze=False)[0]
    for ax, run in zip(panels, runs, strict=True):
        counts = confusion_matrix(data.y_test, run.predictions, labels=data.labels)
        draw_matrix(ax, counts, data.names, (), "Blues")
        ax.set_title(f"{run.model}: accuracy {run.accuracy:.1%}")
    return _picture(
        figure,
        "Confusion matrices",
        f"Test images of each class, by what was predicted; seed {runs[-1].seed}. "
        "Those on the diagonal are right.",
        " ".join(
            f"Confusion matrix of {run.model}: {run.accuracy:.1%} of the test images "
            "are on the diagonal."
            for run in runs
        ),
    )


def _history(name: str, model: Any) -> Picture:
    """Loss and accuracy of each epoch."""
    last = model.history_[-1]
    return _picture(
        TrainingHistoryDisplay.from_estimator(model).figure_,
        f"Training of {name}",
        "Loss and accuracy of each epoch, and where stages began to learn.",
        f"Two charts of loss and accuracy of {name} over {len(model.history_)} epochs; "
        f"training accuracy ends at {last['train_accuracy']:.1%}.",
    )


def _wrong(data: StudyData, run: RunResult) -> np.ndarray:
    """Rows of the test images that were misjudged."""
    return np.flatnonzero(run.predictions != data.y_test)


def _grid(display: Any, data: StudyData, run: RunResult, **options: Any) -> Any:
    """A display of predictions that were computed before, drawn."""
    proba = run.proba
    if proba is None:  # a model without probabilities is sure of its answer
        proba = (run.predictions[:, None] == data.labels).astype(float)
    return display.from_predictions(
        data.X_test,
        data.y_test,
        proba,
        classes=data.labels,
        display_labels=data.names,
        **options,
    ).figure_


def _by_lot(data: StudyData, run: RunResult) -> Picture:
    """Test images and predictions; a choice by hand would flatter the model."""
    n = min(N_BY_LOT, len(data.y_test))
    options = {"n_images": n, "n_columns": N_COLUMNS, "random_state": 0}
    sure = "" if run.proba is not None else " The model gives no probabilities."
    return _picture(
        _grid(PredictionGridDisplay, data, run, **options),
        "Drawn by lot",
        f"{n} test images with their class, the prediction and its probability; wrong "
        f"ones are framed and marked.{sure}",
        f"Grid of {n} test images drawn by lot, each with its true and its predicted "
        f"class. Of all test images {run.accuracy:.1%} are predicted right.",
    )


def _mistakes(data: StudyData, run: RunResult) -> Iterator[tuple[str, Picture]]:
    """Pictures of what the model gets wrong, where it does, by name."""
    wrong = _wrong(data, run)
    if run.proba is not None:
        n = min(N_HARDEST, len(data.y_test))
        options: dict[str, Any] = {"n_images": N_HARDEST, "n_columns": N_COLUMNS}
        yield (
            "top_losses",
            _picture(
                _grid(TopLossesDisplay, data, run, **options),
                "Highest losses",
                f"The {n} test images whose own class was given the least probability.",
                f"Grid of the {n} test images with the highest loss.",
            ),
        )
        if len(wrong):
            n = min(N_HARDEST, len(wrong))
            options["show"] = "most_confident_wrong"
            yield (
                "most_confident_wrong",
                _picture(
                    _grid(PredictionGridDisplay, data, run, **options),
                    "Wrong, and surest of it",
                    f"{n} of {len(wrong)} wrong predictions, by their probability.",
                    f"Grid of the {n} test images that were predicted wrong with the "
                    "highest probability.",
                ),
            )
    if len(wrong):
        yield "confused_pairs", _confused_pairs(data, run)


def _confused_pairs(data: StudyData, run: RunResult) -> Picture:
    """The pairs of classes that are confused most, with examples."""
    name_of = dict(zip(data.labels.tolist(), data.names, strict=True))
    pairs = most_confused(data.y_test, run.predictions, labels=data.labels, n_pairs=3)
    told = "; ".join(
        f"{name_of[true]} taken for {name_of[predicted]}, {count} times"
        for true, predicted, count in pairs
    )
    return _picture(
        _grid(ConfusedPairsDisplay, data, run),
        "Confused most",
        f"{told}.",
        f"Confusion matrix beside examples of the pairs confused most: {told}.",
    )


def _saliency(data: StudyData, model: Any, run: RunResult) -> Picture:
    """Where the model finds what speaks for its prediction, images drawn by lot."""
    rows = np.random.default_rng(0).permutation(len(data.y_test))[:N_SALIENCY]
    display = SaliencyDisplay.from_estimator(
        model, _safe_indexing(data.X_test, rows.tolist()), display_labels=data.names
    )
    return _picture(
        display.figure_,
        "What the model looks at",
        "Test images drawn by lot, and below each where the last stage before the "
        "head finds what speaks for the predicted class (Grad-CAM).",
        f"{len(rows)} test images, each above the same image with the places that "
        f"speak for the class predicted by {run.model}.",
    )
