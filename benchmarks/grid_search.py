"""Grid search over depth and dropout: ours against skorch, fastai and the ideal.

    SKTRANSFER_DATA=FOLDER python benchmarks/grid_search.py
    SKTRANSFER_DATA=FOLDER python benchmarks/grid_search.py --backbone resnet50

Three dropouts and three folds at depth 0, at depths 0 and 1, and at depths 0 to 2 (9,
18 and 27 fits), 5 epochs each, on CIFAR-10 images. All contestants run in one process,
in turn, on the terms of ``peers.py``:

- ours: ``GridSearchCV`` over ``ResNetTransferClassifier``, starting with an empty cache
  and with weights that are not yet loaded;
- skorch: ``GridSearchCV`` over ``NeuralNetClassifier`` around torchvision's network;
- fastai: a loop over candidates and folds with its ``Learner`` (only with ``--fastai``,
  if it is installed);
- ideal: bare torch. The network is loaded once, the frozen stages are computed once per
  depth, then plain loops train copies of the suffix. Nothing that trains all these
  candidates can be faster;
- uncached, once, before the others: ours with ``activation_cache=None``, whose scores
  must equal those of ours just before it.

With ``--as-shipped``, both use their defaults. Ours opens stages gradually, mirrors
images (two views) and chooses its rates and batch size; it runs once in float32, the
default on a CPU, and once in bfloat16. skorch uses batches of 128 in the order of the
data and validates on a fifth of it in each epoch. The 5 epochs and the optimizer stay.
With few images ours chooses small batches, to make more steps; ``--batch-size`` sets
the size for both.

Each depth is a search of its own; their times are added up, which is what the larger
searches take, since depths share no activations. The report has each contestant's
seconds divided by ours, and how many images passed the frozen stages in ours: once per
cut of the network. Weights are random: speed does not depend on them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import peers
import torch
from peers import Setup
from record import Record, spread
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from skorch.dataset import ValidSplit

from sktransfer import ActivationCache, datasets

DROPOUTS = (0.0, 0.2, 0.5)
FOLDS = StratifiedKFold(3)
SHIPPED: dict[str, Any] = {
    "unfreeze_schedule": "gradual",
    "augment": "flip",
    "batch_size": "auto",
    "early_stopping": "auto",
    "lr": 0.05,
    "backbone_lr_factor": 0.1,
}
SKORCH_SHIPPED: dict[str, Any] = {
    "batch_size": 128,
    "iterator_train__shuffle": False,
    "train_split": ValidSplit(5, stratified=True),
}


def search(estimator: Any, name: str, X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the mean score of each dropout."""
    grid = {name: list(DROPOUTS)}
    made = GridSearchCV(estimator, grid, cv=FOLDS, refit=False, error_score="raise")
    scores: np.ndarray = made.fit(X, y).cv_results_["mean_test_score"]
    return scores


def ours(setup: Setup, depth: int, **params: Any) -> np.ndarray:
    """Run ours, with weights not loaded and, unless `params` set it, an empty cache."""
    peers.forget_weights()
    params = {"cache": ActivationCache(), **params}
    return search(peers.ours(setup, depth, **params), "dropout", setup.X, setup.y)


def skorch(setup: Setup, depth: int, **params: Any) -> np.ndarray:
    """Run plain skorch."""
    net = peers.skorch(setup, depth, **params)
    return search(net, "module__dropout", setup.resized.numpy(), setup.y)


def fastai(setup: Setup, depth: int) -> None:
    """Run fastai in a loop, since it has no grid search."""
    for dropout in DROPOUTS:
        for train, test in FOLDS.split(setup.X, setup.y):
            peers.fastai(setup, depth, dropout, train, test)


def ideal(setup: Setup, depth: int) -> None:
    """Compute frozen stages once, then train the suffixes in bare loops."""
    labels = torch.from_numpy(setup.y)
    net = peers.loaded(setup)
    inputs = peers.activations(setup, net, depth)
    for dropout in DROPOUTS:
        for train, test in FOLDS.split(setup.X, setup.y):
            suffix = peers.suffix(net, depth, dropout)
            peers.bare(suffix, inputs, labels, train)
            peers.predicted(suffix, inputs, test)


def measure(
    setup: Setup,
    contestants: dict[str, Callable[..., Any]],
    depths: Sequence[int],
    rounds: int,
) -> dict[str, np.ndarray]:
    """Return the seconds of each contestant, (n_depths, n_rounds)."""
    times = {name: np.zeros((len(depths), rounds)) for name in contestants}
    for i in range(rounds):
        for depth in depths:
            for name, run in contestants.items():
                started = time.perf_counter()
                run(setup, depth)
                times[name][depth, i] = time.perf_counter() - started
    return times


