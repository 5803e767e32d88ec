"""Views of an image, and the augmentations that consist of finitely many."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Augment = Any | Callable[[Any], Any] | None

# 2 of 32 pixels, as in Jordan 2024, because training is short here. Long training uses
# 4 (He et al. 2016, section 4.2).
SHIFT = 1 / 16
# 1 of 32 pixels, as in Jordan 2024.
TEST_SHIFT = 1 / 32


class View(NamedTuple):
    """One way to show an image: shifted, then mirrored left to right.

    Attributes
    ----------
    down, right : int
        Shift in pixels; the border is reflected.

    is_mirrored : bool
        Whether left and right are swapped.
    """

    down: int = 0
    right: int = 0
    is_mirrored: bool = False


AS_IT_IS = View()
MIRRORED = View(is_mirrored=True)


def max_shift(n_pixels: int) -> int:
    """Greatest shift along a side of `n_pixels` pixels, in pixels."""
    return max(1, round(SHIFT * n_pixels))


# numpydoc does not recognise the fields of a dataclass as its parameters.
@dataclass(frozen=True)
class DrawnViews:  # numpydoc ignore=PR02
    """Shifted and mirrored views of every image, drawn once: ``augment=DrawnViews(8)``.

    In every epoch, each image is shown in one of its views, chosen at random. Since
    there are only `n_views` of them, the frozen stages compute each view once, no
    matter how many epochs and fits use it. All images have the same views: one
    unchanged, and the others shifted at random by up to a sixteenth of the height and
    width, each mirrored with probability 1/2.

    Parameters
    ----------
    n_views : int, default=8
        Number of views of each image, at least 1. On small images some of the views
        drawn may be equal; equal views count once.

    mirror : bool, default=True
        Whether views may be mirrored left to right.

    random_state : int, default=0
        Seed for drawing the views.

    Notes
    -----
    Eight views are a common choice and were not tuned. Each view costs one more pass
    of all images through the frozen stages, once.

    Examples
    --------
    >>> from sktransfer import DrawnViews, ResNetTransferClassifier
    >>> clf = ResNetTransferClassifier("mini_resnet18", augment=DrawnViews(4))
    """

    __module__ = "sktransfer"

    n_views: int = 8
    mirror: bool = True
    random_state: int = 0

    def views(self, height: int, width: int) -> tuple[View, ...]:
        """Return the views of images of this size, all different.

        Parameters
        ----------
        height, width : int
            Size of the images, in pixels.

        Returns
        -------
        tuple of View
            The first leaves the image unchanged.

        Raises
        ------
        ValueError
            If `n_views` is not a positive integer.
        """
        if not isinstance(self.n_views, int) or self.n_views < 1:
            raise ValueError(
                f"n_views={self.n_views!r} of DrawnViews must be a positive integer."
            )
        chance = np.random.default_rng(self.random_state)
        drawn = [AS_IT_IS]
        for _ in range(self.n_views - 1):
            down, right = (
                int(chance.integers(-most, most + 1))
                for most in (max_shift(height), max_shift(width))
            )
            drawn.append(View(down, right, self.mirror and bool(chance.random() < 0.5)))
        return tuple(dict.fromkeys(drawn))


class WeightedViews(NamedTuple):
    """Views of an image that a prediction averages over, and the weight of each.

    Attributes
    ----------
    views : tuple of View
        The first leaves the image unchanged.

    weights : tuple of float
        Sum to 1.
    """

    views: tuple[View, ...]
    weights: tuple[float, ...]


def tta_views(tta: str | None, height: int, width: int) -> WeightedViews:
    """Return the views that test-time augmentation averages over.

    Parameters
    ----------
    tta : {"flip", "flip_shift"} or None
        ``"flip"``: unchanged and mirrored. ``"flip_shift"``: in addition, both
        shifted along one diagonal in either direction by 1/32 of the size, each at
        half the weight (Jordan 2024).

    height, width : int
        Size of the images, in pixels.

    Returns
    -------
    WeightedViews

    Raises
    ------
    ValueError
        If `tta` is anything else.
    """
    if tta is None:
        return WeightedViews((AS_IT_IS,), (1.0,))
    pair = (AS_IT_IS, MIRRORED)
    if tta == "flip":
        return WeightedViews(pair, (0.5, 0.5))
    if tta != "flip_shift":
        raise ValueError(f"tta={tta!r} must be 'flip', 'flip_shift' or None.")
    down, right = (max(1, round(TEST_SHIFT * n)) for n in (height, width))
    shifted = [
        View(sign * down, sign * right, view.is_mirrored)
        for sign in (-1, 1)
        for view in pair
    ]
    return WeightedViews((*pair, *shifted), (0.25,) * 2 + (0.125,) * 4)


def list_views(
    augment: Augment, height: int, width: int, is_mixed: bool = False
) -> tuple[View, ...] | None:
    """List every view that an augmentation can show; None if they are unlimited.

    They are if images are mixed with each other.
    """
    if is_mixed:
        return None
    if augment is None:
        return (AS_IT_IS,)
    if isinstance(augment, DrawnViews):
        return augment.views(height, width)
    return (AS_IT_IS, MIRRORED) if augment == "flip" else None
