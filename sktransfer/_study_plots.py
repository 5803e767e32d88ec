"""The study's figures, drawn without pyplot's global state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

MAX_VALUES = 20
COLUMNS = 8


def new_figure(width: float, height: float) -> Any:
    """Return an empty figure of `width` x `height` inches; ImportError without it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "The study draws with matplotlib, which is not installed: "
            "pip install 'sktransfer[plot]'."
        ) from error
    return Figure(figsize=(width, height), layout="constrained")


def draw_confusion_matrices(
    path: Path,
    y_true: np.ndarray,
    predictions: Mapping[str, np.ndarray],
    labels: np.ndarray,
    names: Sequence[str],
) -> None:
    """Draw one confusion matrix a model; labels of shape (n,), in `labels`."""
    from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

    figure = new_figure(6 * len(predictions), 5.5)
    panels = figure.subplots(1, len(predictions), squeeze=False)[0]
    matrices = {
        model: confusion_matrix(y_true, predicted, labels=labels)
        for model, predicted in predictions.items()
    }
    most = max(counts.max() for counts in matrices.values())
    for ax, (model, counts) in zip(panels, matrices.items(), strict=True):
        ConfusionMatrixDisplay(counts, display_labels=names).plot(
            im_kw={"vmin": 0, "vmax": most},  # one colour means one number
            ax=ax,
            cmap="Blues",
            colorbar=False,
            include_values=len(names) <= MAX_VALUES,
            xticks_rotation="vertical" if max(map(len, names)) > 2 else "horizontal",
        )
        ax.set_title(f"{model}: accuracy {np.mean(predictions[model] == y_true):.1%}")
    figure.savefig(path, dpi=120)


def draw_accuracy_time(
    path: Path, points: Mapping[str, Sequence[tuple[float, float]]]
) -> None:
    """Draw accuracy against training seconds; a (seconds, accuracy) pair a seed."""
    figure = new_figure(6, 4.5)
    ax = figure.subplots()
    for marker, (model, pairs) in zip("osD^v", points.items(), strict=False):
        seconds, accuracies = zip(*pairs, strict=True)
        ax.scatter(seconds, accuracies, marker=marker, s=60, alpha=0.8, label=model)
    ax.set_xlim(left=0)
    ax.set_xlabel("Training seconds")
    ax.set_ylabel("Test accuracy")
    ax.set_title("One point for each seed")
    ax.grid(alpha=0.3)
    ax.legend()
    figure.savefig(path, dpi=120)


def draw_predictions(
    path: Path,
    images: np.ndarray,
    true: Sequence[str],
    predicted: Sequence[str],
    title: str,
) -> None:
    """Draw a grid of images, shape (n, H, W) or (n, H, W, C); wrong ones in red."""
    rows = -(-len(images) // COLUMNS)
    figure = new_figure(1.7 * COLUMNS, 2.1 * rows + 0.5)
    panels = figure.subplots(rows, COLUMNS, squeeze=False).ravel()
    for ax in panels[len(images) :]:
        ax.set_axis_off()
    for ax, image, truth, guess in zip(panels, images, true, predicted, strict=False):
        wrong = truth != guess
        # A mark beside the colour: red alone is lost on some readers and printers.
        mark = " \N{BALLOT X}" if wrong else ""
        ax.imshow(np.squeeze(image), cmap="gray")
        ax.set(xticks=[], yticks=[])
        ax.set_title(
            f"True: {truth}\nPrediction: {guess}{mark}",
            fontsize=9,
            color="red" if wrong else "black",
        )
        if wrong:
            for spine in ax.spines.values():
                spine.set(color="red", linewidth=3)
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
