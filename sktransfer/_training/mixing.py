"""Mixup and cutmix: every image of a batch mixed with another, and so its label."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch


class Mix(NamedTuple):
    """How the images of a batch are mixed, each with the one before it.

    Attributes
    ----------
    share : float
        Of the image itself in the result, in [0, 1]; the rest is the other's.

    box : tuple of two slices, or None
        Rows and columns that are replaced by the other's (cutmix). None: the images
        are averaged (mixup).
    """

    share: float
    box: tuple[slice, slice] | None


def draw_mix(
    mixup: float, cutmix: float, size: tuple[int, int], generator: torch.Generator
) -> Mix:
    """Draw how a batch is mixed.

    Parameters
    ----------
    mixup, cutmix : float
        Both parameters of the beta distribution of shares, for mixup (Zhang et al.
        2018) and cutmix (Yun et al. 2019). 0: never. If neither is 0, one of them is
        chosen with probability 1/2.

    size : tuple of (int, int)
        Height and width of the images, in pixels.

    generator : torch.Generator
        Nothing else is drawn from.

    Returns
    -------
    Mix
    """
    # torch draws from the beta distribution with its global generator only.
    seed = int(torch.randint(2**62, (1,), generator=generator))
    chance = np.random.default_rng(seed)
    is_cut = cutmix > 0 and (mixup == 0 or chance.random() < 0.5)
    alpha = cutmix if is_cut else mixup
    share = float(chance.beta(alpha, alpha))
    if not is_cut:
        return Mix(share, None)
    rows, cols = (_draw_part(n, (1 - share) ** 0.5, chance) for n in size)
    n_cut = len(range(*rows.indices(size[0]))) * len(range(*cols.indices(size[1])))
    return Mix(1 - n_cut / (size[0] * size[1]), (rows, cols))


def mix_images(
    images: torch.Tensor, mix: Mix, others: torch.Tensor | None = None
) -> torch.Tensor:
    """Mix each image of a batch with the one before it.

    Parameters
    ----------
    images : tensor of shape (n_images, height, width, n_channels)
        uint8 or float32.

    mix : Mix
        For images of this size.

    others : tensor of the same shape, default=None
        The image before each; None: they are all of a batch.

    Returns
    -------
    tensor of the same shape and dtype
    """
    others = images.roll(1, 0) if others is None else others
    if mix.box is not None:
        rows, cols = mix.box
        mixed = images.clone()
        mixed[:, rows, cols] = others[:, rows, cols]
        return mixed
    mixed = torch.lerp(others.float(), images.float(), mix.share)
    return mixed if images.is_floating_point() else mixed.round_().to(images.dtype)


def mix_targets(
    labels: torch.Tensor,
    weights: torch.Tensor,
    share: float,
    others: tuple[torch.Tensor, torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each mixed image two labels; its loss is the weighted sum of two losses.

    Parameters
    ----------
    labels, weights : tensor of shape (n_images,)
        Class indices, and weights in the loss, before mixing.

    share : float
        Of the image itself in the mixed one.

    others : tuple of two tensors, default=None
        Labels and weights of the image before each; None: they are all of a batch.

    Returns
    -------
    labels, weights : tensor of shape (n_images, 2)
        The label with the larger share comes first.
    """
    more, heavy = (labels.roll(1), weights.roll(1)) if others is None else others
    both = torch.stack([labels, more], 1)
    shared = torch.stack([share * weights, (1 - share) * heavy], 1)
    return (both, shared) if share >= 0.5 else (both.flip(1), shared.flip(1))


def count_mixed(
    labels: torch.Tensor, weights: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the main label and the whole weight of each image, mixed or not."""
    return (labels, weights) if labels.ndim == 1 else (labels[:, 0], weights.sum(1))


def name_mixing(mixup: float, cutmix: float) -> str | None:
    """Name the parameters that mix images, with their values; None if none does."""
    values = {"mixup": mixup, "cutmix": cutmix}
    named = [f"{name}={value!r}" for name, value in values.items() if value > 0]
    return " or ".join(named) or None


def _draw_part(n: int, share: float, chance: np.random.Generator) -> slice:
    """Draw about this share of `n` positions, in a row, around a random one."""
    length, centre = round(share * n), int(chance.integers(n))
    first = centre - length // 2
    return slice(max(0, first), min(n, first + length))
