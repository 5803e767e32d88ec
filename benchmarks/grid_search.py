"""A grid search over depth and dropout: ours against skorch, fastai and the ideal.

    SKTRANSFER_DATA=FOLDER python benchmarks/grid_search.py
    SKTRANSFER_DATA=FOLDER python benchmarks/grid_search.py --backbone resnet50

Three dropouts and three folds at depth 0, at depths 0 and 1, and at depths 0 to 2 (9,
18 and 27 fits) of 5 epochs on CIFAR-10 images, all of them in one process, in turn, by
the terms in ``peers.py``:

- ours: ``GridSearchCV`` over ``ResNetTransferClassifier`` with an empty cache, weights
  not read yet;
- skorch: ``GridSearchCV`` over ``NeuralNetClassifier`` around torchvision's network;
- fastai: a loop over candidates and folds with its ``Learner`` (only with ``--fastai``,
  where it is installed);
- ideal: bare torch; the network loaded once, frozen stages once for each depth, then
  plain loops over copies of the suffix, which nothing that trains all those candidates
  can beat;
- uncached, once, before the others: ours with ``activation_cache=None``, whose scores
  must be those of ours just before.

With ``--as-shipped``, ours as it is by default: it opens stages gradually, mirrors
images (two views), picks its rates and batches; once in float32, the default on a CPU,
and once in bfloat16. skorch then has its batches of 128, in the order of the data, and
validates on a fifth in each epoch; 5 epochs and the optimizer stay. With few images
ours takes small batches, for more steps; ``--batch-size`` sets it for both.

Each depth is a search of its own, one after another; their times are added up, which is
what the larger searches take, since depths share no activations. Reported are the
ratios of seconds to ours, and how many images passed frozen stages in ours: once for
each place where the network is cut. Random weights: speed does not depend on them.
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
    """Mean score of each dropout."""
    grid = {name: list(DROPOUTS)}
    made = GridSearchCV(estimator, grid, cv=FOLDS, refit=False, error_score="raise")
    scores: np.ndarray = made.fit(X, y).cv_results_["mean_test_score"]
    return scores


def ours(setup: Setup, depth: int, **params: Any) -> np.ndarray:
    """Ours with an empty cache, unless `params` have another, and weights unread."""
    peers.forget_weights()
    params = {"cache": ActivationCache(), **params}
    return search(peers.ours(setup, depth, **params), "dropout", setup.X, setup.y)


def skorch(setup: Setup, depth: int, **params: Any) -> np.ndarray:
    """Plain skorch."""
    net = peers.skorch(setup, depth, **params)
    return search(net, "module__dropout", setup.resized.numpy(), setup.y)


def fastai(setup: Setup, depth: int) -> None:
    """fastai, which has no search of its own."""
    for dropout in DROPOUTS:
        for train, test in FOLDS.split(setup.X, setup.y):
            peers.fastai(setup, depth, dropout, train, test)


def ideal(setup: Setup, depth: int) -> None:
    """Frozen stages once, then bare loops over the suffixes."""
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
    """Seconds of each by depth and round, (n_depths, n_rounds)."""
    times = {name: np.zeros((len(depths), rounds)) for name in contestants}
    for i in range(rounds):
        for depth in depths:
            for name, run in contestants.items():
                started = time.perf_counter()
                run(setup, depth)
                times[name][depth, i] = time.perf_counter() - started
    return times


def check_scores(setup: Setup, depths: Sequence[int]) -> dict[str, Any]:
    """Passes an image in ours, by depth, where the cache changes no score."""
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
    """Ratios to ours for depth 0, depths 0 and 1, and so on."""
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
    """CIFAR-10 images and class indices."""
    X, y = datasets.fetch_cifar10(subset="test", return_X_y=True)
    X, _, y, _ = train_test_split(X, y, train_size=n, stratify=y, random_state=0)
    return X, y.astype(np.int64)


def arguments() -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--n-images", type=int, default=120)
    parser.add_argument("--deepest", type=int, default=2, help="largest depth")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--fastai", action="store_true", help="measure it too")
    parser.add_argument("--as-shipped", action="store_true", help="by default settings")
    parser.add_argument("--batch-size", type=int, help="for both, as shipped")
    return parser.parse_args()


def chosen_contestants(args: argparse.Namespace) -> dict[str, Callable[..., Any]]:
    """Who takes part, by name."""
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
    """Measure what is missing."""
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
        # What is loaded and set up once in a process is not timed.
        measure(few, contestants, [0], 1)
        extra = {} if args.as_shipped else check_scores(setup, depths)
        times = measure(setup, contestants, depths, args.rounds)
        for row in report(times, "ours"):
            record.add(**key, **row, **extra)


if __name__ == "__main__":
    main()
