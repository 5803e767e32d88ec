"""The verdict of a study: whether transfer was right more often."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Difference(NamedTuple):
    """Transfer less scratch, in percentage points of accuracy.

    Attributes
    ----------
    gain : float
        Of the medians over the seeds.

    spread : float or None
        Greatest less least accuracy over the seeds, of the model that varies more; None
        if there is one seed.

    error : float
        Two standard errors of a difference of proportions. All seeds share the test
        images, so more seeds do not make it smaller.
    """

    gain: float
    spread: float | None
    error: float

    @property
    def is_clear(self) -> bool:
        """Whether the difference is larger than what seeds and chance explain."""
        known = self.spread is not None
        return known and abs(self.gain) > max(self.spread or 0.0, self.error)


class Verdict(NamedTuple):
    """A sentence that says what to do, and the numbers that it rests on."""

    sentence: str
    reason: str


def compare(
    transfer: Sequence[float], scratch: Sequence[float], n_test: int
) -> Difference:
    """Compare accuracies in [0, 1], one per seed in the same order."""
    medians = np.array([np.median(transfer), np.median(scratch)])
    spread = None
    if len(transfer) > 1:
        spread = 100 * max(float(np.ptp(transfer)), float(np.ptp(scratch)))
    error = 200 * float(np.sqrt((medians * (1 - medians)).sum() / n_test))
    return Difference(100 * float(medians[0] - medians[1]), spread, error)


def judge(transfer: Sequence[float], scratch: Sequence[float], n_test: int) -> Verdict:
    """Say who is right how often, and which of the two to use.

    Both take accuracies in [0, 1], one per seed in the same order, on `n_test` images.
    """
    difference = compare(transfer, scratch, n_test)
    n_of = count_right(transfer, scratch, n_test, difference.is_clear)
    found = (
        f"Transfer got {n_of[0]:,} of {n_of[2]:,} images right, training from scratch "
        f"{n_of[1]:,}"
    )
    points = f"The difference of {abs(difference.gain):.1f} points"
    if difference.spread is None:
        return Verdict(
            f"{found}: one seed is too few to tell which is better.",
            f"{points} has an unknown spread; pass --seeds 3.",
        )
    ranges = (
        f"Over {len(transfer)} seeds, transfer had {_describe_range(transfer)} and "
        f"scratch {_describe_range(scratch)}."
    )
    spread = f"the spread over seeds ({difference.spread:.1f} points)"
    error = f"the uncertainty of {n_test:,} test images ({difference.error:.1f} points)"
    if not difference.is_clear:
        return Verdict(
            f"{found}: no difference can be seen.",
            f"{ranges} {points} is within {spread} or {error}.",
        )
    use = "use transfer" if difference.gain > 0 else "train from scratch"
    return Verdict(
        f"{found}: {use}.", f"{ranges} {points} is more than {spread} and {error}."
    )


def count_right(
    transfer: Sequence[float], scratch: Sequence[float], n_test: int, is_clear: bool
) -> tuple[int, int, int]:
    """Return the right ones of transfer and of scratch, and of how many: mostly 100.

    Of all test images, if these are fewer, or if a clear difference or the last
    mistakes would be lost in rounding.
    """
    medians = float(np.median(transfer)), float(np.median(scratch))
    first, second = (round(100 * median) for median in medians)
    is_lost = is_clear and first == second
    is_perfect = any(0.995 <= median < 1 for median in medians)
    if n_test >= 100 and not is_lost and not is_perfect:
        return first, second, 100
    first, second = (round(n_test * median) for median in medians)
    return first, second, n_test


def _describe_range(accuracy: Sequence[float]) -> str:
    """Return the least and the greatest accuracy in words."""
    least, greatest = 100 * min(accuracy), 100 * max(accuracy)
    return f"{least:.1f} to {greatest:.1f} %"
