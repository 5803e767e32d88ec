"""Backbone: a pretrained network described, so that it can be cut, fed and trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from os import PathLike
from typing import Any

# Per channel of images scaled to [0, 1], as weights trained on ImageNet usually expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


# numpydoc does not recognise the fields of a dataclass as its parameters.
@dataclass(frozen=True)
class Backbone:  # numpydoc ignore=PR02
    """A pretrained network, described: how it is built, cut, fed and fine-tuned.

    Estimators take one as ``backbone=`` instead of a name. Any torch module will do
    whose children run one after another; only the children named in `stages` are used.

    Parameters
    ----------
    name : str
        What errors and printed estimators call it.

    make : callable
        Returns the network, a :class:`torch.nn.Module` with any weights. A function at
        the top level of a module can be pickled; a lambda cannot.

    stages : mapping of str to sequence of str
        The stages from input to output: the name of each, and the names of the
        network's children that it runs, in order. A name with dots means a child of a
        child, such as ``"blocks.0"``. The last stage returns features, either pooled,
        of shape (n, n_features), or of shape (n, n_features, height, width), which are
        averaged over the pixels.

    weights : path-like, mapping of str to object, or None, default=None
        File of the pretrained weights (``.safetensors``, ``.pth`` or another that torch
        wrote), or several by name, of which the first is the default. ``None``: there
        are none, and only ``weights=`` of the estimator can give some.

    head : str or None, default=None
        Child of the network that maps features to logits and is replaced by a new head.
        Its weights are not read.

    image_size : int, default=224
        Height and width in pixels that the network is made for.

    small_image_size : int or None, default=None
        The same for images of fewer than 96 x 96 pixels. ``None``: `image_size`.

    mean, std : tuple of float, default=ImageNet's
        Mean and standard deviation of each channel of images scaled to [0, 1].

    interpolation : {"bilinear", "bicubic"}, default="bilinear"
        How images are resized.

    n_features : int or None, default=None
        Width of the features. ``None``: found out by a dry run.

    optimizer : {"sgd", "adamw"}, default="adamw"
        SGD with Nesterov momentum, or AdamW.

    lr : float, default=3e-4
        Peak learning rate of the head, per step; of AdamW, for batches of 32 images.

    backbone_lr_factor : float, default=1.0
        Peak rate of the open stages, as a share of `lr`.

    weight_decay : float, default=0.01
        Of SGD the L2 penalty, of AdamW the decay of the weights.

    layer_decay : float, default=1.0
        Rate of each open stage as a share of that of the next one, in (0, 1].

    clip_norm : float or None, default=1.0
        Largest norm of the gradient of a step; larger ones are scaled down to it.

    batch_norm : {"train", "eval"}, default="eval"
        Whether batch norm in open stages uses and updates the statistics of the
        batches, or keeps those of the weights.

    max_probe_share : float, default=1.0
        The most of the linear probe that ``probe_share="auto"`` of
        :class:`TransferClassifier` keeps, in [0, 1]. With less than 1, fine-tuning goes
        on however little the probe gets wrong.

    translate : callable or None, default=None
        Gives the tensors of a weight file the names that they have in the network. It
        takes a mapping of str to tensor, what the user passed as weights (for errors),
        and the image size in pixels or None. ``None``: names need no translation.

    takes_image_size : bool, default=False
        Whether `make` takes the image size in pixels, as a network with position
        embeddings needs.

    Raises
    ------
    ValueError
        If `optimizer`, `batch_norm` or `max_probe_share` is unknown or out of range.

    See Also
    --------
    TransferClassifier : Fine-tunes a backbone.

    Notes
    -----
    The defaults of training suit convolutional networks with batch norm and ImageNet
    weights. The statistics of small batches are not those that the weights were trained
    with, and a rate that suits a new head is too high for a solved one.
    ``benchmarks/fine_tuning.py`` compares other values.

    Examples
    --------
    >>> from torch import nn
    >>> from sktransfer import Backbone, TransferClassifier
    >>> def make_tiny():
    ...     return nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 16, 3))
    >>> tiny = Backbone(
    ...     "tiny", make_tiny, {"stem": ["0", "1"], "stage1": ["2"]}, image_size=32
    ... )
    >>> clf = TransferClassifier(tiny, weights=None, unfreeze_depth=1)
    """

    __module__ = "sktransfer"

    name: str
    make: Callable[..., Any] = field(repr=False)
    stages: Mapping[str, Sequence[str]] = field(repr=False)
    weights: str | PathLike[str] | Mapping[str, Any] | None = None
    head: str | None = field(default=None, repr=False)
    image_size: int = 224
    small_image_size: int | None = field(default=None, repr=False)
    mean: tuple[float, ...] = field(default=IMAGENET_MEAN, repr=False)
    std: tuple[float, ...] = field(default=IMAGENET_STD, repr=False)
    interpolation: str = field(default="bilinear", repr=False)
    n_features: int | None = field(default=None, repr=False)
    optimizer: str = field(default="adamw", repr=False)
    lr: float = field(default=3e-4, repr=False)
    backbone_lr_factor: float = field(default=1.0, repr=False)
    weight_decay: float = field(default=0.01, repr=False)
    layer_decay: float = field(default=1.0, repr=False)
    clip_norm: float | None = field(default=1.0, repr=False)
    batch_norm: str = field(default="eval", repr=False)
    max_probe_share: float = field(default=1.0, repr=False)
    translate: Callable[..., Any] | None = field(default=None, repr=False)
    takes_image_size: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        choices = {"optimizer": ("sgd", "adamw"), "batch_norm": ("train", "eval")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} of Backbone {self.name!r} is "
                    f"unknown; pass one of {', '.join(map(repr, known))}."
                )
        share = self.max_probe_share
        if not (isinstance(share, Real) and 0 <= share <= 1):
            raise ValueError(
                f"max_probe_share={share!r} of Backbone {self.name!r} must be a number "
                "in [0, 1]."
            )
