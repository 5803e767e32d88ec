"""Draw the README's picture: ``python docs/draw_readme.py``.

Ten labelled images of each of eight drawn shapes, which need no download: predictions
of the fine-tuned backbone, and its accuracy and seconds beside the CNN from scratch,
with the spread over three seeds. Run it on an idle machine, whose seconds they are.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from sklearn.model_selection import train_test_split

from sktransfer import (
    ModelComparisonDisplay,
    PredictionGridDisplay,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
)
from sktransfer.datasets import make_shapes

PICTURE = Path(__file__).parent / "_static" / "readme.png"
N_CLASSES, N_TRAIN, N_TEST, SEEDS = 8, 80, 400, range(3)


def main() -> None:
    """Fit both models with every seed, and draw."""
    X, y = make_shapes(
        N_TRAIN + N_TEST, n_classes=N_CLASSES, random_state=0, return_X_y=True
    )
    X_train, X_test, y_train, y_test = train_test_split(
        X, y, train_size=N_TRAIN, stratify=y, random_state=0
    )
    # Importing torch is nobody's training time.
    ResNetTransferClassifier("mini_resnet18", max_epochs=1).fit(X_train, y_train)
    fitted = {
        "ResNetTransferClassifier": [
            ResNetTransferClassifier("mini_resnet18", random_state=seed)
            for seed in SEEDS
        ],
        "ScratchCNNClassifier": [
            ScratchCNNClassifier(random_state=seed) for seed in SEEDS
        ],
    }
    for models in fitted.values():
        for model in models:
            model.fit(X_train, y_train)

    figure = plt.figure(figsize=(12, 5.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(1.35, 1), wspace=0.04)
    PredictionGridDisplay.from_estimator(
        fitted["ResNetTransferClassifier"][0],
        X_test,
        y_test,
        n_images=12,
        n_columns=4,
        random_state=0,
        ax=left.subplots(),
    )
    ax = right.subplots()
    ModelComparisonDisplay.from_estimators(fitted, X_test, y_test, ax=ax)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), frameon=False)
    figure.savefig(PICTURE, dpi=85)


if __name__ == "__main__":
    main()
