"""The linear probe: the head solved on pooled features, as the first epoch of a fit."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from sktransfer._activations.cache import ActivationCache, CacheInfo
from sktransfer._activations.prefix import LongerPrefix, Prefix
from sktransfer._activations.rows import BATCHES_GATHERED, ActivationRows
from sktransfer._images.streams.ahead import Images
from sktransfer._images.views import AS_IT_IS
from sktransfer._networks.fixed_batches import cut
from sktransfer._networks.stages import Head, Stages
from sktransfer._training.image_sets import ImageDataset

if TYPE_CHECKING:
    from sktransfer._training.settings import TrainingSettings


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

    n_wrong : float
        How many of these images such heads get wrong when solved without them.
    """

    weight: np.ndarray
    bias: np.ndarray
    loss: float
    accuracy: float
    n_wrong: float


# Of more images, only the first view: other views add little where images are many, and
# every view costs a pass through the backbone.
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

    Attributes
    ----------
    info : CacheInfo
        What the cache did for features that the activations of `dataset` are not.

    n_wrong : float
        How many images of `dataset` a head gets wrong that was solved without them.
    """

    def __init__(self, dataset: ImageDataset, settings: TrainingSettings) -> None:
        self.dataset, self.settings = dataset, settings
        self.info = CacheInfo(0, 0, 0, 0.0)
        self.n_wrong = 0.0

    def solve(self, stages: Stages) -> tuple[float, float]:
        """Solve the head and load it; return its training loss and accuracy."""
        assert self.settings.solve_head is not None
        rows = self.dataset.rows
        linear = _find_linear(stages)
        solution = self.settings.solve_head(
            self._collect_features(stages),
            self.dataset.labels[rows],
            self.dataset.weights[rows],
            linear.out_features,
        )
        self.n_wrong = solution.n_wrong
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(solution.weight))
            linear.bias.copy_(torch.from_numpy(solution.bias))
        return solution.loss, solution.accuracy

    def _collect_features(self, stages: Stages) -> np.ndarray:
        """Compute the features of the set, (n_views, n_images, n_features), float32."""
        known, settings = self.dataset.activations, self.settings
        if known is not None and known.prefix.n_stages == stages.n_frozen(0):
            return _gather(known, self.dataset.rows)
        images = self.dataset.images
        place = settings.device, settings.precision
        cache, verbose = settings.activation_cache, settings.verbose
        is_training = stages.training
        stages.eval()
        with closing(find_features(stages, images, known, place, cache, verbose)) as it:
            features = _gather(it, self.dataset.rows)
            self.info = it.info()
        stages.train(is_training)
        return features


def make_probe(
    stages: Stages, dataset: ImageDataset, settings: TrainingSettings
) -> Probe | None:
    """Make the probe of a fit; None if its head is trained from random weights."""
    has_head = isinstance(stages.get_submodule(stages.names[-1]), Head)
    return Probe(dataset, settings) if settings.solve_head and has_head else None


def find_features(
    stages: Stages,
    images: Images,
    known: ActivationRows | None,
    place: tuple[torch.device, str],
    cache: ActivationCache | None,
    verbose: int,
) -> ActivationRows:
    """Return the pooled features of images as activations in a cache.

    They go on from the activations `known`, in the same views, so that no stage is
    passed twice; without such, the images are taken as they are.
    """
    if known is None:
        prefix = Prefix(stages, stages.n_frozen(0), *place)
        return ActivationRows(prefix, images, (AS_IT_IS,), cache, verbose)
    prefix = LongerPrefix(known, stages.n_frozen(0))
    return ActivationRows(prefix, images, known.views, cache, verbose)


def choose_views(n_views: int, n_images: int) -> range:
    """Choose the views whose features the head is solved on."""
    # The first view is the image as it is.
    return range(n_views if n_images <= MANY_IMAGES else 1)


def _gather(activations: ActivationRows, rows: np.ndarray) -> np.ndarray:
    """Gather the activations of some images in the views that the head is solved on."""
    views = choose_views(len(activations.views), len(rows))
    activations.ensure_all(views, rows)
    features = np.empty((len(views), len(rows), 0), np.float32)
    for some in cut(len(rows), BATCHES_GATHERED * activations.batch_size):
        gathered = activations.gather_views(rows[some], views).cpu().numpy()
        if not features.size:
            shape = len(views), len(rows), gathered.shape[2]
            features = np.empty(shape, np.float32)
        features[:, some] = gathered.transpose(1, 0, 2)
    return features


def _find_linear(stages: Stages) -> nn.Linear:
    """Return the linear layer of the head."""
    linear = stages.get_submodule(f"{stages.names[-1]}.linear")
    assert isinstance(linear, nn.Linear)
    return linear
