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
from sktransfer._training.ranks.group import Group

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

    group : Group or None, default=None
        The ranks that train together: each has the features of its images, and the
        first one solves.

    Attributes
    ----------
    info : CacheInfo
        What the cache did for features that the activations of `dataset` are not.

    n_wrong : float
        How many images of `dataset` a head gets wrong that was solved without them.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        settings: TrainingSettings,
        group: Group | None = None,
    ) -> None:
        self.dataset, self.settings, self.group = dataset, settings, group
        self.info = CacheInfo(0, 0, 0, 0.0)
        self.n_wrong = 0.0

    def solve(self, stages: Stages) -> tuple[float, float]:
        """Solve the head and load it; return its training loss and accuracy."""
        linear = _find_linear(stages)
        features = self._collect_features(stages)
        if self.group is None:
            solution = self._solve(features, linear.out_features)
        else:
            solution = self._solve_together(features, linear.out_features, self.group)
        self.n_wrong = solution.n_wrong
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(solution.weight))
            linear.bias.copy_(torch.from_numpy(solution.bias))
        return solution.loss, solution.accuracy

    def _solve(self, features: np.ndarray, n_classes: int) -> Solution:
        """Solve the head for all images of the set."""
        assert self.settings.solve_head is not None
        rows = self.dataset.rows
        labels, weights = self.dataset.labels[rows], self.dataset.weights[rows]
        return self.settings.solve_head(features, labels, weights, n_classes)

    def _solve_together(
        self, features: np.ndarray, n_classes: int, group: Group
    ) -> Solution:
        """Let the first rank solve the head for the images of all."""
        whole = self._join(features, group)
        solution = None if whole is None else self._solve(whole, n_classes)
        shared: Solution = group.share(solution)
        return shared

    def _join(self, features: np.ndarray, group: Group) -> np.ndarray | None:
        """Bring the features of all ranks to the first, in the order of the set."""
        is_own = self.dataset.is_own
        assert is_own is not None
        mine = np.flatnonzero(is_own[self.dataset.rows])
        places = group.collect(mine)
        whole = None
        if group.is_first:
            n_views, _, n_features = features.shape
            whole = np.empty((n_views, len(self.dataset), n_features), np.float32)
        for view, some in enumerate(features):
            group.join_rows(some, places, None if whole is None else whole[view])
        return whole

    def _collect_features(self, stages: Stages) -> np.ndarray:
        """Compute the features of the set, (n_views, n_images, n_features), float32.

        Of several ranks, each computes those of its own images.
        """
        known, settings = self.dataset.activations, self.settings
        rows, n_images = self.dataset.list_own(), len(self.dataset)
        if known is not None and known.prefix.n_stages == stages.n_frozen(0):
            return _gather(known, rows, n_images)
        images = self.dataset.images
        place = settings.device, settings.precision
        cache, verbose = settings.activation_cache, settings.verbose
        is_training = stages.training
        stages.eval()
        with closing(find_features(stages, images, known, place, cache, verbose)) as it:
            features = _gather(it, rows, n_images)
            self.info = it.info()
        stages.train(is_training)
        return features


def make_probe(
    stages: Stages,
    dataset: ImageDataset,
    settings: TrainingSettings,
    group: Group | None = None,
) -> Probe | None:
    """Make the probe of a fit; None if its head is trained from random weights."""
    has_head = isinstance(stages.get_submodule(stages.names[-1]), Head)
    is_solved = settings.solve_head is not None and has_head
    return Probe(dataset, settings, group) if is_solved else None


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


def _gather(activations: ActivationRows, rows: np.ndarray, n_images: int) -> np.ndarray:
    """Gather the activations of some images in the views that the head is solved on.

    It is solved on `n_images`.
    """
    views = choose_views(len(activations.views), n_images)
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
