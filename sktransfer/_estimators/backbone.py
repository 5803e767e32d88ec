"""What estimators with a pretrained backbone share: its name, weights and cache."""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ClassVar, Self

from sklearn.exceptions import NotFittedError
from sklearn.utils._param_validation import HasMethods
from sklearn.utils.validation import check_is_fitted

from sktransfer._feedback import warn
from sktransfer._images.geometry import frame_shape
from sktransfer._networks.backbones.record import Backbone
from sktransfer._training.faults.interrupts import finish_imports

if TYPE_CHECKING:
    import torch

    from sktransfer._activations.cache import ActivationCache, CacheInfo
    from sktransfer._activations.rows import ActivationRows
    from sktransfer._images.shapes import Shape
    from sktransfer._images.streams.ahead import Images
    from sktransfer._images.views import Augment
    from sktransfer._networks.stages import Stages

# To scale photographs to 224 pixels is normal. A network that sees fewer than 128 is
# made for small images, and misses most of those with four times as many.
SMALL_NETWORK, MANY_TIMES = 128, 4


class Pretrained:
    """The parameters that choose the backbone; a mixin for an `ImageInput`."""

    backbone: str | Backbone
    weights: Any
    image_size: int | str | None
    resize: str
    max_value: float | str

    _backbone_constraints: ClassVar[dict[str, list[Any]]] = {
        "backbone": [str, Backbone],
        "weights": [str, os.PathLike, HasMethods("fit"), None],
        "activation_cache": [str, os.PathLike, HasMethods(["warm", "clear"]), None],
    }

    def _load_backbone(
        self, n_classes: int, dropout: float, image_shape: Shape
    ) -> Stages:
        """Build the backbone with its weights and a new head."""
        from sktransfer._networks.backbones.build import make_pretrained

        if hasattr(self.weights, "fit"):
            try:
                check_is_fitted(self.weights)
            except NotFittedError as error:
                raise NotFittedError(
                    f"weights holds a {type(self.weights).__name__} that is not "
                    "fitted; fit it first. In the grid of a search, wrap it in "
                    "sklearn.frozen.FrozenEstimator, or the search clones it unfitted."
                ) from error
        return make_pretrained(
            self._describe_backbone(),
            self.weights,
            n_classes,
            dropout,
            self.image_size,
            image_shape,
            self.resize,
        )

    @finish_imports()
    def _warm_cache(
        self, X: Any, cache: ActivationCache, n_jobs: int | None
    ) -> CacheInfo:
        """Compute what a fit will ask for; for `ActivationCache.warm`."""
        from sktransfer._estimators.workers.encoding import encode

        return encode(self, X, cache, n_jobs)

    def _prepare_encoding(self, X: Any) -> tuple[Pretrained, Images, int]:
        """Decide on all images at once what the encoding of some of them must know.

        Returns
        -------
        estimator : Pretrained
            A clone that knows the shape of the images.

        images : Images of shape (n_images, height, width, n_channels)
            Those to encode.

        seed : int
            Of a network with random weights.
        """
        raise NotImplementedError

    def _encode(
        self, images: Images, n_images: int, seed: int, cache: ActivationCache
    ) -> CacheInfo:
        """Encode some of `n_images` images, as :func:`fill_cache` does."""
        raise NotImplementedError

    def _describe_backbone(self) -> Backbone:
        """Return the description of the backbone."""
        from sktransfer._networks.backbones.known import find_backbone

        return find_backbone(self.backbone)

    def _expects_unit_scale(self) -> bool:
        return self.weights is not None

    def _size_for_pictures(self) -> int:
        from sktransfer._networks.backbones.build import resolve_image_size

        return resolve_image_size(self._describe_backbone(), self.image_size, None)

    def _size_seen(self, image_shape: Shape) -> int | None:
        from sktransfer._networks.backbones.build import resolve_image_size

        if self.image_size is None:
            return None
        frame = frame_shape(image_shape, self.resize)
        return resolve_image_size(self._describe_backbone(), self.image_size, frame)

    def _choose_reading(self) -> dict[str, Any]:
        backbone = self._describe_backbone()
        return {
            "resize": self.resize,
            "interpolation": backbone.interpolation,
            "fill": backbone.mean,
            "max_value": self.max_value,
        }

    def _compare_sizes(self, image_shape: Shape) -> None:
        if self.image_size == "auto":
            name = self._describe_backbone().name
            warn_of_lost_detail(image_shape, self._size_seen(image_shape), name)

    def __sklearn_clone__(self) -> Self:
        # clone() would replace a fitted estimator in `weights` with an unfitted one.
        cloned: Self = super().__sklearn_clone__()  # type: ignore[misc]
        cloned.weights = self.weights
        return cloned


