"""Transfer learning for images as ordinary scikit-learn estimators.

``ResNetTransferClassifier`` fine-tunes a pretrained ResNet, ``ScratchCNNClassifier``
trains a small network from zero, ``ResNetFeatureExtractor`` gives pooled features to
any other classifier, ``Stages`` is a network cut into stages, ``UnfreezeSchedule`` the
skorch callback that opens them, and ``datasets`` loads images. Importing the package
loads neither torch nor torchvision: they arrive on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from sktransfer import datasets
from sktransfer._features import ResNetFeatureExtractor
from sktransfer._scratch import ScratchCNNClassifier
from sktransfer._transfer import ResNetTransferClassifier
from sktransfer._views import DrawnViews

if TYPE_CHECKING:
    from sktransfer._cache import ActivationCache, CacheInfo
    from sktransfer._stages import Stages
    from sktransfer._unfreezing import UnfreezeSchedule

__version__ = "0.1.0"

__all__ = [
    "ActivationCache",
    "CacheInfo",
    "DrawnViews",
    "ResNetFeatureExtractor",
    "ResNetTransferClassifier",
    "ScratchCNNClassifier",
    "Stages",
    "UnfreezeSchedule",
    "datasets",
]


_LAZY = {
    "ActivationCache": "_cache",
    "CacheInfo": "_cache",
    "Stages": "_stages",
    "UnfreezeSchedule": "_unfreezing",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"sktransfer.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
