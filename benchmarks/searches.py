"""What workers of loky, Dask and Ray save in a search, and what they cost.

    OMP_NUM_THREADS=1 python benchmarks/searches.py

Searches of 9, 27 and 81 candidates (dropout, seed and label smoothing), one fit each,
of one estimator on small drawn images, with a cache folder that is new for each search.
Every process computes with one thread, so that all find the same scores bit for bit,
which is checked; "serial, 2 threads" is what a search without workers does by default
on two cores, and may find others. All contestants run in turn, in every round.

Workers are started and have imported everything before the first search; how long that
took is in the rows. joblib's backend for Ray starts its workers anew for each search:
there the start is part of the seconds, and what it takes alone is in the rows too. One
worker of loky or of Ray would be the serial search itself, since joblib then sends
nothing. A machine with two cores cannot show what more than two workers do.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import numpy as np
import torch
from joblib import Parallel, delayed, parallel_config
from record import Record, spread
from sklearn.model_selection import GridSearchCV, StratifiedShuffleSplit

from sktransfer import ResNetTransferClassifier

CANDIDATES = (9, 27, 81)
SPLIT = StratifiedShuffleSplit(1, test_size=0.25, random_state=0)

Context = Callable[[], Any]


def draw_images(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy red, green and blue pictures of `size` pixels, and their colours."""
    rng, y = np.random.default_rng(0), np.arange(n) % 3
    X = rng.integers(0, 150, (n, size, size, 3))
    X[np.arange(n), :, :, y] += 100
    return X.astype(np.uint8), y


def make_grid(n_candidates: int) -> dict[str, list[float]]:
    """Return a grid of so many candidates."""
    third = [0.0, 0.2, 0.5]
    n_seeds = n_candidates // 9
    return {
        "dropout": third,
        "label_smoothing": third,
        "random_state": list(range(n_seeds)),
    }


def search(n_candidates: int, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the score of each candidate; start with an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        clf = ResNetTransferClassifier(
            "mini_resnet18",
            image_size=X.shape[1],
            unfreeze_depth=1,
            probe_share=0,
            augment=None,
            max_epochs=2,
            device="cpu",
            precision="float32",
            activation_cache=f"{folder}/cache",
        )
        made = GridSearchCV(
            clf, make_grid(n_candidates), cv=SPLIT, refit=False, error_score="raise"
        )
        scores: np.ndarray = made.fit(X, y).cv_results_["mean_test_score"]
    return scores


def load() -> None:
    """Import in a worker what fits need."""
    search(9, *draw_images(12, 8))


def load_all(n_workers: int) -> float:
    """Let every worker of the present backend import; return the seconds."""
    started = time.perf_counter()
    Parallel(n_jobs=n_workers)([delayed(load)()] * n_workers)
    return time.perf_counter() - started


@contextmanager
def with_threads(n_threads: int) -> Iterator[None]:
    """Compute in this process with a number of threads."""
    torch.set_num_threads(n_threads)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def start_loky() -> tuple[Context, float]:
    """Start two processes of loky."""

    def use() -> Any:
        return parallel_config("loky", n_jobs=2, inner_max_num_threads=1)

    with use():
        return use, load_all(2)


def start_dask(stack: ExitStack, n_workers: int) -> tuple[Context, float]:
    """Start a scheduler and worker processes on this machine."""
    from distributed import Client, LocalCluster

    started = time.perf_counter()
    cluster = stack.enter_context(
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=None)
    )
    client = stack.enter_context(Client(cluster, set_as_default=False))
    client.run(load)
    return (
        lambda: parallel_config("dask", client=client),
        time.perf_counter() - started,
    )


def start_ray(stack: ExitStack) -> tuple[Context, float]:
    """Start Ray on this machine; the workers come with each search."""
    import ray
    from ray.util.joblib import register_ray

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    started = time.perf_counter()
    here = {"env_vars": {"PYTHONPATH": os.path.dirname(__file__)}}
    ray.init("local", num_cpus=2, include_dashboard=False, runtime_env=here)
    stack.callback(ray.shutdown)
    register_ray()
    return lambda: parallel_config("ray", n_jobs=2), time.perf_counter() - started


def start_all(stack: ExitStack) -> dict[str, tuple[Context, float]]:
    """Start the workers of every contestant; return how to use them, and seconds."""
    load()
    contestants: dict[str, tuple[Context, float]] = {
        "serial": (nullcontext, 0.0),
        "serial, 2 threads": (lambda: with_threads(2), 0.0),
        "loky, 2 workers": start_loky(),
    }
    for n in (1, 2):
        contestants[f"Dask, {n} worker{'s'[: n - 1]}"] = start_dask(stack, n)
    contestants["Ray, 2 workers"] = start_ray(stack)
    return contestants


def measure_ray_start(contestants: dict[str, tuple[Context, float]]) -> float:
    """Return the seconds that workers of Ray need for one small search each."""
    with contestants["Ray, 2 workers"][0]():
        return load_all(2)


def main() -> None:
    """Measure what the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=48)
    parser.add_argument("--size", type=int, default=16, help="pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--candidates", type=int, nargs="+", default=CANDIDATES)
    args = parser.parse_args()
    torch.set_num_threads(1)
    record = Record("searches")
    key = {"n_images": args.n_images, "size": args.size, "rounds": args.rounds}
    missing = [n for n in args.candidates if not record.find(**key, n_candidates=n)]
    if not missing:
        return
    X, y = draw_images(args.n_images, args.size)
    with ExitStack() as stack:
        contestants = start_all(stack)
        of_ray = measure_ray_start(contestants)
        for n_candidates in missing:
            times: dict[str, list[float]] = {name: [] for name in contestants}
            scores: dict[str, np.ndarray] = {}
            for _ in range(args.rounds):
                for name, (use, _) in contestants.items():
                    started = time.perf_counter()
                    with use():
                        scores[name] = search(n_candidates, X, y)
                    times[name].append(time.perf_counter() - started)
            start_of_each = {"start_of_each_search": round(of_ray, 1)}
            for name, (_, start) in contestants.items():
                ratios = np.divide(times[name], times["serial"]).tolist()
                record.add(
                    **key,
                    n_candidates=n_candidates,
                    contestant=name,
                    seconds=spread(times[name], ".2f"),
                    over_serial=spread(ratios, ".2f"),
                    start_seconds=round(start, 1),
                    **(start_of_each if name.startswith("Ray") else {}),
                    scores_equal_serial=bool(
                        np.array_equal(scores[name], scores["serial"])
                    ),
                    load_average=round(os.getloadavg()[0], 1),
                )


if __name__ == "__main__":
    main()
