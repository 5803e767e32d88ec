"""A grid search over depth and dropout: ours against plain skorch and the ideal.

    SKTRANSFER_DATA=FOLDER python benchmarks/grid_search.py
    SKTRANSFER_DATA=FOLDER python benchmarks/grid_search.py --backbone resnet50

Three dropouts and three folds at depth 0, at depths 0 and 1, and at depths 0 to 2 (9,
18 and 27 fits) of 5 epochs on CIFAR-10 images, all of them in one process, in turn:

- ours: ``GridSearchCV`` over ``ResNetTransferClassifier`` with an empty cache;
- uncached: the same with ``activation_cache=None``; its scores must be the same;
- skorch: ``GridSearchCV`` over ``NeuralNetClassifier`` around torchvision's network,
  frozen by ``requires_grad``, as skorch's documentation teaches;
- ideal: frozen stages once, then bare loops over the suffixes, which nothing that
  trains all those candidates can beat.

Same images (resized beforehand for skorch and the ideal, which saves them that), same
network and weights (random ones, as speed does not depend on them), float32, batches,
epochs, rates and optimizer, every stage open from the first epoch, nothing augmented.
Reported are the ratios of their seconds to ours, and how many images passed frozen
stages in ours: once for each place where the network is cut.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from record import Record, spread
from sklearn.model_selection import GridSearchCV, StratifiedKFold, train_test_split
from skorch import NeuralNetClassifier
from torch import nn

from sktransfer import ActivationCache, ResNetTransferClassifier, datasets
from sktransfer._prefix import Prefix
from sktransfer._resnet import make_resnet

DROPOUTS = (0.0, 0.2, 0.5)
N_FOLDS, N_EPOCHS, BATCH, LR = 3, 5, 32, 0.01
DEPTHS = {"0": (0,), "0-1": (0, 1), "0-2": (0, 1, 2)}
OPTIMIZER = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
CPU = torch.device("cpu")


class Network(nn.Module):
    """torchvision's network as users of skorch wrap it: frozen up to a depth."""

    def __init__(
        self, backbone: str, weights: str, depth: int, dropout: float, size: int
    ) -> None:
        super().__init__()
        self.stages = make_resnet(backbone, 10, dropout, (size, size))
        self.stages.load_state_dict(torch.load(weights, weights_only=True))
        learning = self.stages.names[len(self.stages.names) - 1 - depth :]
        for name, stage in self.stages.items():
            stage.requires_grad_(name in learning)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images (n, 3, size, size), normalised."""
        activation = images
        for _, stage in self.stages.items():
            activation = stage(activation)
        return activation


def folds() -> StratifiedKFold:
    """The same folds for all."""
    return StratifiedKFold(N_FOLDS)


def ours(
    X: np.ndarray,
    y: np.ndarray,
    setup: argparse.Namespace,
    depths: tuple[int, ...],
    cache: ActivationCache | None,
) -> np.ndarray:
    """Mean scores of the candidates."""
    clf = ResNetTransferClassifier(
        setup.backbone,
        weights=setup.weights,
        unfreeze_schedule="immediate",
        image_size=setup.size,
        augment=None,
        max_epochs=N_EPOCHS,
        batch_size=BATCH,
        lr=LR,
        backbone_lr_factor=1.0,
        early_stopping=False,
        activation_cache=cache,
        precision="float32",
        device="cpu",
        random_state=0,
    )
    grid = {"unfreeze_depth": depths, "dropout": DROPOUTS}
    search = GridSearchCV(clf, grid, cv=folds(), refit=False, error_score="raise")
    scores: np.ndarray = search.fit(X, y).cv_results_["mean_test_score"]
    return scores


def plain_skorch(
    resized: torch.Tensor,
    y: np.ndarray,
    setup: argparse.Namespace,
    depths: tuple[int, ...],
) -> None:
    """The search as skorch's documentation teaches it."""
    net = NeuralNetClassifier(
        Network,
        module__backbone=setup.backbone,
        module__weights=setup.weights,
        module__size=setup.size,
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        lr=LR,
        max_epochs=N_EPOCHS,
        batch_size=BATCH,
        train_split=None,
        verbose=0,
        **{f"optimizer__{name}": value for name, value in OPTIMIZER.items()},
    )
    grid = {"module__depth": depths, "module__dropout": DROPOUTS}
    search = GridSearchCV(net, grid, cv=folds(), refit=False, error_score="raise")
    search.fit(resized.numpy(), y)


