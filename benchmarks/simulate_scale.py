"""What a hundred million images on 64 GPUs and 32 decoding hosts would take.

    python benchmarks/simulate_scale.py
    python benchmarks/simulate_scale.py --check

A simulation, in about half a minute on one core: bytes, seconds and the bottleneck of
encoding, training and scoring; what the present code would make of it; failures and
slow workers; how well 1 to 256 workers share a folder, and how well as many ranks train
together. Costs come from the results of `coordination.py`, `decoding.py`, `store.py`,
`streaming.py` and `timm_cuts.py`. What none of them measures is an assumption in
`scale_plan.py`, and varied. All of it is written to the results.

``--check`` compares the simulation with closed forms, and with what was measured of up
to 4 workers and 2 ranks; it fails if one is off.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
import scale_check
import scale_plan
from record import RESULTS, environment
from scale_costs import Costs, read_costs
from scale_folder import LAYOUTS, System, Workers
from scale_ranks import compute_efficiencies, draw_slowest

WORKERS = tuple(2**i for i in range(9))
BATCHES = (128, 512, 2048, 8192)
N_TRAINED, N_STEPS = 10**7, 500
# Images that workers share: two windows of one list, or enough for a part for each.
N_SHARED = {layout: 2**15 if layout == LAYOUTS[0] else 2**18 for layout in LAYOUTS}
FOLDERS = {"local": 0.0, "shared over a network": None}


def simulate_plan(costs: Costs) -> dict[str, Any]:
    """Simulate the whole set."""
    plan = scale_plan.make_plan()
    encoding = scale_plan.time_encoding(costs, plan)
    training = scale_plan.time_training(costs, plan)
    n_hosts = plan.n_hosts + plan.n_decoders
    seconds = scale_plan.find_slowest(encoding)[1]
    long = scale_plan.find_slowest(training[scale_plan.WHOLE[0]])[1]
    finish = scale_plan.draw_finish(long, plan, n_hosts, 2000)
    return {
        "bytes": scale_plan.count_bytes(costs, plan),
        "encoding_seconds": encoding,
        "training_seconds": training,
        "scoring_seconds": {**encoding, "write rows to the store": 0.0},
        "present_code_seconds": scale_plan.burden(costs, plan),
        "present_code_bytes_per_process": scale_plan.weigh_process(costs, plan),
        "memory_bytes_per_process": plan.host_memory / plan.gpus_per_host,
        "failures": {
            "days_between_any": plan.mtbf / n_hosts / 86400,
            "chance_while_encoding": float(-np.expm1(-seconds * n_hosts / plan.mtbf)),
            "whole_network_seconds": long,
            "whole_network_seconds_with_failures": float(finish.mean()),
            "rows_lost_by_a_killed_worker": scale_plan.BLOCK_ROWS,
        },
        "stragglers": scale_plan.draw_stragglers(plan, 2000),
        "sensitivity": scale_plan.vary(costs),
    }


def simulate_folders(costs: Costs) -> list[dict[str, Any]]:
    """Simulate workers that share a folder."""
    plan, rows = scale_plan.make_plan(), []
    each = 1 / plan.encode_rate
    for place, round_trip in FOLDERS.items():
        trip = plan.round_trip if round_trip is None else round_trip
        for layout in LAYOUTS:
            n = N_SHARED[layout]
            for n_workers in WORKERS:
                workers = Workers(
                    n, n_workers, each, costs, layout, System(round_trip=trip)
                )
                seconds = workers.run()
                rows.append(
                    {
                        "folder": place,
                        "layout": layout,
                        "n_workers": n_workers,
                        "n_images": n,
                        "seconds": seconds,
                        "speed_up": n * each / seconds,
                        "spent": dict(workers.spent),
                    }
                )
    return rows


def simulate_ranks() -> list[dict[str, Any]]:
    """Simulate ranks that train together."""
    rows = []
    for name, work in scale_plan.list_work(scale_plan.make_plan()).items():
        for link_name, link in scale_plan.LINKS.items():
            for batch in BATCHES:
                for n in (n for n in WORKERS if n <= batch):
                    args = N_TRAINED, batch, n, work, link, N_STEPS
                    row: dict[str, Any] = {"network": name, "link": link_name}
                    row |= {"batch_size": batch, "n_ranks": n}
                    rows.append(row | compute_efficiencies(*args))
    return rows


def simulate_shares() -> list[dict[str, Any]]:
    """Simulate the largest share of a rank over the mean share."""
    return [
        {
            "batch_size": batch,
            "n_ranks": n,
            "slowest_over_mean": float(
                draw_slowest(N_TRAINED, batch, n, N_STEPS).mean() * n / batch
            ),
        }
        for batch in BATCHES
        for n in WORKERS
        if n <= batch
    ]


def show(title: str, values: dict[str, float], unit: str, factor: float = 1) -> None:
    """Print values with their unit."""
    print(f"\n{title}, {unit}")
    for name, value in values.items():
        print(f"  {name:42} {value / factor:14,.4g}")


def show_grid(title: str, rows: list[dict[str, Any]], value: str, by: str) -> None:
    """Print a table of one value against the number of workers or ranks."""
    over = "n_workers" if "n_workers" in rows[0] else "n_ranks"
    print(f"\n{title}")
    print(f"  {'':24}" + "".join(f"{n:>8}" for n in WORKERS))
    for name in dict.fromkeys(row[by] for row in rows):
        of = {row[over]: row[value] for row in rows if row[by] == name}
        cells = "".join(f"{of[n]:8.2f}" if n in of else " " * 8 for n in WORKERS)
        print(f"  {name!s:24}{cells}")


def show_all(found: dict[str, Any]) -> None:
    """Print the results."""
    plan = found["plan"]
    show("Once for all images", plan["bytes"], "GB", 1e9)
    show("Encoding: all at once", plan["encoding_seconds"], "seconds")
    for name, parts in plan["training_seconds"].items():
        show(f"Training, {name}: all at once", parts, "seconds")
    show("One list, present code", plan["present_code_seconds"], "hours", 3600)
    weights = plan["present_code_bytes_per_process"]
    show("Memory of each process, present code", weights, "GB", 1e9)
    show("Failures", plan["failures"], "as named")
    show("Workers of unequal speed", plan["stragglers"], "times as long")
    print("\nSensitivity of encoding: seconds, and what takes them")
    for row in plan["sensitivity"]:
        sides = (
            f"{row[f'{s}_seconds']:8.0f} ({row[f'{s}_slowest']})"
            for s in ("low", "high")
        )
        print(f"  {row['assumption']:16}" + "; ".join(sides))
    for place in FOLDERS:
        rows = [row for row in found["folders"] if row["folder"] == place]
        show_grid(f"Speed-up of workers, {place} folder", rows, "speed_up", "layout")
    title = "Largest share of a rank over the mean, by batch"
    show_grid(title, found["shares"], "slowest_over_mean", "batch_size")
    for name in dict.fromkeys(row["network"] for row in found["ranks"]):
        for link in scale_plan.LINKS:
            key = {"network": name, "link": link}
            rows = [row for row in found["ranks"] if key.items() <= row.items()]
            for way in ("efficiency", "if_kept"):
                title = f"Ranks, {way}, {name}, {link}, by batch"
                show_grid(title, rows, way, "batch_size")


def main() -> None:
    """Simulate, or check the simulation."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    costs = read_costs()
    if parser.parse_args().check:
        scale_check.check_all(costs)
        return
    found = {
        "environment": environment(),
        "assumptions": scale_plan.describe(),
        "links": {name: link._asdict() for name, link in scale_plan.LINKS.items()},
        "measured": scale_plan.describe_costs(costs),
        "plan": simulate_plan(costs),
        "folders": simulate_folders(costs),
        "shares": simulate_shares(),
        "ranks": simulate_ranks(),
    }
    show_all(found)
    path = RESULTS / "simulate_scale.json"
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
