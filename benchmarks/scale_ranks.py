"""Ranks that train one network on their own images: the slowest sets the time.

For `simulate_scale.py`. An image belongs to one rank, by its position modulo the number
of ranks, and every batch is the random batch that one process would draw. So the share
of a rank is hypergeometric, and a step takes as long as the largest share. The closed
form is that of ranks whose counts are binomial given that they sum to the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.signal import fftconvolve
from scipy.stats import binom

# Of mean and of variance, forward and backward. Sent together, they would be two.
SUMS_PER_BATCH_NORM, FEWEST_SUMS = 4, 2


class Link(NamedTuple):
    """What connects the ranks.

    Attributes
    ----------
    bandwidth : float
        Bytes per second that a rank sends.

    latency : float
        Seconds of a message.
    """

    bandwidth: float
    latency: float


class Work(NamedTuple):
    """What a rank does in a step.

    Attributes
    ----------
    seconds_each : float
        Of an image, forward and backward.

    seconds_fixed : float
        Of a step, however few images.

    n_bytes : int
        Of gradients.

    n_batch_norms : int
        Layers whose statistics are those of the whole batch.
    """

    seconds_each: float
    seconds_fixed: float
    n_bytes: int
    n_batch_norms: int


def draw_slowest(
    n_images: int, batch_size: int, n_ranks: int, n_steps: int, seed: int = 0
) -> np.ndarray:
    """Draw the largest share of a rank in each step, (n_steps,) int."""
    owned = np.full(n_ranks, n_images // n_ranks)
    owned[: n_images % n_ranks] += 1
    chance = np.random.default_rng(seed)
    shares = chance.multivariate_hypergeometric(
        owned, batch_size, n_steps, method="marginals"
    )
    slowest: np.ndarray = shares.max(axis=1)
    return slowest


def expect_slowest(n_images: int, batch_size: int, n_ranks: int) -> float:
    """Compute the expected largest share of a rank."""
    if n_ranks == 1:
        return float(batch_size)
    owned, share = n_images // n_ranks, batch_size / n_images
    counts = np.arange(batch_size + 1)
    chances = binom.pmf(counts, owned, share)
    total = binom.pmf(batch_size, owned * n_ranks, share)
    expected = 0.0
    for most in range(batch_size + 1):
        within = np.where(counts <= most, chances, 0.0)
        exceeds = 1 - raise_to(within, n_ranks)[batch_size] / total
        expected += max(0.0, exceeds)
        if most > batch_size / n_ranks and exceeds < 1e-9:
            break
    return expected


def raise_to(polynomial: np.ndarray, power: int) -> np.ndarray:
    """Raise a polynomial to a power; higher terms than its own are cut off."""
    size, result = len(polynomial), np.ones(1)
    while power:
        if power % 2:
            result = fftconvolve(result, polynomial)[:size]
        polynomial, power = fftconvolve(polynomial, polynomial)[:size], power // 2
    return result


def time_reduction(n_bytes: float, n_ranks: int, link: Link) -> float:
    """Compute the seconds of a sum over a ring of ranks."""
    n_messages = 2 * (n_ranks - 1)
    return n_messages / n_ranks * n_bytes / link.bandwidth + n_messages * link.latency


def time_small_sum(n_ranks: int, link: Link, is_tree: bool) -> float:
    """Compute the seconds of a sum of few numbers: those of its messages."""
    n_messages = 2 * (int(np.ceil(np.log2(n_ranks))) if is_tree else n_ranks - 1)
    return n_messages * link.latency


def time_steps(
    shares: np.ndarray | float,
    n_ranks: int,
    work: Work,
    link: Link,
    n_sums: int = SUMS_PER_BATCH_NORM,
    is_tree: bool = False,
) -> np.ndarray:
    """Compute the seconds of steps whose largest shares are given.

    `n_sums`: so many for each batch norm. `is_tree`: they go through a tree rather than
    a ring.
    """
    sums = time_reduction(work.n_bytes, n_ranks, link)
    sums += n_sums * work.n_batch_norms * time_small_sum(n_ranks, link, is_tree)
    own = work.seconds_fixed + np.asarray(shares, float) * work.seconds_each
    seconds: np.ndarray = own + sums
    return seconds


def compute_efficiencies(
    n_images: int, batch_size: int, n_ranks: int, work: Work, link: Link, n_steps: int
) -> dict[str, float]:
    """Compute by how much ranks are faster than one, over their number.

    As the library does it; and with every batch cut into equal parts, whoever has the
    images; with two sums for each batch norm; with these through a tree; and with
    statistics that are kept.
    """
    shares = draw_slowest(n_images, batch_size, n_ranks, n_steps)
    even = float(-(-batch_size // n_ranks))
    kept = work._replace(n_batch_norms=0)
    ways = {
        "efficiency": time_steps(shares, n_ranks, work, link),
        "if_even": time_steps(even, n_ranks, work, link),
        "if_two_sums": time_steps(shares, n_ranks, work, link, FEWEST_SUMS),
        "if_tree": time_steps(shares, n_ranks, work, link, FEWEST_SUMS, is_tree=True),
        "if_kept": time_steps(shares, n_ranks, kept, link),
    }
    alone = float(time_steps(float(batch_size), 1, work, link))
    return {way: alone / (n_ranks * float(s.mean())) for way, s in ways.items()}