def check_scores(setup: Setup, depths: Sequence[int]) -> dict[str, Any]:
    """Check that the cache changes no score; count passes per image by depth."""
    passes = []
    seconds = {"cached": 0.0, "uncached": 0.0}
    for depth in depths:
        started = time.perf_counter()
        with peers.counted_passes() as passed:
            cached = ours(setup, depth)
        passes.append(sum(passed) / len(setup.X))
        between = time.perf_counter()
        uncached = ours(setup, depth, cache=None)
        seconds["cached"] += between - started
        seconds["uncached"] += time.perf_counter() - between
        if not np.array_equal(cached, uncached):
            raise SystemExit(f"the cache changed a score: {cached}, {uncached}")
    return {
        "passes_per_image_by_depth": passes,
        "uncached_over_ours_once": round(seconds["uncached"] / seconds["cached"], 2),
    }


def report(times: dict[str, np.ndarray], us: str) -> list[dict[str, Any]]:
    """Return the ratios to ours for depth 0, depths 0 and 1, and so on."""
    rows = []
    for n in range(1, len(times[us]) + 1):
        total = {name: seconds[:n].sum(axis=0) for name, seconds in times.items()}
        ratios = {
            f"{name}_over_ours": spread((seconds / total[us]).tolist(), ".2f")
            for name, seconds in total.items()
            if name != us
        }
        depths = "0" if n == 1 else f"0-{n - 1}"
        rows.append(
            {
                "depths": depths,
                "n_fits": n * len(DROPOUTS) * FOLDS.get_n_splits(),
                "ours_seconds": spread(total[us].tolist(), ".2f"),
                **ratios,
            }
        )
    return rows


def images(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `n` images of CIFAR-10 and their class indices."""
    X, y = datasets.fetch_cifar10(subset="test", return_X_y=True)
    X, _, y, _ = train_test_split(X, y, train_size=n, stratify=y, random_state=0)
    return X, y.astype(np.int64)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--n-images", type=int, default=120)
    parser.add_argument("--deepest", type=int, default=2, help="largest depth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fastai", action="store_true", help="measure fastai too")
    parser.add_argument("--as-shipped", action="store_true", help="use defaults")
    parser.add_argument("--batch-size", type=int, help="of both, with --as-shipped")
    return parser.parse_args()


def chosen_contestants(args: argparse.Namespace) -> dict[str, Callable[..., Any]]:
    """Return the contestants by name."""
    if args.as_shipped:
        batch = {"batch_size": args.batch_size} if args.batch_size else {}
        us, halved = SHIPPED | batch, {"precision": "bfloat16"}
        return {
            "ours": lambda s, depth: ours(s, depth, **us),
            "ours_bfloat16": lambda s, depth: ours(s, depth, **us | halved),
            "skorch": lambda s, depth: skorch(s, depth, **SKORCH_SHIPPED | batch),
        }
    contestants = {"ours": ours, "skorch": skorch, "ideal": ideal}
    return contestants | ({"fastai": fastai} if args.fastai else {})


def main() -> None:
    """Measure what the record lacks."""
    args = arguments()
    key = {
        "terms": "as shipped" if args.as_shipped else "equal",
        "backbone": args.backbone,
        "size": args.size,
        "n_images": args.n_images,
        "deepest": args.deepest,
        "rounds": args.rounds,
        "with_fastai": args.fastai,
        "batch_size": args.batch_size or ("auto" if args.as_shipped else peers.BATCH),
    }
    depths = range(args.deepest + 1)
    record = Record("grid_search")
    if record.find(**key):
        return
    with tempfile.TemporaryDirectory() as folder:
        weights = f"{folder}/random.pth"
        peers.write_weights(args.backbone, weights)
        setup, few = (
            peers.made_setup(args.backbone, args.size, weights, *images(n))
            for n in (args.n_images, 90 if args.as_shipped else 30)
        )
        contestants = chosen_contestants(args)
        # So that what a process loads and sets up once is not timed.
        measure(few, contestants, [0], 1)
        extra = {} if args.as_shipped else check_scores(setup, depths)
        times = measure(setup, contestants, depths, args.rounds)
        for row in report(times, "ours"):
            record.add(**key, **row, **extra)


if __name__ == "__main__":
    main()
