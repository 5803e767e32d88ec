"""Whether the simulation agrees with closed forms, and with what was measured.

For `simulate_scale.py --check`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from scale_costs import Costs, read
from scale_folder import LAYOUTS, System, Workers
from scale_plan import draw_finish, draw_stragglers, expect_finish, make_plan
from scale_ranks import (
    Link,
    Work,
    draw_slowest,
    expect_slowest,
    time_reduction,
    time_steps,
)

# Standard errors that a mean of draws may be off; one of a million is so far off.
MOST_ERRORS = 5
# How far off what was measured may be: seconds of ranks; and of workers, most of which
# are locks whose cost depends on the order in which workers come.
MOST_OFF, MOST_OFF_WORKERS = 0.25, 0.5
# The share of the cores up to which nothing waits for one, and what takes none.
MOST_BUSY = 0.7
IDLE = ("encode", "wait", "answers")

# What is compared, what was found, what was expected, and how far apart they may be.
Case = tuple[str, float, float, float]


def free(costs: Costs) -> Costs:
    """Return costs of nothing."""
    nothing = {name: 0 * value for name, value in costs._asdict().items()}
    # Where costs were measured stays.
    return Costs(**nothing)._replace(n_files=costs.n_files, n_held=costs.n_held)


def compare_slowest() -> Iterator[Case]:
    """Compare the largest share of a rank with its expectation."""
    for n, batch, n_ranks in (
        (2**16, 128, 2),
        (2**16, 128, 64),
        (2**12, 2048, 16),
        (2**20, 512, 256),
    ):
        drawn = draw_slowest(n, batch, n_ranks, 4000)
        error = float(drawn.std()) / np.sqrt(len(drawn))
        name = f"largest share of {n_ranks} ranks in a batch of {batch} of {n}"
        expected = expect_slowest(n, batch, n_ranks)
        yield name, float(drawn.mean()), expected, MOST_ERRORS * error


def run_ring(starts: np.ndarray, n_bytes: float, link: Link) -> float:
    """Pass the parts of a sum around a ring; return when the last rank has all."""
    ends, n = starts.astype(float), len(starts)
    for _ in range(2 * (n - 1)):
        # A rank goes on with what its neighbour has sent.
        ready = np.maximum(ends, np.roll(ends, 1))
        ends = ready + link.latency + n_bytes / n / link.bandwidth
    return float(ends.max())


def compare_rings() -> Iterator[Case]:
    """Compare a sum over a ring with its closed form."""
    link, n_bytes = Link(1e9, 1e-5), 1e8
    for n in (1, 2, 7, 64):
        expected = time_reduction(n_bytes, n, link)
        found = run_ring(np.zeros(n), n_bytes, link)
        yield f"ring of {n}", found, expected, 1e-9
    # One late rank delays the sum by as much, no more.
    starts = np.zeros(8)
    starts[3] = 0.5
    found = run_ring(starts, n_bytes, link)
    yield "ring of 8, one late", found, 0.5 + time_reduction(n_bytes, 8, link), 1e-9


def compare_folders(costs: Costs) -> Iterator[Case]:
    """Compare workers with what can be counted."""
    n, each = 2**16, 1e-3
    for layout in LAYOUTS[1:]:
        seconds = Workers(n, 8, each, free(costs), layout).run()
        yield f"8 workers without costs, {layout}", seconds, n / 8 * each, 1e-6
    together = Workers(n, 8, each, costs)
    together.run()
    yield "8 workers encode each image once", float(together.n_computed.sum()), n, 0
    # Blocks of a window: a small one, then whole ones, then what is left. Before each
    # of them all files so far are listed twice.
    listed = free(costs)._replace(list_files=1e-5 * costs.n_files)
    n_files = n // 2**14 * 33
    alone = Workers(n, 1, each, listed)
    alone.run()
    yield (
        "lists of one worker",
        alone.spent["list"],
        1e-5 * n_files * (n_files - 1),
        1e-9,
    )


def compare_failures() -> Iterator[Case]:
    """Compare failures and slow workers with expectations."""
    plan = make_plan(mtbf=40 * 3600.0)
    drawn = draw_finish(7000, plan, 40, 4000)
    error = float(drawn.std()) / np.sqrt(len(drawn))
    expected = expect_finish(7000, plan, 40)
    yield "seconds with failures", float(drawn.mean()), expected, MOST_ERRORS * error
    equal = draw_stragglers(replace(plan, spread=0.0), 10)
    yield "workers of equal speed", equal["a part for each"], 1, 1e-9


def compare_measured_workers(costs: Costs) -> Iterator[Case]:
    """Compare the simulation with real processes."""
    for row in read("coordination", what="workers"):
        n_workers, n_cores = row["n_workers"], row["n_cores"]
        system = System(n_cores=n_cores)
        workers = Workers(
            row["n_images"], n_workers, row["seconds_each"], costs, system=system
        )
        seconds = workers.run()
        busy = sum(s for what, s in workers.spent.items() if what not in IDLE)
        measured = row["processor_seconds"]
        name = f"{n_workers} workers, seconds of processors"
        yield name, busy, measured, MOST_OFF_WORKERS * measured
        # By the clock only where neither they nor others wanted for cores.
        is_idle = row["load_before"] + measured / row["seconds"] < MOST_BUSY * n_cores
        measured = row["seconds"]
        name = f"{n_workers} workers, seconds"
        yield (
            name,
            seconds,
            measured,
            MOST_OFF_WORKERS * measured if is_idle else np.inf,
        )


def compare_measured_ranks(costs: Costs) -> Iterator[Case]:
    """Compare the simulation with two real ranks."""
    for row in read("coordination", what="ranks"):
        n, batch = row["n_images"], row["batch_size"]
        shares = draw_slowest(n, batch, row["n_ranks"], 2000)
        work = Work(row["seconds_each"], 0.0, 0, 0)
        seconds = float(time_steps(shares, row["n_ranks"], work, Link(1, 0)).mean())
        seconds += float(
            np.interp(row["n_bytes"], costs.reduction_bytes, costs.reduction)
        )
        measured = row["seconds_per_step"]
        name = f"2 ranks, batches of {batch}, as measured"
        yield name, seconds, measured, MOST_OFF * measured


def check_all(costs: Costs) -> None:
    """Print every comparison; end with an error if one is off."""
    cases = [
        *compare_slowest(),
        *compare_rings(),
        *compare_folders(costs),
        *compare_failures(),
        *compare_measured_workers(costs),
        *compare_measured_ranks(costs),
    ]
    n_off = 0
    for name, found, expected, most in cases:
        is_off = not abs(found - expected) <= most
        n_off += is_off
        limit = "not compared" if np.isinf(most) else f"within {most:.3g}"
        word = "OFF" if is_off else "ok"
        print(f"{word:4}{name:60}{found:14.6g}{expected:14.6g}  {limit}")
    if n_off:
        raise SystemExit(f"{n_off} of {len(cases)} comparisons are off.")
