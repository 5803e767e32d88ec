"""Slices of ``gpu.py``: fine-tuning against a bare torch loop, skorch and fastai.

All train the same network on the same images, 128 per step, 2 epochs, with the same
rate and momentum, nothing augmented, matrix products in bfloat16. Images reach the
network as bytes of 32 x 32 pixels and are resized by it. ours keeps what the frozen
stages compute; the others compute it in every epoch. The bare loop keeps all images on
the device; skorch and fastai collate them one by one, as they do unless told otherwise.
"""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from gpu_slices import (
    DEVICE,
    LITE,
    Data,
    Plan,
    Slice,
    clock,
    count_stages,
    draw,
    wait,
)
from skorch import NeuralNetClassifier
from torch import nn
from torch.nn import functional as F
from torch.utils.data import TensorDataset

from sktransfer import ActivationCache, Backbone, TransferClassifier
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.device import autocast, move_to, resolve_precision

N_EPOCHS, BATCH, LR, MOMENTUM = 2, 128, 0.01, 0.9
N_WARM = 3 * BATCH
PRECISION = resolve_precision("auto", DEVICE)


def list_slices(plan: Plan) -> list[Slice]:
    """List both backbones with every stage open, and with two."""
    size = plan.sizes[0]
    cases = [(b, d) for b in (plan.large, LITE) for d in (count_stages(b), 2)]
    keys = [{"backbone": b, "size": size, "depth": d} for b, d in cases]
    return [Slice("peers", key, compare) for key in keys]


def describe(backbone: str) -> Backbone:
    """Describe a backbone as a plain loop trains it: one rate, nothing clipped."""
    return replace(
        find_backbone(backbone),
        optimizer="sgd",
        backbone_lr_factor=1.0,
        layer_decay=1.0,
        weight_decay=0.0,
        clip_norm=None,
        batch_norm="train",
    )


class Network(nn.Module):
    """The network as users would wrap it, with random weights."""

    def __init__(self, backbone: str, size: int, depth: int) -> None:
        super().__init__()
        stages = make_stages(describe(backbone), 10, 0.0, (size, size))
        self.stages = move_to(stages.unfreeze(depth), DEVICE)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of images (n, 32, 32, 3), uint8."""
        with autocast(PRECISION, DEVICE):
            logits: torch.Tensor = self.stages(images)
        return logits.float()

    def list_learning(self) -> list[nn.Parameter]:
        """List the parameters that learn."""
        return [p for p in self.parameters() if p.requires_grad]


Given = tuple[str, int, int]
Train = Callable[[Given, np.ndarray, np.ndarray], list[float]]


def compare(data: Data, backbone: str, size: int, depth: int) -> dict[str, Any]:
    """Let each train in turn, twice; return seconds of whole fits and of epochs.

    Each has trained on a few images before, which selects its kernels.
    """
    X, y = draw(data.train, data.plan.n_peers)
    labels = np.unique(y, return_inverse=True)[1]
    net = backbone, size, depth
    contestants: dict[str, Train] = {
        "bare": train_bare,
        "ours": train_ours,
        "skorch": train_skorch,
        **({"fastai": train_fastai} if find_spec("fastai") else {}),
    }
    fits: dict[str, list[float]] = {who: [] for who in contestants}
    epochs: dict[str, list[float]] = {who: [] for who in contestants}
    for n in (N_WARM, len(X), len(X)):
        for who, train in contestants.items():
            started = time.perf_counter()
            seconds = train(net, X[:n], labels[:n])
            wait()
            if n != N_WARM:
                fits[who].append(time.perf_counter() - started)
                epochs[who] += seconds
    found: dict[str, Any] = {}
    for name, seconds in (("fit", fits), ("epoch", epochs)):
        best = {who: min(values) for who, values in seconds.items()}
        found |= {f"{who}_{name}_seconds": s for who, s in best.items()}
        found |= {f"ours_over_{w}_{name}": best["ours"] / best[w] for w in best}
        del found[f"ours_over_ours_{name}"]
    return found


def train_bare(given: Given, X: np.ndarray, labels: np.ndarray) -> list[float]:
    """Train in a plain loop; return the seconds of each epoch."""
    net = Network(*given)
    images, y = torch.from_numpy(X).to(DEVICE), torch.from_numpy(labels).to(DEVICE)
    optimizer = torch.optim.SGD(
        net.list_learning(), LR, momentum=MOMENTUM, nesterov=True, fused=True
    )
    net.train()

    def train_epoch() -> None:
        for rows in torch.randperm(len(X), device=DEVICE).split(BATCH):
            loss = F.cross_entropy(net(images[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    return [clock(train_epoch) for _ in range(N_EPOCHS)]


def train_ours(given: Given, X: np.ndarray, labels: np.ndarray) -> list[float]:
    """Train our estimator; return the seconds of each epoch."""
    backbone, size, depth = given
    clf = TransferClassifier(
        describe(backbone),
        weights=None,
        unfreeze_depth=depth,
        unfreeze_schedule="immediate",
        head_init="random",
        dropout=0.0,
        image_size=size,
        augment=None,
        batch_size=BATCH,
        lr=LR,
        momentum=MOMENTUM,
        max_epochs=N_EPOCHS,
        early_stopping=False,
        activation_cache=ActivationCache(),
        random_state=0,
    ).fit(X, labels)
    return [row["dur"] for row in clf.history_]


def train_skorch(given: Given, X: np.ndarray, labels: np.ndarray) -> list[float]:
    """Train plain skorch; return the seconds of each epoch."""
    net = NeuralNetClassifier(
        Network(*given),
        criterion=nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD,
        optimizer__momentum=MOMENTUM,
        optimizer__nesterov=True,
        lr=LR,
        batch_size=BATCH,
        max_epochs=N_EPOCHS,
        iterator_train__shuffle=True,
        train_split=None,
        device=DEVICE,
        verbose=0,
    ).fit(X, labels)
    return list(net.history[:, "dur"])


def train_fastai(given: Given, X: np.ndarray, labels: np.ndarray) -> list[float]:
    """Train a fastai Learner; return the seconds of each epoch."""
    from fastai.callback.core import Callback, CancelValidException
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    seconds: list[float] = []

    class Watch(Callback):  # type: ignore[misc]
        def before_epoch(self) -> None:
            wait()
            self.started = time.perf_counter()

        def before_validate(self) -> None:
            wait()
            seconds.append(time.perf_counter() - self.started)
            raise CancelValidException

    dataset = TensorDataset(torch.from_numpy(X), torch.from_numpy(labels))
    loader = DataLoader(dataset, bs=BATCH, shuffle=True, num_workers=0)
    learner = Learner(
        DataLoaders(loader, loader, device=DEVICE),
        Network(*given),
        loss_func=nn.CrossEntropyLoss(),
        opt_func=lambda groups, **kwargs: OptimWrapper(
            groups, torch.optim.SGD, lr=LR, momentum=MOMENTUM, nesterov=True
        ),
        splitter=lambda net: [net.list_learning()],
        train_bn=False,
    )
    importlib.import_module("fastai.callback.progress")  # defines Learner.no_bar
    with learner.no_bar(), learner.no_logging():
        learner.fit(N_EPOCHS, LR, cbs=Watch())
    return seconds
