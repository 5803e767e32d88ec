"""ScratchCNNClassifier: a small CNN from scratch, the honest baseline."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.utils._param_validation import Interval, StrOptions

from sktransfer._estimators.classifier import BaseImageClassifier

if TYPE_CHECKING:
    import torch

    from sktransfer._images.shapes import Shape
    from sktransfer._images.streams.ahead import Images
    from sktransfer._networks.stages import Stages

# Peak rate of Jordan (2024) for the mean loss of a batch, and the size of that batch.
PEAK_RATE, RATE_BATCH = 1.5, 1024


class ScratchCNNClassifier(BaseImageClassifier):
    """Classify images with a small convolutional network trained from scratch.

    The network and its training follow the speed runs on CIFAR-10 (Jordan [1]_): a
    first convolution that whitens patches of 2x2 pixels, six 3x3 convolutions with
    batch norm in ``layer1`` to ``layer3``, pooling and a linear layer. Every stage
    learns from the first epoch. Images may have any size and number of channels.

    Parameters
    ----------
    width : int or tuple of (int, int, int), default=32
        Channels of ``layer1`` to ``layer3``. With a single number, ``layer2`` and
        ``layer3`` have twice as many. ``(64, 256, 256)`` is the network of the speed
        runs.

    whiten : bool, default=True
        Whether the first convolution has fixed filters, computed from the training
        images, that make their small patches uncorrelated. Otherwise it starts from
        random filters and learns.

    global_pool : {"avg", "max"}, default="avg"
        Whether the head sees the average or the maximum of each channel over the
        pixels.

    dropout : float, default=0.0
        Share of the pooled features that is dropped in training, in [0, 1).

    image_size : "auto", int or None, default="auto"
        Height and width in pixels to which images are resized on the device.
        ``"auto"``: images of 16 to 64 pixels keep their size, others are brought into
        that range. ``None``: all images keep their size.

    resize : {"crop", "pad", "squash"}, default="squash"
        What to do with images whose proportions are not those that the network sees, be
        they arrays or files. ``"crop"``: keep the centre. ``"pad"``: keep all, and fill
        the sides with the mean colour (grey, in files). ``"squash"``: change the
        proportions.

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
default="flip_crop"
        Random changes of the training images. ``"flip"``: mirrored. ``"flip_crop"``:
        also shifted by up to a sixteenth of their size. :class:`DrawnViews`: one of a
        few such views. ``"advanced"``: a part of the image, mirrored, with one of many
        changes of place or colour, and seldom a box erased (see Notes). A callable: a
        function of a batch tensor of shape (n, height, width, n_channels), uint8 or
        float32, that keeps the dtype.

    mixup : float, default=0.0
        How much the images of a batch are averaged with each other, and their labels
        accordingly: the parameter of the beta distribution that the shares are drawn
        from, such as 0.2. 0: not at all. Validation images are never mixed.

    cutmix : float, default=0.0
        The same, but a box of the image is replaced by that of another; such as 1. If
        `mixup` is positive too, one of them is chosen at random for each batch.

    alternate_flip : bool, default=True
        Whether ``"flip"`` and ``"flip_crop"`` mirror an image in every other epoch
        rather than at random, so that the network sees both sides equally often.

    max_epochs : int, default=18
        Passes over the training images.

    batch_size : "auto" or int, default="auto"
        Images per step. ``"auto"``: 128, or fewer if an epoch would otherwise have
        fewer than 32 steps, but at least 8.

    lr : "auto" or float, default="auto"
        Peak learning rate, per step. ``"auto"``: 1.5 for batches of 1,024 images, and
        in proportion for other sizes.

    lr_schedule : {"triangle", "cosine"}, default="triangle"
        How the rate changes. ``"triangle"``: from a fifth of the peak up to the peak in
        the first 23 % of all steps, then down to nearly zero. ``"cosine"``: along a
        cosine from the peak to zero.

    bias_lr_factor : float, default=64.0
        Rate of batch-norm biases as a multiple of `lr`; their weight decay is divided
        by the same number.

    momentum : float, default=0.85
        Nesterov momentum of SGD, in [0, 1).

    weight_decay : float, default=1.3e-3
        L2 penalty on the learning parameters.

    lookahead : bool, default=True
        Whether to pull the weights towards their running average every five steps, more
        strongly towards the end of training.

    label_smoothing : float, default=0.2
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

    n_iter_no_change : int, default=5
        Epochs without improvement after which training stops.

    device : str, default="auto"
        A torch device. ``"auto"``: CUDA if it is available, else the CPU.

    precision : {"auto", "float32", "bfloat16"}, default="auto"
        Number format of matrix products, except those of the head, which are always
        float32. ``"auto"``: bfloat16 where the hardware multiplies it natively (most
        CUDA devices, CPUs with AVX512-BF16 or AMX), float32 elsewhere.

    compile : bool, default=False
        Whether ``torch.compile`` compiles the network, which takes seconds to minutes
        before the first step.

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
        predictions themselves are refused.

    net_params : dict, default=None
        The optimizer to use instead of SGD, as parameters of the skorch net:
        ``"optimizer"`` and ``"optimizer__..."``. It needs its own `lr` and
        `bias_lr_factor`.

    warm_start : bool, default=False
        Whether :meth:`fit` continues from the weights of the last fit. All stages that
        may learn then do so from the first epoch.

    random_state : int, RandomState instance or None, default=None
        Seeds the network, dropout, shuffling, augmentation and the validation split.
        torch's global state does not change. NumPy's changes only if ``None`` draws a
        seed from it, as everywhere in scikit-learn.

    verbose : int, default=0
        From 1 on, :meth:`fit` prints a line per epoch. In a terminal or a notebook, but
        not in the workers of a search, a progress bar shows the epoch, images per
        second, the loss and the time left; another bar shows predictions.

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
        Losses, accuracies and duration in seconds of each epoch.

    n_iter_ : int
        Number of epochs trained.

    best_epoch_ : int
        Epoch, counted from 1, whose weights the estimator has.

    interrupted_ : bool
        Whether Ctrl-C ended the training before its last epoch.

    device_ : str
        Device that the network is on.

    precision_ : str
        Number format in which it computes.

    fit_time_ : float
        Time that :meth:`fit` took, in seconds.

    See Also
    --------
    TransferClassifier : Starts from pretrained weights.

    Notes
    -----
    Sources of the defaults: `max_epochs` is that of the study that this library grew
    from. The following are those of Jordan [1]_: the plan of the network, `whiten`, no
    `dropout`, images mirrored and shifted by a sixteenth of their size
    (``augment="flip_crop"``), `alternate_flip`, `lr`, `lr_schedule`, `bias_lr_factor`,
    `momentum`, `weight_decay` (for batches of 1,024), `lookahead` (after Zhang et al.
    [2]_), `label_smoothing` and the views of `tta`. ``benchmarks/ablation.py`` measures
    what most of them contribute.

    These differ from Jordan: `width` is smaller, for CPUs. Batches are smaller, as is
    customary. `global_pool` is ``"avg"``, before a linear layer with larger initial
    weights, because that is better with few images (the same program); the speed runs
    pool maxima. Whitening keeps directions of little variance small, because they are
    noise in JPEG files. The biases of the first convolution learn to the end. Batch
    norm never divides by less than 0.1, which matters if images hardly differ. The
    linear layer has biases.

    ``early_stopping="auto"`` with its 10,000 images and `validation_fraction` are those
    of scikit-learn's ``HistGradientBoostingClassifier``. ``precision="auto"`` is the
    default because it is faster (``benchmarks/precision.py``). `compile` and `tta` are
    off because each costs time. `mixup` and `cutmix` are off, as in timm. `image_size`,
    `batch_size` and `n_iter_no_change` are customary values, not tuned.

    ``augment="advanced"`` resizes a crop of 35 to 100 % of the area, as examples of
    fastai do for fine-tuning, of at most 4:3 of the shape of the image. As in
    TrivialAugment [3]_, one change is drawn for each image, at a random strength:
    rotation (up to 20 degrees), shear (0.2), shift (10 %), brightness, contrast,
    saturation, sharpness, fewer bits, bright values inverted, brightness stretched or
    equalized, or none. They are about half as strong as there. In one image of ten, a
    box of 2 to 33 % of the area gets the mean colour, the numbers of torchvision's
    recipes.

    A speed run on a GPU is ``ScratchCNNClassifier(width=(64, 256, 256),
    global_pool="max", batch_size=1024, max_epochs=10, tta="flip_shift",
    early_stopping=False)`` (not run on a GPU here).

    References
    ----------
    .. [1] Jordan, "94% on CIFAR-10 in 3.29 Seconds on a Single GPU",
       arXiv:2404.00498, 2024.
    .. [2] Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back",
       NeurIPS 2019.
    .. [3] Müller and Hutter, "TrivialAugment: Tuning-free Yet State-of-the-Art Data
       Augmentation", ICCV 2021.

    Examples
    --------
    >>> from sklearn.datasets import load_digits
    >>> from sktransfer import ScratchCNNClassifier
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = ScratchCNNClassifier(max_epochs=2, augment=None, random_state=0)
    >>> clf.fit(X[:100] / 16, y[:100]).predict(X[100:104] / 16).shape
    (4,)
    """

    __module__ = "sktransfer"

    _network_parameters = (
        "width",
        "whiten",
        "global_pool",
        "dropout",
        "image_size",
        "resize",
    )

    _parameter_constraints: ClassVar[dict[str, list[Any]]] = {
        **BaseImageClassifier._parameter_constraints,
        "width": [Interval(Integral, 1, None, closed="left"), tuple, list],
        "whiten": ["boolean"],
        "global_pool": [StrOptions({"avg", "max"})],
        "alternate_flip": ["boolean"],
        "lookahead": ["boolean"],
        "lr": [StrOptions({"auto"}), Interval(Real, 0, None, closed="neither")],
        "lr_schedule": [StrOptions({"triangle", "cosine"})],
        "bias_lr_factor": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        *,
        width: int | tuple[int, int, int] = 32,
        whiten: bool = True,
        global_pool: str = "avg",
        dropout: float = 0.0,
        image_size: int | str | None = "auto",
        resize: str = "squash",
        image_shape: tuple[int, int, int] | None = None,
        max_value: float | str = "auto",
        on_bad_image: str = "raise",
        augment: Any = "flip_crop",
        mixup: float = 0.0,
        cutmix: float = 0.0,
        alternate_flip: bool = True,
        max_epochs: int = 18,
        batch_size: int | str = "auto",
        lr: float | str = "auto",
        lr_schedule: str = "triangle",
        bias_lr_factor: float = 64.0,
        momentum: float = 0.85,
        weight_decay: float = 1.3e-3,
        lookahead: bool = True,
        label_smoothing: float = 0.2,
        class_weight: Any = None,
        early_stopping: bool | str = "auto",
        validation_fraction: float = 0.1,
        n_iter_no_change: int = 5,
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
        self.width = width
        self.whiten = whiten
        self.global_pool = global_pool
        self.dropout = dropout
        self.image_size = image_size
        self.resize = resize
        self.image_shape = image_shape
        self.max_value = max_value
        self.on_bad_image = on_bad_image
        self.augment = augment
        self.mixup = mixup
        self.cutmix = cutmix
        self.alternate_flip = alternate_flip
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.lr = lr
        self.lr_schedule = lr_schedule
        self.bias_lr_factor = bias_lr_factor
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.lookahead = lookahead
        self.label_smoothing = label_smoothing
        self.class_weight = class_weight
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
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
        from sktransfer._networks.cnn import make_cnn_for

        return make_cnn_for(
            images,
            rows,
            n_classes,
            self._check_widths(),
            self.dropout,
            self.image_size,
            self.resize,
            self.whiten,
            self.global_pool,
            device,
        )

    def _check_widths(self) -> tuple[int, int, int]:
        """Return the channels of layer1 to layer3; ValueError unless they are valid."""
        width: Any = self.width
        if isinstance(width, Integral):
            return int(width), 2 * int(width), 2 * int(width)
        widths = tuple(width)
        if len(widths) != 3 or not all(
            isinstance(w, Integral) and int(w) > 0 for w in widths
        ):
            raise ValueError(
                f"width={self.width!r} must be an integer of 1 or more, or three such "
                "integers."
            )
        narrow, middle, wide = map(int, widths)
        return narrow, middle, wide

    def _resolve_plan(self, goes_on: bool) -> tuple[int, ...]:
        from sktransfer._networks.cnn import STAGES
        from sktransfer._training.schedule import plan_unfreezing

        self._check_widths()  # for its error, which must not wait for the images
        return plan_unfreezing("immediate", len(STAGES) - 1, self.max_epochs)

    def _training_options(self, goes_on: bool) -> dict[str, Any]:
        return {
            "backbone_lr_factor": 1.0,
            "bias_lr_factor": self.bias_lr_factor,
            "lr_schedule": self.lr_schedule,
            "alternate_flip": self.alternate_flip,
            "lookahead": self.lookahead,
        }

    def _choose_lr(self, images_per_step: float) -> float:
        if self.lr == "auto":
            return PEAK_RATE * images_per_step / RATE_BATCH
        return float(self.lr)

    def _expects_unit_scale(self) -> bool:
        return False

    def _size_seen(self, image_shape: Shape) -> int | None:
        from sktransfer._networks.cnn import resolve_image_size

        size = resolve_image_size(self.image_size, image_shape, self.resize)
        return None if size is None else size[0]

    def _size_for_pictures(self) -> int:
        from sktransfer._networks.cnn import LARGEST_IMAGE

        if self.image_size is None or self.image_size == "auto":
            return LARGEST_IMAGE
        return int(self.image_size)
