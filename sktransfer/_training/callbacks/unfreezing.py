"""The unfreeze schedule as a skorch callback."""

from __future__ import annotations

import math
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import Callback
from torch import nn

from sktransfer._networks.stages import check_depth
from sktransfer._training.schedule import (
    WARMUP_EPOCHS,
    Schedule,
    cosine_rate,
    plan_unfreezing,
    triangle_rate,
)


class UnfreezeSchedule(Callback):
    """Open the stages of a network one after another while skorch trains it.

    Works in any skorch net whose module is a :class:`Stages`. The optimizer gets one
    parameter group for each learning stage. The group of a stage that opens later warms
    up from that step on, and then follows the cosine to zero that all groups share.

    Parameters
    ----------
    schedule : {"gradual", "immediate"}, mapping of int to int, or sequence of int, \
default="gradual"
        ``"gradual"`` trains the head alone in the first epoch and then opens one stage
        per epoch, or several if it would otherwise take more than half of the epochs to
        open all. ``"immediate"`` opens all at once. ``{epoch: depth}`` sets the depth
        from an epoch on (counted from 0). A sequence holds the depth of every epoch.
        Depths never decrease, and are at most `unfreeze_depth`.

    unfreeze_depth : int, default=2
        How many stages besides the head learn in the end.

    backbone_lr_factor : float, default=0.1
        Rate of the stages before the head as a share of the net's ``lr``.

    bias_lr_factor : float, default=1.0
        Rate of batch-norm biases as a multiple of that of their stage; their weight
        decay is divided by it. With a value other than 1 they get their own groups.

    lr_schedule : {"cosine", "triangle"}, default="cosine"
        How rates change from step to step: ``"cosine"`` as above; ``"triangle"`` rises
        from a fifth of the peak to the peak in the first 23 % of all steps, and falls
        to nearly zero, no matter when a stage was opened.

    layer_decay : float, default=1.0
        Rate of each stage before the head as a share of that of the next such stage.

    Notes
    -----
    The defaults have the same sources as those of :class:`ResNetTransferClassifier`.
    """

    __module__ = "sktransfer"

    def __init__(
        self,
        schedule: Schedule = "gradual",
        unfreeze_depth: int = 2,
        backbone_lr_factor: float = 0.1,
        bias_lr_factor: float = 1.0,
        lr_schedule: str = "cosine",
        layer_decay: float = 1.0,
    ) -> None:
        self.schedule = schedule
        self.unfreeze_depth = unfreeze_depth
        self.backbone_lr_factor = backbone_lr_factor
        self.bias_lr_factor = bias_lr_factor
        self.lr_schedule = lr_schedule
        self.layer_decay = layer_decay

    def on_train_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Freeze every stage that the first epoch does not open."""
        check_depth(self.unfreeze_depth, net.module_.names)
        self.plan_ = plan_unfreezing(self.schedule, self.unfreeze_depth, net.max_epochs)
        self.epoch_ = self.step_ = 0
        # Epochs in which the head was solved rather than trained have no steps.
        self.n_without_steps_ = 0
        # Each depth that was opened, with the step at which it was.
        self.openings_: list[tuple[int, int]] = []
        stages = net.module_.unfreeze(self.plan_[0])
        ours = {id(p) for p in stages.parameters()}
        others = [
            {**group, "params": [p for p in group["params"] if id(p) not in ours]}
            for group in net.optimizer_.param_groups
        ]
        net.optimizer_.param_groups.clear()
        for group in others:
            if group["params"]:
                net.optimizer_.add_param_group(group)
        self._open(net, stages.learning())

    def on_epoch_begin(
        self, net: NeuralNet, dataset_train: Any = None, **kwargs: Any
    ) -> None:
        """Open the stages that this epoch adds."""
        iterator = net.get_iterator(dataset_train, training=True)
        self.steps_per_epoch_ = len(iterator)
        depth = self.plan_[min(self.epoch_, len(self.plan_) - 1)]
        if depth != net.module_.unfreeze_depth:
            self._open_depth(net, depth)
        net.history.record("unfreeze_depth", depth)

    def on_batch_begin(
        self, net: NeuralNet, batch: Any = None, training: bool = False, **kwargs: Any
    ) -> None:
        """Set the rate of every stage for this step."""
        if not training:
            return
        n_epochs = len(self.plan_) - self.n_without_steps_
        n_steps = n_epochs * self.steps_per_epoch_
        warmup_steps = math.ceil(WARMUP_EPOCHS * self.steps_per_epoch_)
        for group in net.optimizer_.param_groups:
            if "stage" in group:
                if self.lr_schedule == "triangle":
                    share = triangle_rate(self.step_, n_steps)
                else:
                    share = cosine_rate(
                        self.step_, n_steps, group["opened_at"], warmup_steps
                    )
                group["lr"] = group["peak_lr"] * share
        self.step_ += 1

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Count the epoch."""
        self.epoch_ += 1
        if self.step_ == 0:
            self.n_without_steps_ += 1

    def get_progress(self) -> dict[str, Any]:
        """Return what the epochs to come depend on."""
        return {
            "epoch": self.epoch_,
            "step": self.step_,
            "n_without_steps": self.n_without_steps_,
            "openings": [list(opening) for opening in self.openings_],
        }

    def set_progress(self, net: NeuralNet, progress: dict[str, Any]) -> None:
        """Go on, after `on_train_begin`, from what :meth:`get_progress` returned."""
        for depth, step in progress["openings"]:
            self.step_ = step
            self._open_depth(net, depth)
        self.epoch_, self.step_ = progress["epoch"], progress["step"]
        self.n_without_steps_ = progress["n_without_steps"]

    def _open_depth(self, net: NeuralNet, depth: int) -> None:
        """Open the stages down to a depth, each with a group in the optimizer."""
        stages = net.module_
        before = stages.learning()
        stages.unfreeze(depth)
        self._open(net, [n for n in stages.learning() if n not in before])
        self.openings_.append((depth, self.step_))

    def _open(self, net: NeuralNet, names: Any) -> None:
        """Give each stage of these names its own group in the optimizer."""
        names_of_all = net.module_.names
        for name in names:
            stage = net.module_.get_submodule(name)
            peak_lr = net.lr
            if name != names_of_all[-1]:
                n_later = len(names_of_all) - 2 - names_of_all.index(name)
                peak_lr *= self.backbone_lr_factor * self.layer_decay**n_later
            biases = [] if self.bias_lr_factor == 1 else _find_norm_biases(stage)
            ids = {id(p) for p in biases}
            others = [p for p in stage.parameters() if id(p) not in ids]
            self._add(net, name, others, peak_lr)
            decay = net.optimizer_.defaults.get("weight_decay", 0) / self.bias_lr_factor
            self._add(
                net, name, biases, peak_lr * self.bias_lr_factor, weight_decay=decay
            )

    def _add(
        self,
        net: NeuralNet,
        stage: str,
        parameters: list[nn.Parameter],
        peak_lr: float,
        **options: float,
    ) -> None:
        """Add a group to the optimizer, unless it is empty."""
        if parameters:
            net.optimizer_.add_param_group(
                {
                    "params": parameters,
                    "stage": stage,
                    "peak_lr": peak_lr,
                    "lr": peak_lr,
                    "opened_at": self.step_,
                    **options,
                }
            )


def _find_norm_biases(stage: nn.Module) -> list[nn.Parameter]:
    """List the biases that the batch norms of a stage learn."""
    norms = [m for m in stage.modules() if isinstance(m, nn.BatchNorm2d)]
    return [norm.bias for norm in norms if norm.bias is not None]
