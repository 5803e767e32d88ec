"""The peers of the speed benchmarks: each trains the same candidate in its own way.

All have the same images, network, weights, number of epochs, rates and optimizer,
float32, and shuffled batches of one size. Every stage that learns is open from the
first epoch; nothing is augmented, and nothing is set aside. The peers' images are
resized and normalised beforehand, which saves them this work. Two things differ, as
they do in practice: the frozen stages of skorch, fastai and the bare loop have no
gradients but still update their batch norm, while ours do not; and ours and the bare
loops use torch's fused SGD, the others its default one.
"""

from __future__ import annotations

import copy
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from skorch import NeuralNetClassifier
from torch import nn
from torch.utils.data import TensorDataset

import sktransfer._networks.read_once as read_once
from sktransfer import ActivationCache, ResNetTransferClassifier
from sktransfer._activations.prefix import Prefix
from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.fixed_batches import choose_batch_size
from sktransfer._networks.stages import Stages

N_EPOCHS, BATCH, LR = 5, 32, 0.01
OPTIMIZER = {"momentum": 0.9, "nesterov": True, "weight_decay": 5e-4}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Setup:
    """What every peer is given.

    Attributes
    ----------
    backbone, size
        Name of the network, and height and width of its images in pixels.

    weights : str
        File with a state dict.

    X, y : ndarray
        Images as they are loaded, and class indices.

    resized : tensor of shape (n_images, 3, size, size)
        Images as the first stage expects them.
    """

    backbone: str
    size: int
    weights: str
    X: np.ndarray
    y: np.ndarray
    resized: torch.Tensor


def made_setup(
    backbone: str, size: int, weights: str, X: np.ndarray, y: np.ndarray
) -> Setup:
    """Resize and normalise the images, and collect what every peer is given."""
    net = make_stages(backbone, 10, 0.0, (size, size))
    with torch.no_grad():
        resized = net.preprocess(torch.from_numpy(X)).contiguous()
    return Setup(backbone, size, weights, X, y, resized)


def write_weights(backbone: str, path: str) -> None:
    """Write random weights, in a file old enough for ours to load it only once."""
    torch.manual_seed(0)
    torch.save(make_stages(backbone, 10, 0.0, None).state_dict(), path)
    os.utime(path, (0, 0))


def forget_weights() -> None:
    """Make our next fit load the weights, as the first fit of a process does."""
    read_once._last.clear()


class Network(nn.Module):
    """torchvision's network as users wrap it: loaded, and frozen down to a depth."""

    def __init__(
        self, backbone: str, weights: str, depth: int, dropout: float, size: int
    ) -> None:
        super().__init__()
        self.stages = make_stages(backbone, 10, dropout, (size, size))
        self.stages.load_state_dict(torch.load(weights, weights_only=True))
        learning = self.stages.names[self.stages.n_frozen(depth) :]
        for name, stage in self.stages.items():
            stage.requires_grad_(name in learning)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits of normalised images (n, 3, size, size)."""
        activation = images
        for _, stage in self.stages.items():
            activation = stage(activation)
        return activation


def ours(
    setup: Setup,
    depth: int,
    cache: ActivationCache | None,
    **params: Any,
) -> ResNetTransferClassifier:
    """Return our estimator on the peers' terms, except for `params`."""
    terms = {
        "unfreeze_schedule": "immediate",
        "augment": None,
        "max_epochs": N_EPOCHS,
        "batch_size": BATCH,
        "lr": LR,
        "backbone_lr_factor": 1.0,
        "early_stopping": False,
        "precision": "float32",
        "momentum": OPTIMIZER["momentum"],
        "weight_decay": OPTIMIZER["weight_decay"],
    }
    return ResNetTransferClassifier(
        setup.backbone,
        weights=setup.weights,
        unfreeze_depth=depth,
        image_size=setup.size,
        activation_cache=cache,
        device="cpu",
        random_state=0,
        **{**terms, **params},
    )


def skorch(setup: Setup, depth: int, **params: Any) -> NeuralNetClassifier:
    """Return a skorch classifier around the network, as in its documentation."""
    terms = {
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "lr": LR,
        "max_epochs": N_EPOCHS,
        "batch_size": BATCH,
        "iterator_train__shuffle": True,
        "train_split": None,
        "verbose": 0,
        **{f"optimizer__{name}": value for name, value in OPTIMIZER.items()},
    }
    return NeuralNetClassifier(
        Network,
        module__backbone=setup.backbone,
        module__weights=setup.weights,
        module__size=setup.size,
        module__depth=depth,
        module__dropout=0.0,
        **{**terms, **params},
    )


