"""The image sets, scores and the user's ResNet that several benchmarks share.

``SKTRANSFER_DATA`` names a folder with ``ants_bees/{train,val}/<class>`` (the set of
PyTorch's tutorial, 244 and 153 photographs), ``trash/<class>`` (TrashNet, 2,527
photographs) and ``cifar10/{train,test}/<class>``; scikit-learn brings its digits.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.datasets import load_digits
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import train_test_split
from torchvision.models.resnet import BasicBlock, ResNet

from sktransfer import Backbone
from sktransfer._networks.backbones.known import find_backbone

# Ants and bees have as many training images as that.
ALL_ANTS_AND_BEES = 244
N_BINS = 15

# Seeds of the splits that choose defaults: none is that of a split that is reported.
FIRST_TO_CHOOSE = 100


class Split(NamedTuple):
    """Images to train on and to test, as paths or as an array, and their labels."""

    X: np.ndarray
    y: np.ndarray
    X_test: np.ndarray
    y_test: np.ndarray


def load(name: str, n: int, seed: int, n_test: int = 1000) -> Split:
    """Draw n training images and those to test; of CIFAR-10, official test images."""
    if name == "ants_bees":
        return Split(*_some(*_list("ants_bees/train"), n, seed), *_ants_to_test(n_test))
    X, y = _all_images(name)
    if name != "cifar10":
        return _divide(X, y, n, n_test, seed)
    tested = _some(*_list("cifar10/test"), n_test, 0)
    return Split(*_some(X, y, n, seed), *tested)


def load_to_choose(name: str, n: int, seed: int, n_test: int = 1000) -> Split:
    """Draw images on which a default may be chosen: none are official test images.

    Except of ants and bees, of which there are too few to set some aside.
    """
    if name == "ants_bees":
        return load(name, n, seed, n_test)
    return _divide(*_all_images(name), n, n_test, FIRST_TO_CHOOSE + seed)


def _all_images(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return all images of a set, of CIFAR-10 those of the training split."""
    if name == "digits":
        X, y = load_digits(return_X_y=True)
        return X.reshape(-1, 8, 8) / 16, y
    return _list("cifar10/train" if name == "cifar10" else name)


def _list(folder: str) -> tuple[np.ndarray, np.ndarray]:
    """List the files below a folder, and the name of the folder that each is in."""
    home = Path(os.environ["SKTRANSFER_DATA"])
    files = sorted(file for file in (home / folder).rglob("*") if file.is_file())
    return np.array([str(f) for f in files]), np.array([f.parent.name for f in files])


def _ants_to_test(n_test: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the official validation photographs of ants and bees."""
    return _some(*_list("ants_bees/val"), n_test, 0)


def _some(
    X: np.ndarray, y: np.ndarray, n: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Draw a stratified subset of n images; all images if there are no more."""
    if n >= len(y):
        return X, y
    X, _, y, _ = train_test_split(X, y, train_size=n, stratify=y, random_state=seed)
    return X, y


def _divide(X: np.ndarray, y: np.ndarray, n: int, n_test: int, seed: int) -> Split:
    """Draw n images to train on, stratified, and n_test of the others."""
    X, X_test, y, y_test = train_test_split(
        X, y, train_size=n, test_size=n_test, stratify=y, random_state=seed
    )
    return Split(X, y, X_test, y_test)


def measure_calibration(proba: np.ndarray, is_right: np.ndarray) -> float:
    """Return the expected calibration error: 15 bins of equal width."""
    sure = proba.max(axis=1)
    bins = np.minimum((sure * N_BINS).astype(int), N_BINS - 1)
    gaps = np.bincount(bins, sure - is_right, minlength=N_BINS)
    return float(np.abs(gaps).sum() / len(sure))


def score(proba: np.ndarray, classes: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Return accuracy, log loss and calibration error, each in [0, 1] but the loss."""
    # In float32 the rows do not add up to 1 exactly enough for scikit-learn.
    proba = np.asarray(proba, np.float64)
    proba /= proba.sum(axis=1, keepdims=True)
    predicted = classes[proba.argmax(axis=1)]
    return {
        "accuracy": float(accuracy_score(y, predicted)),
        "log_loss": float(log_loss(y, proba, labels=classes)),
        "calibration_error": measure_calibration(proba, predicted == y),
    }


def describe_sgd() -> Backbone:
    """Describe the bundled network as it is trained if its head is not solved."""
    return replace(
        find_backbone("mini_resnet18"),
        optimizer="sgd",
        lr=0.05,
        backbone_lr_factor=0.1,
        weight_decay=5e-4,
        clip_norm=None,
        batch_norm="train",
    )


def make_resnet20() -> ResNet:
    """Build torchvision's ResNet of 20 layers."""
    return ResNet(BasicBlock, [2, 2, 2, 3])


def describe_resnet20(weights: Path) -> Backbone:
    """Describe that network with these weights."""
    return Backbone(
        "resnet20",
        make_resnet20,
        {
            "stem": ["conv1", "bn1", "relu", "maxpool"],
            **{f"layer{i}": [f"layer{i}"] for i in (1, 2, 3, 4)},
        },
        weights,
        head="fc",
        image_size=288,  # as the other ResNets
        small_image_size=128,
    )