def warn_of_lost_detail(image_shape: Shape, size: int | None, backbone: str) -> None:
    """Warn if a network for small images gets images that are several times larger."""
    height, width, _ = image_shape
    if size is None or size >= SMALL_NETWORK or min(height, width) < MANY_TIMES * size:
        return
    warn(
        f"X holds images of {width} x {height} pixels, but backbone={backbone!r} sees "
        f"{size} x {size}; a backbone for photographs such as 'efficientnet_lite0' "
        f"sees 288 x 288. Pass image_size={size} if that is meant."
    )


def fill_cache(
    stages: Stages,
    depth: int,
    images: Images,
    n_images: int,
    device: torch.device,
    precision: str,
    augment: Augment,
    cache: ActivationCache,
    verbose: int,
    is_mixed: bool = False,
    with_features: bool = False,
) -> CacheInfo:
    """Compute every view of every image, as far as there is room in the cache.

    Parameters
    ----------
    stages : Stages
        The network; moved to `device`.

    depth : int
        How many stages besides the head will learn.

    images : Images of shape (n, height, width, n_channels)
        As the user passed them, or some of these.

    n_images : int
        How many the user passed, which decides on the views that the head is solved on.

    device : torch.device
        Where the stages compute.

    precision : {"float32", "bfloat16"}
        Number format in which they compute.

    augment : str, DrawnViews, callable or None
        Decides which views there are.

    cache : ActivationCache
        Where activations are kept.

    verbose : int
        From 1 on, a bar shows the progress.

    is_mixed : bool, default=False
        Whether training mixes images with each other.

    with_features : bool, default=False
        Whether the head will be solved on the pooled features of training images.

    Returns
    -------
    CacheInfo
    """
    from sktransfer._activations.cache import CacheInfo
    from sktransfer._activations.prefix import Prefix
    from sktransfer._activations.rows import ActivationRows
    from sktransfer._images.views import AS_IT_IS, list_views
    from sktransfer._networks.device import move_to
    from sktransfer._networks.processes import take_turn_on
    from sktransfer._training.image_sets import sum_info
    from sktransfer._training.probe import choose_views, find_features

    n_prefix, place = stages.n_frozen(depth), (device, precision)
    known, infos = None, [CacheInfo(0, 0, 0, 0.0)]
    with ExitStack() as stack:
        stack.enter_context(take_turn_on(device))
        move_to(stages, device).eval()
        if n_prefix:
            prefix = Prefix(stages, n_prefix, *place)
            height, width = images.shape[1:3]
            views = list_views(augment, height, width, is_mixed)
            some = views or (AS_IT_IS,)
            rows = ActivationRows(prefix, images, some, cache, verbose)
            stack.callback(rows.close)
            # The head alone is solved on the images as they are, if there are many.
            is_alone = with_features and depth == 0
            every_view = range(len(some))
            chosen = choose_views(len(some), n_images) if is_alone else every_view
            infos.append(_ensure(rows, chosen))
            known = None if views is None else rows
        if with_features and depth > 0:
            rows = find_features(stages, images, known, place, cache, verbose)
            stack.callback(rows.close)
            infos.append(_ensure(rows, choose_views(len(rows.views), n_images)))
    return sum_info(infos)


def _ensure(rows: ActivationRows, views: range) -> CacheInfo:
    """Bring all images into the cache in some views; return what was done for them."""
    rows.ensure_all(views)
    info = rows.info()
    if rows.is_full or rows.cache is None:
        return info
    # Where memory has no room, what is on disk was found all the same.
    hits = max(0, len(views) * len(rows.images) - info.misses)
    return info._replace(hits=hits, seconds_saved=rows.cache._estimate(hits))
