"""Which images of a set, and so of every batch, are those of one rank."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int64]


class Share(NamedTuple):
    """What one rank has of a batch.

    Attributes
    ----------
    read : ndarray of shape (n_read,), int
        The images that it reads, as positions in the epoch.

    first, n_whole : int
        Position of the first image of the batch in the epoch, and how many images the
        batch has over all ranks.

    own : ndarray of shape (n_own,), int, or None
        The images of `read` that it learns from; None: all, since it is alone.

    before : ndarray of shape (n_own,), int, or None
        The image of `read` that comes before each of them in the batch, if images are
        mixed.
    """

    read: Positions
    first: int
    n_whole: int
    own: Positions | None = None
    before: Positions | None = None

    def find_places(self) -> Positions:
        """Find the positions in the batch of the images that are read."""
        return self.read - self.first


def assign(rows: np.ndarray, n_images: int, number: int, n_ranks: int) -> np.ndarray:
    """Tell which images are those of a rank: of those in a set, every `n_ranks`-th.

    An image stays with its rank, which alone passes it through the frozen stages.

    Parameters
    ----------
    rows : ndarray of shape (n,), int
        The set.

    n_images : int
        How many images there are.

    number, n_ranks : int
        Of the rank, and how many there are.

    Returns
    -------
    ndarray of shape (n_images,), bool
    """
    is_own = np.zeros(n_images, bool)
    is_own[rows[number::n_ranks]] = True
    return is_own


def cut_epoch(
    n_images: int, n_batches: int, is_own: np.ndarray | None, are_mixed: bool
) -> list[Share]:
    """Cut an epoch into batches, of which one rank has its share.

    Parameters
    ----------
    n_images, n_batches : int
        In the epoch.

    is_own : ndarray of shape (n_images,), bool, or None
        Which images are those of this rank, in the order of the epoch; None: all.

    are_mixed : bool
        Whether each image is mixed with the one before it in its batch.

    Returns
    -------
    list of Share
    """
    batches = np.array_split(np.arange(n_images), n_batches)
    if is_own is None:
        return [Share(batch, int(batch[0]), len(batch)) for batch in batches]
    return [_take_share(batch, is_own[batch], are_mixed) for batch in batches]


def _take_share(batch: Positions, is_own: np.ndarray, are_mixed: bool) -> Share:
    """Take the share of one rank in a batch."""
    first, n_whole = int(batch[0]), len(batch)
    if not are_mixed:
        read = batch[is_own]
        return Share(read, first, n_whole, np.arange(len(read)))
    is_read = is_own | np.roll(is_own, -1)
    read = batch[is_read]
    # Where in `read` each image of the batch is.
    at = np.cumsum(is_read) - 1
    own = np.flatnonzero(is_own)
    return Share(read, first, n_whole, at[own], at[own - 1])
