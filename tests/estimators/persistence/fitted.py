"""Fitted estimators of every kind, each fitted once, and the images that they see."""

from functools import cache

import numpy as np
import torch
from torch import nn

from sktransfer import (
    ActivationCache,
    Backbone,
    DrawnViews,
    FeatureExtractor,
    ResNetFeatureExtractor,
    ScratchCNNClassifier,
    TransferClassifier,
)
from tests.helpers import SHORT, pictures, scratch, transfer

HERE = {"device": "cpu", "precision": "float32"}


def make_tiny():
    """A network of three layers."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3)
    )


TINY = Backbone(
    "tiny", make_tiny, {"stem": ["0", "1", "2"], "stage1": ["3"]}, image_size=16
)


def _images(n=12):
    return pictures(n)[0]


def _labels(n=12):
    return pictures(n)[1]


def _classify(backbone, **changes):
    settings = {"weights": None, "image_size": 32, "unfreeze_depth": 1, **SHORT}
    settings |= {"max_epochs": 1, "batch_size": 8, "augment": None, **changes}
    return TransferClassifier(backbone, **settings).fit(_images(), _labels())


def _scratch(y=None, **changes):
    y = _labels() if y is None else y
    return scratch(**{"max_epochs": 1, **changes}).fit(_images(), y)


def _frame():
    import pandas as pd

    rows = _images().reshape(12, -1)
    return pd.DataFrame(rows, columns=[f"pixel{i}" for i in range(rows.shape[1])])


KINDS = {
    "scratch": lambda: _scratch(max_epochs=2),
    "scratch that does not whiten": lambda: _scratch(whiten=False),
    "scratch of three widths": lambda: _scratch(width=(3, 5, 7)),
    "scratch that pools maxima": lambda: _scratch(global_pool="max", dropout=0.1),
    "scratch at another size": lambda: _scratch(image_size=24, resize="pad"),
    "scratch with views": lambda: _scratch(
        augment=DrawnViews(3), tta="flip_shift", mixup=0.2
    ),
    "scratch in bfloat16": lambda: _scratch(precision="bfloat16"),
    "scratch on grey images": lambda: scratch(max_epochs=1).fit(
        _images()[..., 0], _labels()
    ),
    "scratch on rows": lambda: scratch(max_epochs=1, image_shape=(8, 8, -1)).fit(
        _images().reshape(12, -1), _labels()
    ),
    "scratch on a frame": lambda: scratch(max_epochs=1, image_shape=(8, 8, 3)).fit(
        _frame(), _labels()
    ),
    "scratch with validation images": lambda: scratch(
        max_epochs=3, early_stopping=True, n_iter_no_change=1
    ).fit(_images(), _labels(), X_val=_images(9), y_val=_labels(9)),
    "scratch with its own optimizer": lambda: _scratch(
        lr=1e-3,
        bias_lr_factor=1.0,
        net_params={"optimizer": torch.optim.AdamW, "optimizer__eps": 1e-6},
    ),
    "mini_resnet18": lambda: transfer().fit(_images(), _labels()),
    "mini_resnet18, head alone": lambda: transfer(
        unfreeze_depth=0, activation_cache=ActivationCache(10**7), tta="flip"
    ).fit(_images(), _labels()),
    "mini_resnet18 in bfloat16": lambda: transfer(
        max_epochs=1, precision="bfloat16"
    ).fit(_images(), _labels()),
    "efficientnet_lite0": lambda: _classify("efficientnet_lite0", weights="auto"),
    "resnet18": lambda: _classify("resnet18"),
    "a convolutional network of timm": lambda: _classify("timm/test_resnet"),
    "a transformer of timm": lambda: _classify("timm/test_vit", image_size=48),
    "a Backbone of the user's": lambda: _classify(TINY, image_size=None),
    "features": lambda: FeatureExtractor(
        "mini_resnet18", image_size=16, random_state=0, **HERE
    ).fit(_images()),
    "features of a ResNet": lambda: ResNetFeatureExtractor(
        "mini_resnet18", activation_cache=None, random_state=0, **HERE
    ).fit(_images()),
    "features of the user's Backbone": lambda: FeatureExtractor(
        TINY, weights=None, random_state=0, **HERE
    ).fit(_images()),
    "features in bfloat16": lambda: FeatureExtractor(
        "mini_resnet18", random_state=0, device="cpu", precision="bfloat16"
    ).fit(_images()),
}
# One network of tens of megabytes is enough.
SMALL = [name for name in KINDS if name != "resnet18"]
CLASSIFIERS = [name for name in SMALL if not name.startswith("features")]

LABELS = {
    **{f"int{n}": np.arange(12).astype(f"i{n}") % 3 for n in (1, 2, 4, 8)},
    **{f"uint{n}": np.arange(12).astype(f"u{n}") % 3 for n in (1, 2, 4, 8)},
    "truth values": np.arange(12) % 2 == 0,
    "whole floats": np.arange(12) % 3 * 1.0,
    "texts": _labels(),
    "objects": _labels().astype(object),
    "big-endian": (np.arange(12) % 3).astype(">i4"),
    "one class": np.full(12, "only"),
    "two classes": np.array(["a", "b"])[np.arange(12) % 2],
    "negative": -(np.arange(12) % 3),
}


@cache
def fit(kind):
    """Fit an estimator of a kind; it must not be changed."""
    return KINDS[kind]()


@cache
def fit_on_labels(kind):
    """Fit a network on labels of a kind."""
    return _scratch(LABELS[kind])


def see(kind):
    """Return images as an estimator of a kind takes them."""
    shapes = {
        "scratch on grey images": lambda: _images()[..., 0],
        "scratch on rows": lambda: _images().reshape(12, -1),
        "scratch on a frame": _frame,
    }
    return shapes.get(kind, _images)()


def outputs(estimator, X):
    """What an estimator says of images."""
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(X)
    return estimator.transform(X)


def needs_backbone(estimator):
    """What loading must be given for this estimator."""
    own = getattr(estimator, "backbone", None)
    return {"backbone": own} if isinstance(own, Backbone) else None


def fresh_scratch(**changes):
    """An estimator that a test may change."""
    return ScratchCNNClassifier(**{"width": 4, **SHORT, "max_epochs": 1, **changes})