def fastai(
    setup: Setup, depth: int, dropout: float, train: np.ndarray, test: np.ndarray
) -> float:
    """Fit a fastai Learner, frozen by `freeze_to`, and return its accuracy."""
    from fastai.callback.core import Callback, CancelValidException
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.optimizer import OptimWrapper

    class NoValidation(Callback):  # type: ignore[misc]
        def before_validate(self) -> None:
            raise CancelValidException

    def loader(rows: np.ndarray, shuffle: bool) -> Any:
        dataset = TensorDataset(setup.resized[rows], torch.from_numpy(setup.y[rows]))
        return DataLoader(dataset, bs=BATCH, shuffle=shuffle, num_workers=0)

    net = Network(setup.backbone, setup.weights, depth, dropout, setup.size)
    learner = Learner(
        DataLoaders(loader(train, True), loader(test, False), device=CPU),
        net,
        loss_func=nn.CrossEntropyLoss(),
        opt_func=lambda groups, **kwargs: OptimWrapper(
            groups, torch.optim.SGD, lr=LR, **OPTIMIZER
        ),
        splitter=lambda net: [list(s.parameters()) for _, s in net.stages.items()],
        train_bn=False,
    )
    importlib.import_module("fastai.callback.progress")  # defines Learner.no_bar
    with learner.no_bar(), learner.no_logging():
        learner.freeze_to(-1 - depth)
        learner.fit(N_EPOCHS, LR, cbs=NoValidation())
        logits, labels = learner.get_preds(dl=loader(test, False))
    return float((logits.argmax(1) == labels).double().mean())


def loaded(setup: Setup) -> Stages:
    """Load the network with its weights, in eval mode, as fast as ours does."""
    size = (setup.size, setup.size)
    net = make_stages(setup.backbone, 10, 0.0, size)
    net.load_state_dict(torch.load(setup.weights, weights_only=True))
    return net.eval()


@torch.no_grad()
def activations(setup: Setup, net: Stages, depth: int) -> torch.Tensor:
    """Pass the images through the frozen stages once, at the fastest batch size."""
    n_frozen = net.n_frozen(depth)
    outputs = []
    for some in setup.resized.split(choose_batch_size(net, setup.X.shape[1:], CPU)):
        activation = some
        for name in net.names[:n_frozen]:
            activation = net.get_submodule(name)(activation)
        if depth == 0:
            activation = net.get_submodule("head").pool(activation)
        outputs.append(activation)
    return torch.cat(outputs)


def bare(
    net: nn.Module,
    inputs: torch.Tensor,
    labels: torch.Tensor,
    rows: np.ndarray,
    batch: int = BATCH,
) -> None:
    """Train the parameters that require gradients in a plain torch loop."""
    net.train()
    learning = [p for p in net.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(learning, LR, fused=True, **OPTIMIZER)
    train = torch.from_numpy(rows)
    for _ in range(N_EPOCHS):
        for some in train[torch.randperm(len(train))].split(batch):
            loss = nn.functional.cross_entropy(net(inputs[some]), labels[some])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def suffix(net: Stages, depth: int, dropout: float) -> nn.Module:
    """Return a copy of the stages that learn."""
    names = net.names[net.n_frozen(depth) :]
    copied = copy.deepcopy(nn.Sequential(*(net.get_submodule(n) for n in names)))
    for module in copied.modules():
        if isinstance(module, nn.Dropout):
            module.p = dropout
    return copied.requires_grad_()


@torch.inference_mode()
def predicted(net: nn.Module, inputs: torch.Tensor, rows: np.ndarray) -> torch.Tensor:
    """Return the most probable classes."""
    net.eval()
    parts = torch.from_numpy(rows).split(64)
    return torch.cat([net(inputs[some]).argmax(1) for some in parts])


@contextmanager
def counted_passes() -> Iterator[list[int]]:
    """List how many images pass frozen stages in ours, one number per call."""
    passed: list[int] = []
    encode: Callable[..., torch.Tensor] = Prefix.encode

    def counting(
        self: Prefix, images: np.ndarray, rows: np.ndarray, *rest: Any
    ) -> torch.Tensor:
        passed.append(len(rows))
        return encode(self, images, rows, *rest)

    Prefix.encode = counting  # type: ignore[method-assign,assignment]
    try:
        yield passed
    finally:
        Prefix.encode = encode  # type: ignore[method-assign]
