"""fastai's `vision_learner` with our default backbone and its weights, as a peer.

As its tutorials use it: images cropped to the size of the backbone, its augmentation,
head, optimizer and rates, one epoch of the head alone and four of everything. It
differs only where it has to: the weights come from the file that ours come from, and
nothing is set aside, since the others train on all images too. It trains in float32.
"""

from __future__ import annotations

import importlib
from typing import Any, Self

import numpy as np

from sktransfer._networks.backbones.known import find_backbone
from sktransfer._training.schedule import resolve_batch_size

BACKBONE, N_EPOCHS = "efficientnet_lite0", 4

# fastai's own, with which an epoch of 100 images is a single step.
ITS_BATCH = 64


class FastaiClassifier:
    """Fit and predict, as an estimator does.

    Parameters
    ----------
    size : int
        Height and width of the images in pixels.

    flips : bool
        Whether the augmentation may mirror images.

    seed : int
        Of everything random.

    batch_size : int or "auto"
        Images per step. ``"auto"``: as many as ours, which takes fewer of small sets.
    """

    def __init__(
        self, size: int, flips: bool, seed: int, batch_size: int | str = ITS_BATCH
    ) -> None:
        self.size, self.flips, self.seed = size, flips, seed
        self.batch_size = batch_size

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fine-tune the network on all images."""
        from fastai.torch_core import set_seed
        from fastai.vision.learner import vision_learner

        set_seed(self.seed)
        importlib.import_module("fastai.callback.schedule")  # defines fine_tune
        importlib.import_module("fastai.callback.progress")  # defines Learner.no_bar
        backbone = find_backbone(BACKBONE)
        (weights,) = backbone.weights.values()  # type: ignore[union-attr]
        self._X, self._y = _as_bytes(X), y
        self.learner_ = vision_learner(
            self._make_loaders(),
            f"tf_{BACKBONE}",
            pretrained_cfg_overlay={"state_dict": weights.read()},
        )
        with self.learner_.no_bar(), self.learner_.no_logging():
            self.learner_.fine_tune(N_EPOCHS, cbs=_without_validation())
        self.classes_ = np.array(self.learner_.dls.vocab)
        return self

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Predict the probability of each class."""
        self._X = _as_bytes(X)
        loader = self.learner_.dls.test_dl(range(len(X)), num_workers=0)
        with self.learner_.no_bar():
            proba, _ = self.learner_.get_preds(dl=loader)
        return proba.numpy()  # type: ignore[no-any-return]

    def _make_loaders(self) -> Any:
        from fastai.data.block import CategoryBlock, DataBlock
        from fastai.vision.augment import Resize, aug_transforms
        from fastai.vision.data import ImageBlock

        n = len(self._y)
        # An incomplete batch is dropped, even if it is the only one.
        batch_size = min(n, resolve_batch_size(self.batch_size, n))
        block = DataBlock(
            blocks=(ImageBlock, CategoryBlock),
            get_x=lambda i: self._X[i],
            get_y=lambda i: self._y[i],
            splitter=lambda items: (list(range(n)), [0]),
            item_tfms=Resize(self.size),
            batch_tfms=aug_transforms(do_flip=self.flips),
        )
        return block.dataloaders(range(n), bs=batch_size, num_workers=0)


def _as_bytes(X: np.ndarray) -> np.ndarray:
    """Return grey images in [0, 1] as RGB bytes, paths as they are."""
    if X.dtype.kind != "f":
        return X
    return np.repeat((255 * X).astype(np.uint8)[..., None], 3, axis=-1)


def _without_validation() -> Any:
    """Make the callback that leaves out the validation after each epoch."""
    from fastai.callback.core import Callback, CancelValidException

    class NoValidation(Callback):  # type: ignore[misc]
        def before_validate(self) -> None:
            raise CancelValidException

    return NoValidation()
