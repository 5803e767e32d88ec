"""The linear probe: the head solved on pooled features, as the first epoch of a fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import nn

from sktransfer._activations.prefix import LongerPrefix, Prefix
from sktransfer._activations.rows import ActivationRows
from sktransfer._images.views import AS_IT_IS
from sktransfer._networks.stages import Head, Stages
from sktransfer._training.image_sets import ImageDataset


class Solution(NamedTuple):
    """A solved head.

    Attributes
    ----------
    weight : ndarray of shape (n_classes, n_features), float32
        Of the linear layer.

    bias : ndarray of shape (n_classes,), float32
        Of the linear layer.

    loss, accuracy : float
        On the images that it was solved for.
    """

    weight: np.ndarray
    bias: np.ndarray
    loss: float
    accuracy: float


# Mirrored images beside the images made the probe of 244 photographs better by 1
# percentage point, and that of larger sets no better.
MANY_IMAGES = 10_000

# Takes features (n_views, n_images, n_features), labels, weights and the number of
# classes; defined where scikit-learn is at hand.
SolveHead = Callable[[np.ndarray, np.ndarray, np.ndarray, int], Solution]


class Probe:
    """Solves the head of a network on the features of its frozen backbone.

    Parameters
    ----------
    dataset : ImageDataset
        The training images; their activations, if they have some, are used.

    settings : TrainingSettings
        Of the fit.
    """

    def __init__(self, dataset: ImageDataset, settings: Any) -> None:
        self.dataset, self.settings = dataset, settings

    def solve(self, stages: Stages) -> tuple[float, float]:
        """Solve the head and load it; return its training loss and accuracy."""
        rows = self.dataset.rows
        features = collect_features(stages, self.dataset, self.settings)
        solution = self.settings.solve_head(
            features,
            self.dataset.labels[rows],
            self.dataset.weights[rows],
            _linear(stages).out_features,
        )
        with torch.no_grad():
            linear = _linear(stages)
            linear.weight.copy_(torch.from_numpy(solution.weight))
            linear.bias.copy_(torch.from_numpy(solution.bias))
        return solution.loss, solution.accuracy


def make_probe(stages: Stages, dataset: ImageDataset, settings: Any) -> Probe | None:
    """Make the probe of a fit; None if its head is trained from random weights."""
    has_head = isinstance(stages.get_submodule(stages.names[-1]), Head)
    return Probe(dataset, settings) if settings.solve_head and has_head else None


def collect_features(
    stages: Stages, dataset: ImageDataset, settings: Any
) -> np.ndarray:
    """Compute the pooled features of a set, (n_views, n_images, n_features), float32.

    The views are those that training shows, if it has few images and finitely many
    views, and else the images as they are. What is computed goes on from activations
    that the set has, and is kept in the same cache.
    """
    n_stages, known = stages.n_frozen(0), dataset.activations
    is_training = stages.training
    stages.eval()
    if known is not None and known.prefix.n_stages == n_stages:
        features = _gather(known, dataset.rows)
    else:
        views: Any = (AS_IT_IS,)
        if known is None:
            prefix = Prefix(stages, n_stages, settings.device, settings.precision)
        else:
            views, prefix = known.views, LongerPrefix(known, n_stages)
        cache, verbose = settings.activation_cache, settings.verbose
        rows = ActivationRows(prefix, dataset.images, views, cache, verbose)
        with closing(rows):
            features = _gather(rows, dataset.rows)
    stages.train(is_training)
    return features


def _gather(activations: ActivationRows, rows: np.ndarray) -> np.ndarray:
    """Gather the activations of some images in every view; in the first, if many."""
    # The first view is the image as it is.
    n_views = len(activations.views) if len(rows) <= MANY_IMAGES else 1
    every_view = []
    for view in range(n_views):
        chosen = np.full(len(rows), view)
        activations.ensure(rows, chosen)
        every_view.append(activations.gather(rows, chosen).cpu().numpy())
    return np.stack(every_view)


def _linear(stages: Stages) -> nn.Linear:
    """Return the linear layer of the head."""
    linear = stages.get_submodule(f"{stages.names[-1]}.linear")
    assert isinstance(linear, nn.Linear)
    return linear
