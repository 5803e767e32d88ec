"""What the slices of ``gpu.py`` share: how much of everything, images, and clocks."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from sktransfer import datasets
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.device import resolve_device

LITE = "efficientnet_lite0"
DEVICE = resolve_device("auto")
HAS_GPU = DEVICE.type == "cuda"
Images = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Plan:
    """How much of everything is measured.

    Attributes
    ----------
    n_train, n_test : int
        Images of CIFAR-10.

    n_transferred : int
        Training images that backbones are fine-tuned on.

    n_tiny, n_tiny_test : int
        Images of the 200 classes to pretrain on, and images to score it on.

    n_set_aside : int
        Of these, to score ablations.

    large : str
        The ResNet that is trained from random weights.

    sizes : tuple of int
        Heights and widths of images in pixels, the smaller one first.

    n_peers : int
        Training images of CIFAR-10 that peers are compared on.

    n_pairs : int
        Runs from scratch of ours and of airbench94 in a slice.

    n_seeds : int
        Of the ablations.

    mini_epochs, large_epochs : int
        Of pretraining.

    side : int
        Of the matrices whose product is the ceiling.
    """

    n_train: int = 50_000
    n_test: int = 10_000
    n_transferred: int = 50_000
    n_tiny: int = 100_000
    n_tiny_test: int = 10_000
    n_set_aside: int = 10_000
    large: str = "resnet50"
    sizes: tuple[int, int] = (128, 224)
    n_peers: int = 15_000
    n_pairs: int = 5
    n_seeds: int = 3
    mini_epochs: int = 40
    large_epochs: int = 5
    side: int = 8192


FULL = Plan()
REHEARSAL = Plan(
    n_train=1100,  # airbench94 needs a whole batch
    n_test=100,
    n_transferred=200,
    n_tiny=600,
    n_tiny_test=200,
    n_set_aside=50,
    n_peers=200,
    large="resnet18",
    sizes=(32, 48),
    n_pairs=1,
    n_seeds=1,
    mini_epochs=1,
    large_epochs=1,
    side=1024,
)


class Data:
    """The images, read once per process.

    Parameters
    ----------
    plan : Plan
        How many.

    out : Path
        Folder for weights that are pretrained.

    kept : Path
        Folder where the images of CIFAR-10 are kept for the next process.
    """

    def __init__(self, plan: Plan, out: Path, kept: Path) -> None:
        self.plan, self.out, self.kept = plan, out, kept

    @cached_property
    def train(self) -> Images:
        """Training images of CIFAR-10, uint8 (n, 32, 32, 3), and their labels."""
        return self._read_cifar10("train", self.plan.n_train)

    @cached_property
    def transferred(self) -> Images:
        """Those that backbones are fine-tuned on."""
        return draw(self.train, self.plan.n_transferred)

    @cached_property
    def test(self) -> Images:
        """Official test images of CIFAR-10, and their labels."""
        return self._read_cifar10("test", self.plan.n_test)

    @cached_property
    def tiny_train(self) -> Images:
        """Images of 200 ImageNet classes at 32 pixels, and their labels."""
        return _read_tiny("train", self.plan.n_tiny)

    @cached_property
    def tiny_test(self) -> Images:
        """The validation images of the same classes, and their labels."""
        X, y = _read_tiny("val", self.plan.n_tiny_test)
        # In a rehearsal there are not images of every class to train on.
        known = np.isin(y, self.tiny_train[1])
        return X[known], y[known]

    def _read_cifar10(self, subset: str, n: int) -> Images:
        file = self.kept / f"{subset}.npz"
        if not file.exists():
            X, y = datasets.fetch_cifar10(subset=subset, return_X_y=True)
            X, y = draw((X, np.asarray(y)), n)
            np.savez(file, X=X, y=y)
        with np.load(file) as kept:
            return kept["X"], kept["y"]


class Slice(NamedTuple):
    """One experiment of at most three minutes.

    Attributes
    ----------
    group : str
        What it belongs to.

    key : dict
        Its arguments, which also mark its row.

    run : callable
        Takes the images and the key; returns the rest of the row.
    """

    group: str
    key: dict[str, Any]
    run: Callable[..., dict[str, Any]]


def draw(images: Images, n: int) -> Images:
    """Draw n images at random; all of them, if there are no more."""
    X, y = images
    rows = np.random.default_rng(0).permutation(len(y))[:n]
    return X[rows], y[rows]


def find_tiny() -> Path:
    """Return where the 200 classes of ImageNet are, or would be."""
    return Path(os.environ["SKTRANSFER_DATA"]) / "tinyimagenet32"


def _read_tiny(subset: str, n: int) -> Images:
    folder = find_tiny() / subset
    X, y = datasets.load_image_folder(folder, as_arrays=True, return_X_y=True)
    return draw((X, np.asarray(y)), n)


def count_stages(backbone: str) -> int:
    """Count the stages of a backbone: the depth at which all of them learn."""
    return len(find_backbone(backbone).stages)


def wait() -> None:
    """Wait until the device has finished."""
    if HAS_GPU:
        torch.cuda.synchronize()


def clock(call: Callable[[], Any]) -> float:
    """Return the seconds that a call takes, until the device has finished."""
    wait()
    started = time.perf_counter()
    call()
    wait()
    return time.perf_counter() - started


@cache
def measure_ceiling(side: int) -> float:
    """Measure the FLOP per second of bfloat16 matrix products, the best of five."""
    a = torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16)
    b = torch.empty_like(a).normal_()
    return 2 * side**3 / min(clock(lambda: a @ b) for _ in range(5))
