"""The images of a fit, and where their batches come from: memory, device or cache."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from sktransfer._activations.cache import ActivationCache, CacheInfo
from sktransfer._activations.prefix import Prefix
from sktransfer._activations.rows import ActivationRows
from sktransfer._feedback import warn
from sktransfer._images.preprocessing import to_batch
from sktransfer._images.streams.ahead import Images, read_ahead
from sktransfer._images.views import AS_IT_IS, Augment, list_views

# The share of a device's free memory that images may take there.
RESIDENT_SHARE = 0.4
# Bytes. What is sent passes through pinned memory, which the system cannot use for
# anything else meanwhile.
SENT_AT_ONCE = 2**26


class ImageDataset(Dataset):  # type: ignore[type-arg]
    """Images with labels and weights; :class:`Batches` cuts them up.

    Parameters
    ----------
    images : Images of shape (n, height, width, n_channels)
        Read when needed.

    labels : ndarray of shape (n,), int64
        Class indices.

    weights : ndarray of shape (n,), float32
        Weight of each image in the loss.

    rows : ndarray of int, default=None
        The images that belong to the set; ``None`` means all.

    activations : ActivationRows or None, default=None
        Of `images`, to train on instead of them.

    resident : tensor or None, default=None
        `images` on the device, if there is room: see :func:`send_all`.

    is_own : ndarray of shape (n,), bool, or None, default=None
        Which images are those of this rank; None: all.
    """

    def __init__(
        self,
        images: Images,
        labels: np.ndarray,
        weights: np.ndarray,
        rows: np.ndarray | None = None,
        activations: ActivationRows | None = None,
        resident: torch.Tensor | None = None,
        is_own: np.ndarray | None = None,
    ) -> None:
        self.images, self.labels, self.weights = images, labels, weights
        self.rows = np.arange(len(labels)) if rows is None else rows
        self.activations, self.resident = activations, resident
        self.is_own = is_own

    def __len__(self) -> int:
        return len(self.rows)

    def list_own(self) -> np.ndarray:
        """List the rows of the images of this rank."""
        return self.rows if self.is_own is None else self.rows[self.is_own[self.rows]]

    def replace(self, **changes: Any) -> ImageDataset:
        """Return the same set with some of its parts replaced."""
        return ImageDataset(**{**vars(self), **changes})


# For training, and for validation if there is such a set.
Sets = tuple[ImageDataset, ImageDataset | None]


@contextmanager
def with_activations(
    prefix: Prefix | None,
    sets: Sets,
    augment: Augment,
    cache: ActivationCache | None,
    verbose: int = 0,
    is_mixed: bool = False,
) -> Iterator[Sets]:
    """Give sets the activations of their images, if training can use them.

    Parameters
    ----------
    prefix : Prefix or None
        The stages that stay frozen; None if there are none.

    sets : tuple of ImageDataset
        For training, and for validation or None.

    augment : str, DrawnViews, callable or None
        Augmentation of the training set.

    cache : ActivationCache or None
        Where activations are kept.

    verbose : int, default=0
        From 1 on, a bar shows the progress of computing them.

    is_mixed : bool, default=False
        Whether training mixes images with each other.

    Yields
    ------
    tuple of ImageDataset
    """
    train_set, valid_set = sets
    if prefix is None:
        yield sets
        return
    height, width = train_set.images.shape[1:3]
    views = list_views(augment, height, width, is_mixed)
    with ExitStack() as stack:
        # The images set aside for validation are in the same array.
        known: dict[int, ActivationRows] = {}

        def add_activations(dataset: ImageDataset) -> ImageDataset:
            images = dataset.images
            if id(images) not in known:
                # Validation shows images in the first view, as they are.
                some = views or (AS_IT_IS,)
                known[id(images)] = ActivationRows(prefix, images, some, cache, verbose)
                stack.callback(known[id(images)].close)
            return dataset.replace(activations=known[id(images)])

        if views is not None:
            train_set = add_activations(train_set)
        if valid_set is not None:
            valid_set = add_activations(valid_set)
        yield train_set, valid_set


def keep_on_device(sets: Sets, device: torch.device) -> Sets:
    """Send the images of sets to a GPU, once for all epochs, if there is room."""
    there: dict[int, torch.Tensor | None] = {}

    def send(dataset: ImageDataset) -> ImageDataset:
        if dataset.activations is not None:
            return dataset
        key = id(dataset.images)
        if key not in there:
            there[key] = send_all(dataset.images, device)
        return dataset.replace(resident=there[key])

    train_set, valid_set = sets
    return send(train_set), None if valid_set is None else send(valid_set)


def send_all(images: Images, device: torch.device) -> torch.Tensor | None:
    """Send images to a GPU; return None on a CPU, or if they are too large."""
    if device.type != "cuda":
        return None
    dtype = torch.uint8 if images.dtype == np.uint8 else torch.float32
    free, _ = torch.cuda.mem_get_info(device)
    if math.prod(images.shape) * dtype.itemsize > RESIDENT_SHARE * free:
        return None
    there = torch.empty(images.shape, dtype=dtype, device=device)
    n_at_once = max(1, SENT_AT_ONCE // (there[0].numel() * dtype.itemsize))
    parts = [slice(at, at + n_at_once) for at in range(0, len(images), n_at_once)]
    for some, pixels in zip(parts, read_ahead(images, parts), strict=True):
        there[some] = to_batch(pixels, device)
    return there


def list_info(sets: Sets) -> list[CacheInfo]:
    """List what the cache did for each of these sets."""
    infos = [rows.info() for rows in set(_list_rows(sets))]
    # Activations behind one prefix lie in one place, and their bytes count once.
    return infos[:1] + [
        info._replace(n_bytes=0, n_bytes_on_disk=0) for info in infos[1:]
    ]


def sum_info(infos: Sequence[CacheInfo]) -> CacheInfo:
    """Add up what the cache did."""
    return CacheInfo(
        hits=sum(info.hits for info in infos),
        misses=sum(info.misses for info in infos),
        n_bytes=sum(info.n_bytes for info in infos),
        seconds_saved=sum(info.seconds_saved for info in infos),
        n_bytes_on_disk=sum(info.n_bytes_on_disk for info in infos),
    )


def is_any_full(sets: Sets) -> bool:
    """Return whether some activations of these sets found no room."""
    return any(rows.is_full for rows in _list_rows(sets))


def _list_rows(sets: Sets) -> list[ActivationRows]:
    """List the activations of the sets that have some."""
    rows = [dataset.activations for dataset in sets if dataset is not None]
    return [some for some in rows if some is not None]


def explain_recomputing(
    prefix: Prefix | None,
    images: Images,
    augment: Augment,
    has_cache: bool,
    mixed: str | None = None,
) -> str | None:
    """Say why training computes frozen stages again and again; None if it does not.

    `mixed` names the parameters that mix images with each other, if any do.
    """
    if prefix is None:
        return (
            "activation_cache is not used: every stage learns." if has_cache else None
        )
    frozen = ", ".join(prefix.stages.names[: prefix.n_stages])
    again = f"the frozen stages ({frozen}) are recomputed in every epoch"
    if not has_cache:
        return f"activation_cache=None: {again}."
    if list_views(augment, *images.shape[1:3]) is None:
        return (
            f"activation_cache is not used: augment={augment!r} draws new views in "
            f"every epoch, so {again}. augment='flip' and DrawnViews(...) have only a "
            "few views."
        )
    if mixed is not None:
        return (
            f"activation_cache is not used: {mixed} mixes new pairs of images in every "
            f"epoch, so {again}. Without mixing, they are computed once per view."
        )
    return None


def warn_of_no_changes(
    images: Images, augment: Augment, mixed: str | None = None
) -> None:
    """Warn if random changes were asked for, but the head is solved without them."""
    asked = [] if mixed is None else [mixed]
    if list_views(augment, *images.shape[1:3]) is None:
        asked.insert(0, f"augment={augment!r}")
    if asked:
        warn(
            f"{' and '.join(asked)} will change nothing: no stage before the head "
            "learns, and the head is solved on images as they are. Pass a larger "
            "unfreeze_depth and max_epochs, or head_init='random'."
        )
