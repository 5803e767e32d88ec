"""Averages with the linear probe as a skorch callback (Wortsman et al. 2022)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from skorch import NeuralNet
from skorch.callbacks import Callback

from sktransfer._training.callbacks.lookahead import list_averaged
from sktransfer._training.image_sets import ImageDataset

# Errors of the probe that are too few to learn from, and how many more make its share a
# half (benchmarks/fine_tuning.py).
TOO_FEW, HALF_AFTER = 15, 100

# Training images that tell whether an average is worse than what it is an average of:
# the three losses of the same images, so that few will do.
MOST_TO_CHECK = 300


def choose_probe_share(n_wrong: float) -> float:
    """Choose the share of the probe from how many training images it gets wrong.

    The fewer they are, the less there is to learn from, and the more that training
    finds beside them is chance. An estimate from few observations is shrunk towards
    what was known before in the same way.

    Parameters
    ----------
    n_wrong : float
        Counted on images that the probe was not solved for.

    Returns
    -------
    float
        In (0, 1].
    """
    return HALF_AFTER / (HALF_AFTER + max(0.0, n_wrong - TOO_FEW))


def explain_share(share: float, n_wrong: float, n_images: int) -> str:
    """Say why the share of the probe is what it is, or why no stage opens."""
    found = (
        f"since the linear probe gets {n_wrong:.0f} of {n_images} images wrong in "
        "cross-validation."
    )
    if share == 1:
        return (
            f"unfreeze_depth: 0, {found} Fine-tuning needs more than {TOO_FEW}, so fit "
            "ends with the probe; probe_share=0 fine-tunes nevertheless."
        )
    is_limited = share < choose_probe_share(n_wrong)
    limit = " It is the most that is kept with this backbone." if is_limited else ""
    return f"probe_share: {share:.2f}, {found}{limit}"


def draw_rows(rows: np.ndarray, at_most: int) -> np.ndarray:
    """Draw rows at random, always the same ones, in their order.

    At equal distances, those of images in turn, class by class, could be of one class.
    """
    if len(rows) <= at_most:
        return rows
    drawn = np.random.default_rng(0).choice(len(rows), at_most, replace=False)
    return rows[np.sort(drawn)]


class ProbeAverage(Callback):
    """Validate, and in the end keep, the average of the network and its linear probe.

    The probe is the network after the first epoch, which solves the head. Training goes
    on from the weights that are not averaged.

    Parameters
    ----------
    share : "auto" or float
        How much of the average is the probe, in [0, 1]. ``"auto"``: as
        :func:`choose_probe_share` has it.

    is_checked : bool, default=False
        Whether to average in the end only if the training loss is then no more than the
        average of the two losses: the straight way from the probe to what was trained
        must not lead over a ridge. Without validation images, which would show it.

    at_most : float, default=1.0
        The largest share that ``"auto"`` chooses.

    Attributes
    ----------
    share_ : float
        The share that was chosen.

    reason_ : str
        Why, or what it means if it is 1.
    """

    def __init__(
        self, share: float | str, is_checked: bool = False, at_most: float = 1.0
    ) -> None:
        self.share = share
        self.is_checked = is_checked
        self.at_most = at_most

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Forget the last training."""
        self.probe_: list[torch.Tensor] | None = None
        self.trained_: list[torch.Tensor] | None = None
        self.is_averaged_ = False

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Go on from the weights that were trained."""
        if self.trained_ is not None:
            self.is_averaged_ = False
            _load(net, self.trained_)
            self.trained_ = None

    def on_batch_begin(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Average before the first batch of validation images."""
        if not training:
            self._average(net)

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Keep the probe; average all that follow."""
        if self.probe_ is None:
            self.probe_ = _copy(net)
            auto = self.share == "auto"
            self.share_ = (
                min(choose_probe_share(net.probe.n_wrong), self.at_most)
                if auto
                else float(self.share)
            )
            self.reason_ = "unfreeze_depth: 0, since probe_share=1 keeps the probe."
            if auto:
                n_images = len(net.probe.dataset)
                self.reason_ = explain_share(self.share_, net.probe.n_wrong, n_images)
                if net.verbose:
                    print(self.reason_)
        self._average(net)

    def get_progress(self) -> dict[str, Any]:
        """Return what the epochs to come depend on."""
        return {
            "probe": self.probe_,
            "trained": self.trained_,
            "is_averaged": self.is_averaged_,
            "share": self.share_,
            "reason": self.reason_,
        }

    def set_progress(self, net: NeuralNet, progress: dict[str, Any]) -> None:
        """Go on from what :meth:`get_progress` returned."""
        self.probe_, self.trained_ = progress["probe"], progress["trained"]
        self.is_averaged_ = progress["is_averaged"]
        self.share_, self.reason_ = progress["share"], progress["reason"]

    def on_train_end(self, net: NeuralNet, X: Any = None, **kwargs: Any) -> None:
        """Average what an interrupted epoch left, and drop the copies."""
        self._average(net)
        is_whole = len(net.history) > 1 and net.interrupt_ is None
        if self.is_checked and self.trained_ is not None and is_whole:
            self._check(net, X)
        self.probe_ = self.trained_ = None

    def _check(self, net: NeuralNet, dataset: ImageDataset) -> None:
        """Keep what was trained if the average is worse on training images."""
        some = dataset.replace(rows=draw_rows(dataset.rows, MOST_TO_CHECK))
        averaged = _copy(net)
        ends: Any = (self.probe_, averaged, self.trained_)
        losses = []
        for weights in ends:
            _load(net, weights)
            losses.append(net.measure_loss(some))
        at_probe, between, trained = losses
        limit = self.share_ * at_probe + (1 - self.share_) * trained
        if between > limit:
            self.share_ = 0.0
            if net.verbose:
                print(
                    f"probe_share: 0, since the average has a training loss of "
                    f"{between:.3f}, more than {limit:.3f}, the average of the losses "
                    f"({at_probe:.3f} of the probe, {trained:.3f} after fine-tuning)."
                )
        else:
            _load(net, averaged)

    def _average(self, net: NeuralNet) -> None:
        """Average, unless that is done, or there is no probe yet.

        An interrupt may fall into the middle: what was trained is kept until then.
        """
        if self.probe_ is None or self.is_averaged_:
            return
        if self.trained_ is None:
            self.trained_ = _copy(net)
        all_three = zip(list_open(net), self.trained_, self.probe_, strict=True)
        for tensor, trained, probe in all_three:
            tensor.copy_(torch.lerp(trained, probe, self.share_))
        self.is_averaged_ = True


def list_open(net: NeuralNet) -> list[torch.Tensor]:
    """List the weights and statistics of the stages that may learn in this fit."""
    stages = net.module_
    own = stages.names[net.n_prefix :]
    return [t for name in own for t in list_averaged(stages.get_submodule(name))]


def _load(net: NeuralNet, weights: list[torch.Tensor]) -> None:
    """Load what :func:`_copy` copied."""
    for tensor, copied in zip(list_open(net), weights, strict=True):
        tensor.copy_(copied)


def _copy(net: NeuralNet) -> list[torch.Tensor]:
    """Copy what :func:`list_open` lists."""
    return [tensor.clone() for tensor in list_open(net)]


class StopAtProbe(Callback):
    """Stop after the linear probe if nothing else would be left of the training.

    Parameters
    ----------
    average : ProbeAverage
        Of the same training, and before this one in the list of callbacks.
    """

    def __init__(self, average: ProbeAverage) -> None:
        self.average = average

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Stop, as skorch's own callbacks do."""
        if self.average.share_ < 1 or len(net.history) == net.max_epochs:
            return
        if net.verbose:  # whose turn would come after this
            dict(net.callbacks_)["print_log"].on_epoch_end(net)
        raise KeyboardInterrupt
