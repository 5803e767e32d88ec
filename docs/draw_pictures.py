"""Draw the pictures of the README and of the guide: ``python docs/draw_pictures.py``.

The images are drawn shapes, which need no download: ten labelled ones of each of eight
classes, and 400 others to predict. Both the fine-tuned backbone and the CNN from
scratch are fitted with three seeds. Run this on an idle machine: the pictures show its
seconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.model_selection import train_test_split

from sktransfer import (
    ConfusedPairsDisplay,
    ModelComparisonDisplay,
    PredictionGridDisplay,
    ResNetTransferClassifier,
    SaliencyDisplay,
    ScratchCNNClassifier,
    TopLossesDisplay,
    TrainingHistoryDisplay,
)
from sktransfer.datasets import make_shapes

FOLDER = Path(__file__).parent / "_static"
N_CLASSES, N_TRAIN, N_TEST, SEEDS = 8, 80, 400, range(3)
# Pixels. A page shows about 700; files of noisy images twice as wide would be large.
WIDTH = 860
# Axes without the usual margins, because captions shrink in narrow axes.
ALL_WIDTH = {"left": 0, "right": 1}


def main() -> None:
    """Fit both models with every seed, and draw."""
    # Another number of threads would round in another order.
    torch.set_num_threads(1)
    X, y = make_shapes(
        N_TRAIN + N_TEST, n_classes=N_CLASSES, random_state=0, return_X_y=True
    )
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=N_TRAIN, stratify=y, random_state=0
    )
    fitted = fitted_models(X_train, y_train)
    transfer = fitted["ResNetTransferClassifier"][0]
    save(readme_picture(fitted, X_test, y_test), "readme")
    save(history_picture(X_train, y_train), "display_history")
    save(predictions_picture(transfer, X_test, y_test), "display_predictions")
    save(losses_picture(transfer, X_test, y_test), "display_losses")
    save(confusions_picture(transfer, X_test, y_test), "display_confusions")
    save(comparison_picture(fitted, X_test, y_test), "display_comparison")
    save(saliency_picture(transfer, X_test), "display_saliency")


def fitted_models(X: np.ndarray, y: np.ndarray) -> dict[str, list[Any]]:
    """Both classifiers by their names, fitted with every seed."""
    # So that importing torch does not count as training time.
    ResNetTransferClassifier("mini_resnet18", max_epochs=1).fit(X, y)
    return {
        "ResNetTransferClassifier": [
            ResNetTransferClassifier("mini_resnet18", random_state=seed).fit(X, y)
            for seed in SEEDS
        ],
        "ScratchCNNClassifier": [
            ScratchCNNClassifier(random_state=seed).fit(X, y) for seed in SEEDS
        ],
    }


def save(figure: Any, name: str) -> None:
    """Write a figure to the folder of pictures, and close it."""
    figure.savefig(
        FOLDER / f"{name}.png",
        dpi=WIDTH / figure.get_figwidth(),
        pil_kwargs={"optimize": True},
    )
    plt.close(figure)


def wide_axes(width: float, height: float) -> Any:
    """Axes of a new figure, smaller than a display would make it; sizes in inches."""
    figure = plt.figure(figsize=(width, height), layout="constrained")
    return figure.subplots(gridspec_kw=ALL_WIDTH)


def readme_picture(
    fitted: Mapping[str, Sequence[Any]], X: np.ndarray, y: np.ndarray
) -> Any:
    """Predictions, and beside them accuracy and seconds of both models."""
    figure: Any = plt.figure(figsize=(9.4, 5.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.3, 1), wspace=0.04)
    PredictionGridDisplay.from_estimator(
        fitted["ResNetTransferClassifier"][0],
        X,
        y,
        n_images=9,
        n_columns=3,
        random_state=0,
        ax=left.subplots(gridspec_kw=ALL_WIDTH),
    )
    ax = right.subplots()
    ModelComparisonDisplay.from_estimators(fitted, X, y, ax=ax)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    return figure


def history_picture(X: np.ndarray, y: np.ndarray) -> Any:
    """Loss and accuracy of each epoch, on these images and on a validation set."""
    X_val, y_val = make_shapes(
        N_TRAIN, n_classes=N_CLASSES, random_state=1, return_X_y=True
    )
    classifier = ResNetTransferClassifier(
        "mini_resnet18", max_epochs=10, random_state=0
    ).fit(X, y, X_val=X_val, y_val=y_val)
    return TrainingHistoryDisplay.from_estimator(classifier).figure_


def predictions_picture(classifier: Any, X: np.ndarray, y: np.ndarray) -> Any:
    """The eight images about which the classifier was least sure."""
    return PredictionGridDisplay.from_estimator(
        classifier, X, y, show="least_sure", n_images=8, n_columns=4
    ).figure_


def losses_picture(classifier: Any, X: np.ndarray, y: np.ndarray) -> Any:
    """The eight images with the largest losses."""
    return TopLossesDisplay.from_estimator(
        classifier, X, y, n_images=8, n_columns=4
    ).figure_


def confusions_picture(classifier: Any, X: np.ndarray, y: np.ndarray) -> Any:
    """The confusion matrix and images of the three worst pairs."""
    return ConfusedPairsDisplay.from_estimator(
        classifier, X, y, ax=wide_axes(9, 4.4)
    ).figure_


def comparison_picture(
    fitted: Mapping[str, Sequence[Any]], X: np.ndarray, y: np.ndarray
) -> Any:
    """Accuracy against seconds of both models."""
    return ModelComparisonDisplay.from_estimators(fitted, X, y).figure_


def saliency_picture(classifier: Any, X: np.ndarray) -> Any:
    """Three images, and below each where the predicted class shows."""
    return SaliencyDisplay.from_estimator(
        classifier, X[:3], ax=wide_axes(7.4, 4.4)
    ).figure_


if __name__ == "__main__":
    main()
