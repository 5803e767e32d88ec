"""Transfer learning for images as ordinary scikit-learn estimators.

``TransferClassifier`` fine-tunes a pretrained network, ``ScratchCNNClassifier`` trains
a small one from scratch, ``FeatureExtractor`` gives pooled features to any other
classifier; ``ResNetTransferClassifier`` and ``ResNetFeatureExtractor`` are the same
with a ResNet. ``Backbone`` describes a network of one's own, ``Stages`` is a network
cut into stages, ``UnfreezeSchedule`` the skorch callback that opens them, and
``datasets`` loads images. What became of a fit
is shown by the displays: ``TrainingHistoryDisplay``, ``PredictionGridDisplay``,
``TopLossesDisplay``, ``ConfusedPairsDisplay``, ``ModelComparisonDisplay`` and
``SaliencyDisplay``. Importing the package loads neither torch, torchvision nor
matplotlib: they arrive on first use.
"""

from __future__ import annotations

# typing.get_type_hints looks up the names in annotations of public classes here.
from collections.abc import Callable, Mapping, Sequence  # noqa: F401
from importlib import import_module
from os import PathLike  # noqa: F401
from typing import TYPE_CHECKING, Any, ClassVar  # noqa: F401

from sktransfer import datasets
from sktransfer._estimators.features import FeatureExtractor, ResNetFeatureExtractor
from sktransfer._estimators.scratch import ScratchCNNClassifier
from sktransfer._estimators.transfer import (
    ResNetTransferClassifier,
    TransferClassifier,
)
from sktransfer._images.views import DrawnViews
from sktransfer._networks.backbones.record import Backbone

if TYPE_CHECKING:
    from sktransfer._activations.cache import ActivationCache, CacheInfo
    from sktransfer._displays.comparison import ModelComparisonDisplay
    from sktransfer._displays.confused_pairs import ConfusedPairsDisplay
    from sktransfer._displays.content.confusions import ConfusedPair, most_confused
    from sktransfer._displays.history import TrainingHistoryDisplay
    from sktransfer._displays.prediction_grid import PredictionGridDisplay
    from sktransfer._displays.saliency import SaliencyDisplay
    from sktransfer._displays.top_losses import TopLossesDisplay
    from sktransfer._estimators.persistence.inspecting import ModelInfo, inspect
    from sktransfer._estimators.persistence.loading import load
    from sktransfer._files.model_file import ModelFileError
    from sktransfer._networks.stages import Stages
    from sktransfer._training.callbacks.unfreezing import UnfreezeSchedule

__version__ = "0.1.0"

__all__ = [
    "ActivationCache",
    "Backbone",
    "CacheInfo",
    "ConfusedPair",
    "ConfusedPairsDisplay",
    "DrawnViews",
    "FeatureExtractor",
    "ModelComparisonDisplay",
    "ModelFileError",
    "ModelInfo",
    "PredictionGridDisplay",
    "ResNetFeatureExtractor",
    "ResNetTransferClassifier",
    "SaliencyDisplay",
    "ScratchCNNClassifier",
    "Stages",
    "TopLossesDisplay",
    "TrainingHistoryDisplay",
    "TransferClassifier",
    "UnfreezeSchedule",
    "datasets",
    "inspect",
    "load",
    "most_confused",
]


_LAZY = {
    "ActivationCache": "_activations.cache",
    "CacheInfo": "_activations.cache",
    "ConfusedPair": "_displays.content.confusions",
    "ConfusedPairsDisplay": "_displays.confused_pairs",
    "ModelComparisonDisplay": "_displays.comparison",
    "ModelFileError": "_files.model_file",
    "ModelInfo": "_estimators.persistence.inspecting",
    "PredictionGridDisplay": "_displays.prediction_grid",
    "SaliencyDisplay": "_displays.saliency",
    "Stages": "_networks.stages",
    "TopLossesDisplay": "_displays.top_losses",
    "TrainingHistoryDisplay": "_displays.history",
    "UnfreezeSchedule": "_training.callbacks.unfreezing",
    "inspect": "_estimators.persistence.inspecting",
    "load": "_estimators.persistence.loading",
    "most_confused": "_displays.content.confusions",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"sktransfer.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
