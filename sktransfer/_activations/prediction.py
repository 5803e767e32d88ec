"""From images to logits or features, reusing activations that are already there."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import torch

from sktransfer._activations.cache import ActivationCache
from sktransfer._activations.prefix import Prefix
from sktransfer._activations.rows import BATCHES_GATHERED, ActivationRows
from sktransfer._feedback import Bar
from sktransfer._images.augmentation import apply_views
from sktransfer._images.preprocessing import to_batch
from sktransfer._images.streams.ahead import Images, read_ahead
from sktransfer._images.views import AS_IT_IS, View, tta_views
from sktransfer._networks.device import autocast
from sktransfer._networks.fixed_batches import (
    choose_batch_size,
    cut,
    halve,
    run_padded,
)
from sktransfer._networks.memory import name_shortage
from sktransfer._networks.processes import enter_process, take_turn_on
from sktransfer._networks.stages import Stages

# Batches of images or of their activations, each in one view after another.
Shown = Iterator[Iterator[torch.Tensor]]


def predict_logits(
    stages: Stages,
    n_prefix: int,
    images: Images,
    device: torch.device,
    precision: str,
    cache: ActivationCache | None,
    tta: str | None = None,
    verbose: int = 0,
) -> np.ndarray:
    """Compute the logits of images, all of them finite.

    Parameters
    ----------
    stages : Stages
        In eval mode.

    n_prefix : int
        How many stages are frozen, their activations kept in `cache`.

    images : Images of shape (n_images, height, width, n_channels)
        As the user passed them.

    device : torch.device
        Where the stages are.

    precision : {"float32", "bfloat16"}
        Number format in which they compute.

    cache : ActivationCache or None
        Where activations are looked for and kept.

    tta : {"flip", "flip_shift"} or None
        Views over whose logits the mean is taken.

    verbose : int, default=0
        From 1 on, bars show the progress.

    Returns
    -------
    ndarray of shape (n_images, n_classes), float32

    Raises
    ------
    FloatingPointError
        If a logit is NaN or infinite.
    """
    enter_process()
    with take_turn_on(device):
        logits = _predict_logits(
            stages, n_prefix, images, device, precision, cache, tta, verbose
        )
    return _check_finite(logits, stages, precision)


def _predict_logits(
    stages: Stages,
    n_prefix: int,
    images: Images,
    device: torch.device,
    precision: str,
    cache: ActivationCache | None,
    tta: str | None,
    verbose: int,
) -> np.ndarray:
    """Compute logits that need not be finite."""
    views, weights = tta_views(tta, *images.shape[1:3])
    size = choose_batch_size(stages, images.shape[1:], device)
    decode = partial(_decode, stages, n_prefix, precision)

    def predict(take: Callable[[int], Shown]) -> np.ndarray:
        def predict_by(size: int) -> np.ndarray:
            with Bar("predict", len(images), verbose) as bar:
                return _average(decode, take(size), weights, size, bar)

        return _with_memory(predict_by, size, images.shape[1:])

    if not n_prefix:
        return predict(lambda size: _show(images, views, size, device))
    prefix = Prefix(stages, n_prefix, device, precision)
    with closing(ActivationRows(prefix, images, views, cache, verbose)) as rows:
        return _with_one_size(rows, lambda: predict(partial(_gather, rows)))


def extract_features(
    stages: Stages,
    images: Images,
    device: torch.device,
    precision: str,
    cache: ActivationCache | None,
    verbose: int = 0,
) -> np.ndarray:
    """Compute pooled activations of images, (n_images, n_features), float32.

    All of them are finite; a FloatingPointError is raised if not.
    """
    enter_process()
    prefix = Prefix(stages, stages.n_frozen(0), device, precision)
    with (
        take_turn_on(device),
        closing(ActivationRows(prefix, images, (AS_IT_IS,), cache, verbose)) as rows,
    ):

        def extract() -> np.ndarray:
            # What is kept is only fetched, which takes no time worth a bar.
            is_kept = cache is not None and not rows.is_full
            with Bar("encode", len(images), 0 if is_kept else verbose) as bar:
                outputs = []
                for (features,) in _gather(rows, rows.batch_size):
                    outputs.append(features.cpu())
                    bar.advance(len(features))
            return torch.cat(outputs).numpy()

        features = _with_one_size(rows, extract)
    return _check_finite(features, stages, precision)


def _with_memory(
    compute: Callable[[int], np.ndarray], size: int, image_shape: tuple[int, ...]
) -> np.ndarray:
    """Compute in batches of `size`; in smaller ones, all of them, if memory is short.

    So no result depends on where in a set an image is.
    """
    while True:
        try:
            with name_shortage():
                return compute(size)
        except torch.OutOfMemoryError as error:
            size = halve(size, error, image_shape)


def _with_one_size(
    rows: ActivationRows, compute: Callable[[], np.ndarray]
) -> np.ndarray:
    """Compute from activations; again if their batches were halved on the way."""
    while True:
        rows.ensure_all()
        size = rows.batch_size
        outputs = compute()
        if rows.batch_size == size:
            return outputs


def _check_finite(outputs: np.ndarray, stages: Stages, precision: str) -> np.ndarray:
    """Return outputs of the network, one row per image, if they are finite."""
    bad = np.flatnonzero(~np.isfinite(outputs).all(axis=1))
    if not len(bad):
        return outputs
    state = stages.state_dict()
    broken = next((name for name in state if not state[name].isfinite().all()), None)
    if broken is not None:
        why = f"{broken} of the network holds some: load other weights, or fit again"
    else:
        why = "the network overflows: look at the image and at the scale of its values"
        if precision != "float32":
            why += ", or pass precision='float32'"
    raise FloatingPointError(
        f"the network returns NaN or infinity for {len(bad)} of {len(outputs)} images, "
        f"the first of which is X[{bad[0]}]; {why}."
    )


def _average(
    decode: Callable[[torch.Tensor], torch.Tensor],
    inputs: Shown,
    weights: Sequence[float],
    size: int,
    bar: Bar,
) -> np.ndarray:
    """Decode each batch in every view; return the weighted mean over the views."""
    outputs = []
    with torch.inference_mode():
        for shown in inputs:
            mean: Any = 0
            for x, weight in zip(shown, weights, strict=True):
                mean = mean + weight * run_padded(decode, x, size)
            outputs.append(mean.float().cpu())
            bar.advance(len(mean))
    return torch.cat(outputs).numpy()


def _decode(
    stages: Stages, n_passed: int, precision: str, x: torch.Tensor
) -> torch.Tensor:
    """Map images, or activations that have passed some stages, to logits."""
    if not n_passed:
        x = stages.encode(x, 0)
    with autocast(precision, x.device):
        return stages.decode(x, n_passed)


def _gather(rows: ActivationRows, size: int) -> Shown:
    """Yield for each batch of images its activations, one view after another."""
    every_view = range(len(rows.views))
    for some in cut(len(rows.images), BATCHES_GATHERED * size):
        at = np.arange(some.start, some.stop)
        # Several batches, the next of which can be read meanwhile if nothing is kept.
        for part in torch.split(rows.gather_views(at, every_view), size):
            yield iter(part.unbind(1))


def _show(
    images: Images, views: Sequence[View], size: int, device: torch.device
) -> Shown:
    """Yield for each batch of images its views on the device, one after another."""
    for pixels in read_ahead(images, cut(len(images), size)):
        batch = to_batch(pixels, device)
        yield map(partial(_apply_view, batch), views)


def _apply_view(batch: torch.Tensor, view: View) -> torch.Tensor:
    """Show every image of a batch in one view."""
    return apply_views(batch, (view,), np.zeros(len(batch), np.int64))
