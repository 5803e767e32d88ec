"""FeatureExtractor: pooled features, for any scikit-learn classifier."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin, clone
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted

from sktransfer._estimators.backbone import Pretrained, fill_cache
from sktransfer._estimators.computing import Computing
from sktransfer._estimators.documentation import like
from sktransfer._estimators.export.methods import ExportedFeatures
from sktransfer._estimators.inputs import ImageInput, restore_on_error
from sktransfer._images.streams.ahead import Images
from sktransfer._networks.backbones.record import Backbone
from sktransfer._training.faults.interrupts import finish_imports

if TYPE_CHECKING:
    import torch

    from sktransfer._activations.cache import ActivationCache, CacheInfo
    from sktransfer._networks.stages import Stages


class FeatureExtractor(
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
    ExportedFeatures,
    Pretrained,
    Computing,
    ImageInput,
):
    """Turn images into the pooled features of a pretrained network.

    Nothing is learned: :meth:`fit` loads the network and records the image shape.

    Parameters
    ----------
    backbone : str or Backbone, default="efficientnet_lite0"
        As in :class:`TransferClassifier`.

    weights : str, path-like, fitted estimator or None, default="auto"
        As in :class:`TransferClassifier`.

    image_size : "auto", int or None, default="auto"
        Height and width in pixels to which images are resized, as in
        :class:`TransferClassifier`.

    resize : {"crop", "pad", "squash"}, default="squash"
        What to do with images of other proportions, as in
        :class:`TransferClassifier`.

    image_shape : tuple of (int, int, int), default=None
        Height, width and channels of an image if X holds rows of pixels; one entry may
        be -1.

    max_value : "auto" or float, default="auto"
        The value of white in arrays other than uint8 and in grey files with more than 8
        bits. ``"auto"``: 65,535 in uint16 and in such files, 1 in others. Pass 4095 if
        12 bits are kept in 16. In uint8 and in other files, white is always 255.

    activation_cache : "auto", path, ActivationCache or None, default="auto"
        Where to keep the activations of the stages that stay frozen, so that no image
        passes them twice. ``"auto"``: in memory, shared by all fits and predictions of
        this process. A path: also in this folder, shared with other processes and later
        runs. An :class:`ActivationCache`: in that cache. ``None``: nowhere. On a CPU
        the results are the same, bit for bit.

    device : str, default="auto"
        A torch device. ``"auto"``: CUDA if it is available, else the CPU.

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Number format of matrix products. ``"auto"``: bfloat16 where the hardware
        multiplies it natively (most CUDA devices, CPUs with AVX512-BF16 or AMX),
        float32 elsewhere.

    random_state : int, RandomState instance or None, default=None
        Seeds the weights if ``weights=None``.

    verbose : int, default=0
        From 1 on, :meth:`transform` shows a progress bar with images per second and the
        time left, in a terminal or a notebook, but not in the workers of a search.

    Attributes
    ----------
    n_features_in_ : int
        Number of values in an image: height times width times channels.

    image_shape_ : tuple of (int, int, int)
        Height, width and channels of an image.

    stages_ : torch.nn.Module
        The network, in stages.

    device_ : str
        Device that the network is on.

    precision_ : str
        Number format in which it computes.

    See Also
    --------
    TransferClassifier : Also fine-tunes the last stages.

    Notes
    -----
    The defaults have the same sources as those of :class:`TransferClassifier`.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import FeatureExtractor
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = make_pipeline(FeatureExtractor(), LogisticRegression())
    >>> clf.fit(X[:40] / 16, y[:40]).predict(X[40:44] / 16).shape
    (4,)
    """

    __module__ = "sktransfer"

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **ImageInput._input_constraints,
        **Computing._computing_constraints,
        **Pretrained._backbone_constraints,
    }

    def __init__(
        self,
        backbone: str | Backbone = "efficientnet_lite0",
        *,
        weights: Any = "auto",
        image_size: int | str | None = "auto",
        resize: str = "squash",
        image_shape: tuple[int, int, int] | None = None,
        max_value: float | str = "auto",
        activation_cache: Any = "auto",
        device: str = "auto",
        precision: str = "auto",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.image_size = image_size
        self.resize = resize
        self.image_shape = image_shape
        self.max_value = max_value
        self.activation_cache = activation_cache
        self.device = device
        self.precision = precision
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> FeatureExtractor:
        """Load the network for images of this shape.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`TransferClassifier.fit`.

        y : None
            Ignored.

        Returns
        -------
        object
            The fitted transformer.

        Raises
        ------
        ValueError
            If a parameter or `X` is not as described.
        OSError
            If the weights are not on this machine and cannot be downloaded.
        """
        self._fit(X)
        return self

    @finish_imports()
    def _fit(self, X: Any) -> None:
        """Load the network."""
        from sktransfer._activations.cache import resolve_cache
        from sktransfer._networks.device import move_to
        from sktransfer._networks.processes import take_turn_on

        with restore_on_error(self):
            self._validate_params()
            device, precision = self._resolve_device()
            resolve_cache(self.activation_cache)  # for its errors
            images, _ = self._check_images(X, reset=True)
            with take_turn_on(device):
                stages = self._make_stages(images, device, self._draw_seed())
                self.stages_ = move_to(stages, device).eval()
            names = ("backbone", "image_size", "resize")
            self._fitted_network = {name: getattr(self, name) for name in names}
            self.device_, self.precision_ = str(device), precision

    @finish_imports()
    def transform(self, X: Any) -> np.ndarray:
        """Compute the pooled features of images.

        Parameters
        ----------
        X : array-like
            Images, as for :meth:`fit`.

        Returns
        -------
        ndarray of shape (n_images, n_features), float32
            1280 features for the EfficientNet-Lites, 512 for resnet18 and resnet34,
            2048 for the larger ResNets, 192 for mini_resnet18.

        Raises
        ------
        ValueError
            If `X` is not as described, or holds values that no image has.
        FloatingPointError
            If a feature is NaN or infinite.
        """
        from sktransfer._activations.cache import resolve_cache
        from sktransfer._activations.prediction import extract_features

        check_is_fitted(self)
        images, _ = self._check_images(X, reset=False)
        features = extract_features(
            self.stages_,
            images,
            self._fitted_device(),
            self.precision_,
            resolve_cache(self.activation_cache),
            int(self.verbose),
        )
        self._warn_of_findings(images)
        return features

    def _prepare_encoding(self, X: Any) -> tuple[FeatureExtractor, Images, int]:
        fresh = clone(self)
        fresh._validate_params()
        images, _ = fresh._check_images(X, reset=True)
        return fresh, images, fresh._draw_seed()

    @finish_imports()
    def _encode(
        self, images: Images, n_images: int, seed: int, cache: ActivationCache
    ) -> CacheInfo:
        device, precision = self._resolve_device()
        stages = self._make_stages(images, device, seed)
        return fill_cache(
            stages,
            0,
            images,
            n_images,
            device,
            precision,
            None,
            cache,
            int(self.verbose),
        )

    def _make_stages(self, images: Images, device: torch.device, seed: int) -> Stages:
        """Load the network for images of this shape."""
        from sktransfer._networks.device import fork_rng

        with fork_rng(seed, device):
            return self._load_backbone(1, 0.0, images.shape[1:])

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Return the names of the features.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Names of what `X` holds. That of a column of pictures does not matter.

        Returns
        -------
        ndarray of shape (n_features,), object
            The name of the class, in lower case, and a number.

        Raises
        ------
        ValueError
            If the names of pixels are not as many as in `fit`.
        """
        if self._had_pictures and np.size(input_features) == 1:
            input_features = None
        names: np.ndarray = super().get_feature_names_out(input_features)
        return names

    @property
    def _n_features_out(self) -> int:
        linear = self.stages_.get_submodule("head.linear")
        return int(linear.in_features)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        if "stages_" not in state:
            return state
        # On the CPU: a process without the device could not even load the pickle.
        return {**state, "stages_": copy.deepcopy(state["stages_"]).cpu()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        if hasattr(self, "stages_"):
            import torch

            from sktransfer._networks.device import move_to

            if not torch.cuda.is_available():
                self.device_ = "cpu"
            move_to(self.stages_, self._fitted_device())
            self.precision_ = self._recheck_precision()

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "stages_")

    def __sklearn_tags__(self) -> Tags:
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        tags.transformer_tags.preserves_dtype = ["float32"]
        return tags


@like(FeatureExtractor, backbone="resnet50")
class ResNetFeatureExtractor(FeatureExtractor):  # numpydoc ignore=PR01,PR02
    """Turn images into the pooled features of a pretrained ResNet.

    This is :class:`FeatureExtractor` with another default backbone.

    Parameters
    ----------
    backbone : str or Backbone, default="resnet50"
        As in :class:`ResNetTransferClassifier`.

    See Also
    --------
    ResNetTransferClassifier : Also fine-tunes the last stages.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sklearn.linear_model import LogisticRegression
    >>> from sklearn.pipeline import make_pipeline
    >>> from sktransfer import ResNetFeatureExtractor
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> features = ResNetFeatureExtractor("mini_resnet18")
    >>> clf = make_pipeline(features, LogisticRegression())
    >>> clf.fit(X[:100] / 16, y[:100]).predict(X[100:104] / 16).shape
    (4,)
    """

    __module__ = "sktransfer"
