"""Peers that read files in batches: torch's loader of folders, and fastai.

Both have the default backbone with its weights, two processes that read, and batches of
64. Each has ``fit`` and ``predict_proba``, as an estimator has.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Self

import numpy as np
import timm
import torch
from sklearn.pipeline import Pipeline
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import (
    Compose,
    InterpolationMode,
    Normalize,
    Resize,
    ToTensor,
)

from sktransfer._networks.backbones.known import find_backbone

BACKBONE, SIZE, BATCH, N_WORKERS = "efficientnet_lite0", 288, 64, 2


def read_weights() -> dict[str, torch.Tensor]:
    """Read the weights that ours has, under timm's names."""
    (weights,) = find_backbone(BACKBONE).weights.values()  # type: ignore[union-attr]
    return weights.read()  # type: ignore[no-any-return]


class FolderOfTorch:
    """A frozen network over a ``DataLoader``, and scikit-learn's head on its features.

    Parameters
    ----------
    precision : {"float32", "bfloat16"}
        Of matrix products, by ``torch.autocast``.

    head : Pipeline
        What is fitted to the features.
    """

    def __init__(self, precision: str, head: Pipeline) -> None:
        self.precision, self.head = precision, head

    def fit(self, folder: Path) -> Self:
        """Encode a folder, and fit the head."""
        self.network_ = timm.create_model(f"tf_{BACKBONE}")
        self.network_.load_state_dict(read_weights())
        self.network_.reset_classifier(0)  # features are what it returns from now on
        self.network_.eval()
        self.classes_ = np.array(ImageFolder(folder).classes)
        self.head.fit(*self._encode(folder))
        return self

    def predict_proba(self, folder: Path) -> np.ndarray:
        """Predict the probability of each class, for files in the order of names."""
        return self.head.predict_proba(self._encode(folder)[0])  # type: ignore[no-any-return]

    def _encode(self, folder: Path) -> tuple[np.ndarray, np.ndarray]:
        prepare = Compose(
            [
                Resize((SIZE, SIZE), InterpolationMode.BICUBIC),
                ToTensor(),
                Normalize((0.5,) * 3, (0.5,) * 3),
            ]
        )
        data = ImageFolder(folder, prepare)
        loader = DataLoader(data, BATCH, num_workers=N_WORKERS)
        is_low = self.precision == "bfloat16"
        features = []
        with (
            torch.inference_mode(),
            torch.autocast("cpu", torch.bfloat16, enabled=is_low),
        ):
            for images, _ in loader:
                features.append(self.network_(images).float().numpy())
        return np.concatenate(features), np.array(data.targets)


class FolderOfFastai:
    """fastai's ``vision_learner``: one epoch of its head, with its augmentation."""

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def fit(self, X: list[str], y: np.ndarray) -> Self:
        """Train the head on files; nothing is set aside to validate."""
        from fastai.torch_core import set_seed
        from fastai.vision.augment import Resize, aug_transforms
        from fastai.vision.data import ImageDataLoaders
        from fastai.vision.learner import vision_learner

        importlib.import_module("fastai.callback.schedule")  # defines fit_one_cycle
        importlib.import_module("fastai.callback.progress")  # defines Learner.no_bar
        set_seed(self.seed)
        loaders = ImageDataLoaders.from_lists(
            ".",
            X,
            y.tolist(),
            valid_pct=0,
            seed=self.seed,
            item_tfms=Resize(SIZE),
            batch_tfms=aug_transforms(),
            bs=BATCH,
            num_workers=N_WORKERS,
        )
        self.learner_ = vision_learner(
            loaders,
            f"tf_{BACKBONE}",
            pretrained_cfg_overlay={"state_dict": read_weights()},
        )  # frozen but for its head
        with self.learner_.no_bar(), self.learner_.no_logging():
            self.learner_.fit_one_cycle(1)
        self.classes_ = np.array(loaders.vocab)
        return self

    def predict_proba(self, X: list[str]) -> np.ndarray:
        """Predict the probability of each class."""
        loader = self.learner_.dls.test_dl(X, num_workers=N_WORKERS)
        with self.learner_.no_bar():
            proba, _ = self.learner_.get_preds(dl=loader)
        return proba.numpy()  # type: ignore[no-any-return]
