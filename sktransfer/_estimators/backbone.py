"""What estimators over a pretrained backbone share: which one, and its weights."""

from __future__ import annotations

import os
from numbers import Integral
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import HasMethods, Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

if TYPE_CHECKING:
    from sktransfer._images.shapes import Shape
    from sktransfer._networks.stages import Stages


class Pretrained:
    """Parameters that say which backbone, beside an `ImageInput`."""

    backbone: str
    weights: Any
    image_size: int | str | None

    _backbone_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str],
        "weights": [str, os.PathLike, HasMethods("fit"), None],
        "image_size": [
            StrOptions({"auto"}),
            None,
            Interval(Integral, 1, None, closed="left"),
        ],
        "activation_cache": [str, os.PathLike, HasMethods(["warm", "clear"]), None],
    }

    def _load(self, n_classes: int, dropout: float, image_shape: Shape) -> Stages:
        """The backbone with its weights and a new head."""
        from sktransfer._networks.resnet import pretrained_resnet

        if hasattr(self.weights, "fit"):
            try:
                check_is_fitted(self.weights)
            except NotFittedError as error:
                raise NotFittedError(
                    f"weights holds a {type(self.weights).__name__} that is not "
                    "fitted; fit it first. As one of several values in a grid search, "
                    "wrap it in sklearn.frozen.FrozenEstimator, or the search unfits "
                    "it."
                ) from error
        return pretrained_resnet(
            self.backbone,
            self.weights,
            n_classes,
            dropout,
            self.image_size,
            image_shape,
        )

    def _expects_unit_scale(self) -> bool:
        return self.weights is not None

    def _size_for_pictures(self) -> int:
        from sktransfer._networks.resnet import resolve_image_size

        return resolve_image_size(self.backbone, self.image_size, None)

    def __sklearn_clone__(self) -> Self:
        # clone() would replace a fitted estimator in `weights` by an unfitted one.
        cloned: Self = super().__sklearn_clone__()  # type: ignore[misc]
        cloned.weights = self.weights
        return cloned
