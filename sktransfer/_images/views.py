"""Augmentations that are a finite set of views of an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

Augment = Any | Callable[[Any], Any] | None

# 2 pixels of 32, as Jordan 2024 has them: trainings here are short. Long ones have 4
# (He et al. 2016, section 4.2).
SHIFT = 1 / 16
# One pixel of 32.
TEST_SHIFT = 1 / 32


class View(NamedTuple):
    """One way of looking at an image: shifted, then mirrored left to right.

    Attributes
    ----------
    down, right : int
        Shift in pixels; the border is reflected.

    is_mirrored : bool
        Whether left and right change places.
    """

    down: int = 0
    right: int = 0
    is_mirrored: bool = False


AS_IT_IS = View()
MIRRORED = View(is_mirrored=True)


def max_shift(n_pixels: int) -> int:
    """Greatest shift along a side of `n_pixels` pixels."""
    return max(1, round(SHIFT * n_pixels))


# numpydoc does not take the fields of a dataclass for its parameters.
@dataclass(frozen=True)
class DrawnViews:  # numpydoc ignore=PR02
    """Shifted and mirrored views of every image, drawn once: ``augment=DrawnViews(8)``.

    Each time an image is trained on, one of its views is taken by lot. Since there are
    only `n_views` of them, frozen stages compute each once, however many epochs and
    fits see it. Every image has the same views: as it is, and others that are shifted
    by up to a sixteenth of its height and width, half of them mirrored.

    Parameters
    ----------
    n_views : int, default=8
        Views of an image, 1 or more. On small images some of those drawn may be equal
        and count once.

    mirror : bool, default=True
        Whether views may be mirrored left to right.

    random_state : int, default=0
        Seeds which views are drawn.

    Notes
    -----
    Eight views are a customary number, not tuned; each costs another pass of every
    image through the frozen stages, once.

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
        """Views of images of this size in pixels, all different.

        Parameters
        ----------
        height, width : int
            Size of the images, in pixels.

        Returns
        -------
        tuple of View
            The first shows the image as it is.

        Raises
        ------
        ValueError
            If `n_views` is not an integer of 1 or more.
        """
        if not isinstance(self.n_views, int) or self.n_views < 1:
            raise ValueError(
                f"n_views={self.n_views!r} of DrawnViews must be an integer, 1 or more."
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
    """Views of an image to predict from, and the weight of each.

    Attributes
    ----------
    views : tuple of View
        The first shows the image as it is.

    weights : tuple of float
        Sum to 1.
    """

    views: tuple[View, ...]
    weights: tuple[float, ...]


def tta_views(tta: str | None, height: int, width: int) -> WeightedViews:
    """Views that test-time augmentation averages over.

    Parameters
    ----------
    tta : {"flip", "flip_shift"} or None
        ``"flip"``: as it is, and mirrored. ``"flip_shift"``: both also shifted along
        either diagonal by a 32nd of the size, with half of the weight (Jordan 2024).

    height, width : int
        Size of the images, in pixels.

    Returns
    -------
    WeightedViews

    Raises
    ------
    ValueError
        If `tta` is another word.
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


def list_views(augment: Augment, height: int, width: int) -> tuple[View, ...] | None:
    """Every view that an augmentation makes of an image; None where there is no end."""
    if augment is None:
        return (AS_IT_IS,)
    if isinstance(augment, DrawnViews):
        return augment.views(height, width)
    return (AS_IT_IS, MIRRORED) if augment == "flip" else None
