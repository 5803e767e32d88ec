"""skorch's net over stages: whole batches, and one row of history per epoch."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from skorch import NeuralNet
from skorch.callbacks import Callback, EpochTimer, PrintLog
from torch import nn
from torch.nn import functional as F

from sktransfer._images.views import Augment
from sktransfer._networks.depthwise import quick_gradients
from sktransfer._networks.device import autocast
from sktransfer._networks.memory import name_shortage
from sktransfer._networks.stages import Stages
from sktransfer._training.batches import Batch, Batches
from sktransfer._training.callbacks.progress import print_plainly
from sktransfer._training.faults.interrupts import hear_interrupts
from sktransfer._training.faults.short_memory import (
    OpenStatistics,
    explain_shortage,
    warn_of_parts,
)
from sktransfer._training.image_sets import ImageDataset
from sktransfer._training.mixing import count_mixed
from sktransfer._training.probe import Probe
from sktransfer._training.ranks.group import Group, raise_together
from sktransfer._training.ranks.shares import Share
from sktransfer._training.ranks.whole_batch import WholeBatch

# Batch norm cannot learn from one image.
SMALLEST_PART = 2

_REMEDY = "Lower lr, or check that X is scaled to [0, 1]."


class StagesNet(NeuralNet):
    """skorch's net over :class:`Stages`, with whole-batch iteration.

    Parameters
    ----------
    module : Stages
        The network; trained in place.

    augment : str, DrawnViews, callable or None
        Augmentation of training batches.

    precision : {"float32", "bfloat16"}
        Number format of matrix products, except those of the head.

    seed : int
        Seeds shuffling and augmentation.

    n_prefix : int
        Stages that stay frozen throughout; a dataset may hold their activations.

    alternate_flip : bool
        Whether images are mirrored in every other epoch rather than at random.

    mixup, cutmix : float
        Parameters of the beta distributions of the shares of mixed images; 0 for none.

    compile_forward : bool
        Whether ``torch.compile`` compiles the stages that are trained.

    clip_norm : float or None
        Largest norm of the gradient of a step.

    probe : Probe or None
        Solves the head, in place of the steps of the first epoch.

    group : Group or None
        The ranks that train together.

    **kwargs
        Passed on to :class:`skorch.NeuralNet`.
    """

    def __init__(
        self,
        module: Stages,
        *,
        augment: Augment = None,
        precision: str = "float32",
        seed: int = 0,
        n_prefix: int = 0,
        alternate_flip: bool = False,
        mixup: float = 0.0,
        cutmix: float = 0.0,
        compile_forward: bool = False,
        clip_norm: float | None = None,
        probe: Probe | None = None,
        group: Group | None = None,
        criterion: type[nn.Module] = nn.CrossEntropyLoss,
        **kwargs: Any,
    ) -> None:
        # Stages that the inputs have passed: the prefix if they are activations.
        self.n_passed = 0
        self.n_prefix = n_prefix
        self.augment = augment
        self.precision = precision
        self.seed = seed
        self.alternate_flip = alternate_flip
        self.mixup = mixup
        self.cutmix = cutmix
        self.compile_forward = compile_forward
        self.clip_norm = clip_norm
        self.probe = probe
        self.group = group
        # Images that pass at a time; fewer than a batch if memory was short.
        self.most_at_once_: int | None = None
        self.has_warned_ = False
        self.compiled_: Any = None
        # The batches of the present training, and where those of a checkpoint were.
        self.batches_: Any = None
        self.resumed_batches_: Any = None
        # What this process has of the present batch.
        self.share_: Share | None = None
        super().__init__(module, criterion, **kwargs)

    @property
    def _default_callbacks(self) -> list[tuple[str, Callback]]:
        # Losses are recorded once per epoch below, so skorch's per-batch scorers go.
        # Its log formats a table even if it prints nothing.
        log = [("print_log", PrintLog(sink=print_plainly))] if self.verbose else []
        return [("epoch_timer", EpochTimer()), *log]

    def get_iterator(self, dataset: ImageDataset, training: bool = False) -> Batches:
        """Return the batches of a dataset."""
        generator = torch.Generator().manual_seed(self.seed) if training else None
        return Batches(
            dataset,
            self.batch_size,
            torch.device(self.device),
            self.augment,
            generator,
            self.alternate_flip,
            self.mixup,
            self.cutmix,
        )

    def fit_loop(
        self, X: Any, y: Any = None, epochs: int | None = None, **fit_params: Any
    ) -> StagesNet:
        """Train; remember a Ctrl-C, which skorch swallows."""
        self.interrupt_: KeyboardInterrupt | None = None
        self.is_between_epochs_ = False
        if epochs is None and self.resumed_batches_ is not None:
            epochs = self.max_epochs - len(self.history)
        with hear_interrupts() as heard:
            try:
                super().fit_loop(X, y, epochs, **fit_params)
            except KeyboardInterrupt as error:
                # Callbacks stop training with the same exception, but between epochs.
                if heard or not self.is_between_epochs_:
                    # Its frames would keep the images alive.
                    self.interrupt_ = error.with_traceback(None)
                raise
        return self

    def notify(self, method_name: str, **kwargs: Any) -> None:
        """Tell callbacks; after an epoch, stop all ranks if one of theirs stops one."""
        if self.group is None or method_name != "on_epoch_end":
            super().notify(method_name, **kwargs)
            return
        stop = None
        try:
            super().notify(method_name, **kwargs)
        except KeyboardInterrupt as error:  # so skorch's callbacks stop training
            stop = error
        if self.group.is_any(stop is not None):
            raise stop or KeyboardInterrupt

    def on_epoch_end(self, net: NeuralNet, **kwargs: Any) -> None:
        """Note that callbacks are about to be told of the end of an epoch."""
        self.is_between_epochs_ = True
        super().on_epoch_end(net, **kwargs)

    def on_epoch_begin(self, net: NeuralNet, **kwargs: Any) -> None:
        """Note that an epoch has begun."""
        self.is_between_epochs_ = False
        super().on_epoch_begin(net, **kwargs)

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Any, **kwargs: Any
    ) -> None:
        """Run over all batches; read losses back from the device only at the end."""
        if iterator is None:
            return
        if len(self.module_.frozen()) < self.n_prefix:
            raise ValueError(
                f"a callback opened the stages {self.module_.learning()}, but this fit "
                f"keeps the first {self.n_prefix} stages frozen throughout; pass a "
                "larger unfreeze_depth to the estimator."
            )
        if training:
            self._follow(iterator)
        self.module_.train(training)
        self._pass(iterator.dataset)
        if training and self.probe is not None and len(self.history) == 1:
            self._record(prefix, *self.probe.solve(self.module_))
            return
        losses, predicted, labels, weights = [], [], [], []
        sizes = []
        for batch in iterator:
            self.share_ = iterator.share
            sizes.append(iterator.share.n_whole)
            self.notify("on_batch_begin", batch=batch, training=training)
            step = step_fn(batch, **kwargs)
            losses.append(step["loss"])
            # Not the logits: with many classes an epoch of them is large.
            predicted.append(step["y_pred"].argmax(1))
            main_labels, whole_weights = count_mixed(*batch[1])
            labels.append(main_labels)
            weights.append(whole_weights)
            self.notify("on_batch_end", batch=batch, training=training, **step)
        self.share_ = None
        loss, weight = torch.stack(losses), torch.cat(weights)
        right = (torch.cat(predicted) == torch.cat(labels)) * weight
        loss, right, total = self._add_up_epoch(loss, right.sum(), weight.sum())
        self._check_finite(loss, prefix)
        loss *= torch.tensor(sizes, device=loss.device)
        self._record(prefix, float(loss.sum() / total), float(right / total))

    def _add_up_epoch(
        self, loss: torch.Tensor, right: torch.Tensor, total: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Add up over all ranks the losses of batches, and what was right of how much.

        So all of them come to the same decisions.
        """
        if self.group is None:
            return loss, right, total
        whole = torch.cat([loss, right[None], total[None]]).double().cpu()
        self.group.add_up(whole)
        return whole[:-2], whole[-2], whole[-1]

    def _follow(self, batches: Batches) -> None:
        """Note the batches of this training; bring them to where a checkpoint was."""
        self.batches_ = batches
        if self.resumed_batches_ is not None:
            batches.set_progress(self.resumed_batches_)
            self.resumed_batches_ = None

    def _record(self, prefix: str, mean: float, accuracy: float) -> None:
        """Record the mean loss and the accuracy of an epoch."""
        so_far = [row.get(f"{prefix}_loss", mean) for row in self.history]
        self.history.record(f"{prefix}_loss", mean)
        self.history.record(f"{prefix}_loss_best", mean <= min(so_far))
        self.history.record(f"{prefix}_accuracy", accuracy)

    def _pass(self, dataset: ImageDataset) -> None:
        """Note which stages the inputs from a dataset have passed already."""
        self.n_passed = 0 if dataset.activations is None else self.n_prefix

    def infer(self, x: torch.Tensor, **fit_params: Any) -> torch.Tensor:
        """Map images, or activations of the frozen prefix, to logits."""
        if not self.n_passed:
            x = self.module_.encode(x, 0)
        decode = self.module_.decode
        if self.compile_forward and self.module_.training:
            decode = self._compile()
        with autocast(self.precision, x.device):
            return decode(x, self.n_passed)  # type: ignore[no-any-return]

    def _compile(self) -> Any:
        """Compile the stages; the first call checks that this works here."""
        if self.compiled_ is not None:
            return self.compiled_
        compiled: Any = torch.compile(self.module_.decode)

        def check(*arguments: Any) -> Any:
            try:
                with name_shortage():
                    done = compiled(*arguments)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:
                raise RuntimeError(
                    f"compile=True: torch.compile failed ({type(error).__name__}), "
                    "which needs a C++ compiler or, on a GPU, Triton; pass "
                    "compile=False."
                ) from error
            self.compiled_ = compiled
            return done

        return check

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        gone = ("compiled_", "probe", "batches_", "group")
        return {**state, **dict.fromkeys(gone)}

    def train_step_single(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Run forward and backward over one batch, in parts if memory is short."""
        x, (labels, weights) = batch
        # Shares of a plain mean: dividing by the sum of the weights would train a batch
        # of unimportant images at full strength. They enter as the gradient of each
        # loss, which costs no step in the backward pass.
        shares = weights / self._count_whole(weights)
        statistics = OpenStatistics(self.module_)
        while True:
            n_parts = -(-len(x) // (self.most_at_once_ or max(1, len(x))))
            n_parts = max(1, min(n_parts, len(x) // SMALLEST_PART))
            try:
                with name_shortage(), statistics.follow(n_parts):
                    losses, logits = self._learn_in_parts(n_parts, x, labels, shares)
                break
            except torch.OutOfMemoryError as error:
                largest = -(-len(x) // n_parts)
                # Batch norm of other ranks waits for that of this whole share.
                is_tied = self.group is not None and bool(statistics.norms)
                if is_tied or n_parts >= len(x) // SMALLEST_PART:
                    explain_shortage(error, largest, x.shape[1:])
                self.most_at_once_ = -(-largest // 2)
            # Drop the gradients of the parts that passed, and what batch norm saw.
            self.module_.zero_grad()
            statistics.restore()
            torch.cuda.empty_cache()
        if n_parts > 1 and statistics.norms and not self.has_warned_:
            self.has_warned_ = True
            warn_of_parts(self.most_at_once_ or len(x), len(x))
        if self.group is not None:
            self._add_up_gradients(self.group)
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.module_.parameters(), self.clip_norm)
        return {"loss": shares.flatten().dot(losses.flatten()), "y_pred": logits}

    def _count_whole(self, weights: torch.Tensor) -> int:
        """Count the images of the present batch, over all ranks."""
        return len(weights) if self.share_ is None else self.share_.n_whole

    def _add_up_gradients(self, group: Group) -> None:
        """Give every rank the gradient of the whole batch."""
        learning = [p for p in self.module_.parameters() if p.requires_grad]
        for p in learning:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        gradients: list[torch.Tensor] = [p.grad for p in learning if p.grad is not None]
        # In one message: many small ones take longer.
        whole = torch.cat([g.flatten() for g in gradients])
        group.add_up(whole)
        sums = torch.split(whole, [g.numel() for g in gradients])
        for gradient, total in zip(gradients, sums, strict=True):
            gradient.copy_(total.view(gradient.shape))

    def _see_whole_batch(self, n_images: int) -> AbstractContextManager[Any]:
        """Return a context in which layers act on the batch of all ranks."""
        share = self.share_
        if share is None or share.own is None or n_images != len(share.own):
            return nullcontext()
        places = share.find_places()[share.own]
        on_device = torch.from_numpy(places).to(self.device)
        return WholeBatch(on_device, share.n_whole, self.group)

    def _learn_in_parts(
        self, n_parts: int, *tensors: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add up the gradients of a batch; return its losses and logits."""
        if n_parts == 1:
            return self._learn(*tensors)
        parts = zip(*(t.tensor_split(n_parts) for t in tensors), strict=True)
        losses, logits = zip(*(self._learn(*part) for part in parts), strict=True)
        return torch.cat(losses), torch.cat(logits)

    def _learn(
        self, x: torch.Tensor, labels: torch.Tensor, shares: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add up the gradients of some images; return their losses and logits."""
        quick = quick_gradients(self.precision, x.device, self.compile_forward)
        with quick, self._see_whole_batch(len(x)):
            logits = self.infer(x)
        losses = self._find_losses(logits.float(), labels)
        losses.backward(shares)
        return losses.detach(), logits.detach()

    def _infer_in_parts(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs to logits without gradients, in halves if memory is short."""
        try:
            with name_shortage():
                return self.infer(x)
        except torch.OutOfMemoryError as error:
            if len(x) == 1:
                explain_shortage(error, 1, x.shape[1:])
        torch.cuda.empty_cache()
        return torch.cat([self._infer_in_parts(part) for part in x.tensor_split(2)])

    def _find_losses(self, logits: torch.Tensor, labels: torch.Tensor) -> Any:
        """Compute the loss of each image for its label, or for both if it is mixed."""
        if labels.ndim == 1:
            return self.criterion_(logits, labels)
        return torch.stack([self.criterion_(logits, some) for some in labels.T], 1)

    def validation_step(self, batch: Batch, **fit_params: Any) -> dict[str, Any]:
        """Compute the weighted cross-entropy of one batch, without smoothing."""
        images, (labels, weights) = batch
        with torch.no_grad():
            logits = self._infer_in_parts(images)
            loss = F.cross_entropy(logits.float(), labels, reduction="none") * weights
            mean = loss.sum() / self._count_whole(weights)
        return {"loss": mean, "y_pred": logits}

    def measure_loss(self, dataset: ImageDataset) -> float:
        """Measure the mean loss of images as they are, as validation does."""
        self.module_.eval()
        self._pass(dataset)
        sums = torch.zeros(2, dtype=torch.float64)
        batches = self.get_iterator(dataset)
        for batch in batches:
            self.share_ = batches.share
            weights = batch[1][1]
            loss = float(self.validation_step(batch)["loss"])
            sums[0] += loss * self._count_whole(weights)
            sums[1] += float(weights.sum())
        self.share_ = None
        if self.group is not None:
            self.group.add_up(sums)
        return float(sums[0] / sums[1])

    def _check_finite(self, losses: torch.Tensor, prefix: str) -> None:
        """Raise a FloatingPointError if the loss of a batch is nan or infinite."""
        bad = (~losses.isfinite()).nonzero()
        if len(bad):
            batch = int(bad[0])
            error = FloatingPointError(
                f"The {prefix} loss became {float(losses[batch])} at epoch "
                f"{len(self.history)}, batch {batch + 1} (lr={self.lr:g}). {_REMEDY}"
            )
            raise_together(error)  # the losses are those of all ranks

    def check_last_step(self, dataset: ImageDataset) -> None:
        """Raise a FloatingPointError if the last step broke the weights.

        No loss was computed after it that could have shown so.
        """
        few = dataset.replace(rows=dataset.rows[: self.batch_size])
        self.module_.eval()
        self._pass(few)
        batch, _ = next(iter(self.get_iterator(few)))
        with torch.inference_mode():
            logits = self._infer_in_parts(batch)
        is_broken = not bool(logits.isfinite().all())
        if self.group is not None:
            is_broken = self.group.is_any(is_broken)
        if is_broken:
            error = FloatingPointError(
                f"The logits became nan or infinite in the last step of epoch "
                f"{len(self.history)} (lr={self.lr:g}). {_REMEDY}"
            )
            raise_together(error)