def ideal(
    resized: torch.Tensor,
    y: np.ndarray,
    setup: argparse.Namespace,
    depths: tuple[int, ...],
) -> None:
    """Frozen stages once, then bare loops over the suffixes."""
    labels = torch.from_numpy(y)
    for depth in depths:
        net = Network(setup.backbone, setup.weights, depth, 0.0, setup.size).stages
        n_frozen = len(net.names) - 1 - depth
        with torch.no_grad():
            net.eval()
            activations = torch.cat(
                [frozen_pass(net, some, n_frozen) for some in resized.split(64)]
            )
        for dropout in DROPOUTS:
            for train, test in folds().split(y, y):
                fresh = Network(
                    setup.backbone, setup.weights, depth, dropout, setup.size
                ).stages
                suffix = nn.Sequential(
                    *(fresh.get_submodule(name) for name in fresh.names[n_frozen:])
                )
                train_bare(suffix, activations, labels, torch.from_numpy(train))
                suffix.eval()
                with torch.inference_mode():
                    for some in torch.from_numpy(test).split(64):
                        suffix(activations[some]).argmax(1)


def frozen_pass(net: Any, images: torch.Tensor, n_frozen: int) -> torch.Tensor:
    """Activations of images that are normalised already."""
    activation = images
    for name in net.names[:n_frozen]:
        activation = net.get_submodule(name)(activation)
    if n_frozen == len(net.names) - 1:
        activation = net.get_submodule("head").pool(activation)
    return activation


def train_bare(
    suffix: nn.Module,
    activations: torch.Tensor,
    labels: torch.Tensor,
    rows: torch.Tensor,
) -> None:
    """A plain loop."""
    suffix.train()
    optimizer = torch.optim.SGD(suffix.parameters(), LR, **OPTIMIZER)
    for _ in range(N_EPOCHS):
        for some in rows[torch.randperm(len(rows))].split(BATCH):
            loss = nn.functional.cross_entropy(suffix(activations[some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def seconds(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """How long a call takes, and what it returns."""
    started = time.perf_counter()
    result = function(*arguments)
    return time.perf_counter() - started, result


def count_passes() -> list[int]:
    """Note how many images pass frozen stages from now on."""
    passed: list[int] = []
    encode = Prefix.encode

    def counting(self: Prefix, images: np.ndarray, *rest: Any) -> torch.Tensor:
        passed.append(len(images))
        return encode(self, images, *rest)

    Prefix.encode = counting  # type: ignore[method-assign]
    return passed


def measure(
    X: np.ndarray,
    y: np.ndarray,
    resized: torch.Tensor,
    setup: argparse.Namespace,
    depths: tuple[int, ...],
) -> dict[str, Any]:
    """All four in turn, several rounds."""
    times: dict[str, list[float]] = {}

    def note(peer: str, function: Callable[..., Any], *arguments: Any) -> Any:
        took, result = seconds(function, *arguments)
        times.setdefault(peer, []).append(took)
        return result

    passed = count_passes()
    for _ in range(setup.rounds):
        passed.clear()
        scores = note("ours", ours, X, y, setup, depths, ActivationCache())
        n_passes = sum(passed)
        uncached = note("uncached", ours, X, y, setup, depths, None)
        if not np.array_equal(scores, uncached):
            raise SystemExit("the cache changed a score")
        note("skorch", plain_skorch, resized, y, setup, depths)
        note("ideal", ideal, resized, y, setup, depths)
    ratios = {
        f"{peer}_over_ours": np.divide(times[peer], times["ours"]).tolist()
        for peer in ("skorch", "uncached", "ideal")
    }
    return {
        "n_fits": len(depths) * len(DROPOUTS) * N_FOLDS,
        "rounds": setup.rounds,
        "ours_seconds": spread(times["ours"], ".2f"),
        "passes_per_image": n_passes / len(X),
        **{name: spread(values, ".2f") for name, values in ratios.items()},
    }


def main() -> None:
    """Measure what is missing."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=64, help="pixels")
    parser.add_argument("--n-images", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=5)
    setup = parser.parse_args()
    torch.manual_seed(0)
    net = make_resnet(setup.backbone, 10, 0.0, (setup.size, setup.size))
    X, y = datasets.fetch_cifar10(subset="test", return_X_y=True)
    X, _, y, _ = train_test_split(
        X, y, train_size=setup.n_images, stratify=y, random_state=0
    )
    y = y.astype(np.int64)
    with torch.no_grad():
        resized = net.preprocess(torch.from_numpy(X)).contiguous()
    record = Record("grid_search")
    with tempfile.TemporaryDirectory() as folder:
        setup.weights = f"{folder}/random.pth"
        torch.save(net.state_dict(), setup.weights)
        for name, depths in DEPTHS.items():
            key = {
                "depths": name,
                "backbone": setup.backbone,
                "size": setup.size,
                "n_images": setup.n_images,
            }
            if not record.find(**key):
                record.add(**key, **measure(X, y, resized, setup, depths))


if __name__ == "__main__":
    main()
