"""What many tests build: small images, estimators that fit in a second, and files."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.base import BaseEstimator, ClassifierMixin

from sktransfer import ResNetTransferClassifier, ScratchCNNClassifier
from sktransfer._training.batches import Batches
from sktransfer._training.image_sets import ImageDataset

# The same on any processor.
SHORT = {"max_epochs": 2, "random_state": 0, "device": "cpu", "precision": "float32"}

# What torch raises, and what it does if a convolution of cuDNN finds no room.
SHORTAGES = {
    "torch": lambda: torch.OutOfMemoryError("too many"),
    "cuDNN": lambda: RuntimeError(
        "GET was unable to find an engine to execute this computation"
    ),
}


def pictures(n=45, seed=0):
    """Noisy red, green and blue pictures, uint8 (n, 8, 8, 3), and their colours."""
    rng = np.random.default_rng(seed)
    y = np.arange(n) % 3
    X = rng.integers(0, 150, (n, 8, 8, 3))
    X[np.arange(n), :, :, y] += 100
    return X.astype(np.uint8), np.array(["red", "green", "blue"])[y]


def transfer(**changes):
    """A classifier on the bundled backbone, for images of 8 pixels.

    What is chosen by the images otherwise is fixed.
    """
    chosen = {"image_size": 8, "unfreeze_depth": 2, "probe_share": 0.25}
    settings = {"backbone": "mini_resnet18", **chosen, **SHORT, **changes}
    return ResNetTransferClassifier(**settings)


def fit_cached(X, y, cache, **changes):
    """Fit with the first stages frozen throughout and their activations in a cache."""
    settings = {"unfreeze_depth": 1, "augment": None, "head_init": "random", **changes}
    return transfer(activation_cache=cache, **settings).fit(X, y)


def scratch(**changes):
    """A narrow network that learns from scratch."""
    return ScratchCNNClassifier(**{"width": 4, **SHORT, **changes})


def seeded(seed=0):
    """A generator of torch."""
    return torch.Generator().manual_seed(seed)


def epoch(x, augment, seed=0):
    """Show images as one epoch of training does, in their own order."""
    dataset = ImageDataset(x.numpy(), np.arange(len(x)), np.ones(len(x), np.float32))
    batches = Batches(dataset, 16, torch.device("cpu"), augment, seeded(seed))
    shown, labels = zip(*[(some, labels) for some, (labels, _) in batches], strict=True)
    return torch.cat(shown)[torch.cat(labels).argsort()]


def save_image(path, colour, size=(32, 32)):
    """Save an image of one colour, in a folder that may not exist yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def files(path):
    """List the files of activations in a folder, sorted."""
    return sorted(Path(path).rglob("*.safetensors"))


class Counting(ClassifierMixin, BaseEstimator):
    """Returns known probabilities, and counts how often it is asked."""

    def __init__(self, proba):
        self.proba = proba

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.n_calls_ = 0
        return self

    def predict_proba(self, X):
        self.n_calls_ += 1
        return self.proba

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class CountingNet(Counting):
    """The same, but it looks like a classifier with a network."""

    net_, image_shape_ = None, (8, 8, 1)
