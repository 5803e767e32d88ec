"""Batch norm of open stages during fine-tuning: trained, or statistics kept.

    SKTRANSFER_DATA=FOLDER python benchmarks/batch_norm.py

Should stages that learn also update their batch-norm statistics? The same fine-tuning
runs with updated and with pretrained statistics, at several depths, on scikit-learn's
digits (far from photographs) and on 1,000 CIFAR-10 images. Accuracy is measured on
held-out images. The head starts at random, and SGD trains (``sets.describe_sgd``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from record import Record, bundled_weights
from sets import describe_sgd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from skorch.callbacks import Callback
from torch import nn

from sktransfer import ResNetTransferClassifier, datasets

N_SEEDS = 3
DEPTHS = (1, 2, 5)


class KeepStatistics(Callback):
    """Put the batch norm of every stage into eval mode before each step."""

    def on_batch_begin(self, net: Any, **kwargs: Any) -> None:
        """Run after the net's train() and before the forward pass."""
        for module in net.module_.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()


def digits() -> tuple[Any, ...]:
    """Return 100 training images, and the others for testing."""
    X, y = load_digits(return_X_y=True)
    X = X.reshape(-1, 8, 8) / 16
    return train_test_split(X, y, train_size=100, stratify=y, random_state=0)


def cifar10() -> tuple[Any, ...]:
    """Return 1,000 training and 2,000 other images of the official training split."""
    X, y = datasets.fetch_cifar10(subset="train", return_X_y=True)
    return train_test_split(
        X, y, train_size=1000, test_size=2000, stratify=y, random_state=0
    )


def main() -> None:
    """Run what the record lacks."""
    record = Record("batch_norm")
    sets = {
        "digits": (digits, {"augment": None, "max_epochs": 18}),
        "cifar10": (cifar10, {}),
    }
    for name, (load, settings) in sets.items():
        X, X_test, y, y_test = load()
        for depth in DEPTHS:
            for kept in (False, True):
                key = {"data": name, "unfreeze_depth": depth, "statistics_kept": kept}
                key["weights"] = bundled_weights()
                for seed in range(N_SEEDS):
                    if record.find(**key, seed=seed):
                        continue
                    clf = ResNetTransferClassifier(
                        describe_sgd(),
                        head_init="random",
                        unfreeze_depth=depth,
                        callbacks=[KeepStatistics()] if kept else None,
                        random_state=seed,
                        **settings,
                    ).fit(np.asarray(X), y)
                    accuracy = clf.score(X_test, y_test)
                    record.add(**key, seed=seed, accuracy=accuracy)


if __name__ == "__main__":
    main()
