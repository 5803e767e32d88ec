"""What the estimators cost compared with bare torch on the same tensors.

    python benchmarks/overhead.py

Seconds of ours divided by seconds of a bare loop, both in turn in one run. The goals
are 1.3 for a head on cached activations, and 1.05 for a suffix that learns and for
``predict``. The bare loops have their tensors ready, use the same number of batches and
record nothing. Ours is all of ``fit`` or ``predict``, including checks, hashing of
images and a copy of the network, which an earlier fit has loaded. For ``fit`` there is
also the ratio of its epochs alone, and of the epochs after the first, in which the
activations are looked up. Images are random: speed does not depend on what they show.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable

import numpy as np
import peers
import torch
from record import Record, spread
from torch import nn

from sktransfer import (
    ActivationCache,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
)
from sktransfer._activations.prefix import Prefix
from sktransfer._images.views import AS_IT_IS
from sktransfer._networks.fixed_batches import SMALL_BATCH

N_ROUNDS, BATCH = 7, 128
CPU = torch.device("cpu")
# Depth, backbone, number of images. A suffix is slow, so fewer images are enough.
CASES = (
    (0, "mini_resnet18", 10_000),
    (0, "resnet50", 10_000),
    (1, "mini_resnet18", 2_000),
    (2, "mini_resnet18", 1_000),
)


def timed(function: Callable[[], object]) -> float:
    """Return the seconds of a call."""
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


@torch.inference_mode()
def bare_inference(net: nn.Module, images: np.ndarray, size: int) -> torch.Tensor:
    """Return the most probable classes, in batches of `size` images."""
    net.eval()
    batches = torch.from_numpy(images).split(size)
    return torch.cat([net(batch).argmax(1) for batch in batches])


def measure_training(
    record: Record, depth: int, backbone: str, n: int, weights: str
) -> None:
    """Measure ours, with a warm cache, against a bare loop on the same activations."""
    chance = np.random.default_rng(0)
    X = chance.integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    y = np.arange(n) % 10
    clf = ResNetTransferClassifier(
        backbone,
        weights=weights,
        image_size=32,
        unfreeze_depth=depth,
        unfreeze_schedule="immediate",
        augment=None,
        max_epochs=peers.N_EPOCHS,
        batch_size=BATCH,
        early_stopping=False,
        activation_cache=ActivationCache(),
        dropout=0.0,
        precision="float32",
        device="cpu",
        random_state=0,
    )
    stages = clf.fit(X, y).net_.module_
    n_prefix = clf.net_.n_prefix
    activations = Prefix(stages, n_prefix, CPU, "float32").encode(
        X, np.arange(n), (AS_IT_IS,), np.zeros(n, int)
    )
    suffix = nn.Sequential(*(stages.get_submodule(s) for s in stages.names[n_prefix:]))
    labels = torch.from_numpy(y)
    whole, epochs, later, bare = [], [], [], []
    for _ in range(N_ROUNDS):
        bare.append(
            timed(lambda: peers.bare(suffix, activations, labels, np.arange(n), BATCH))
        )
        whole.append(timed(lambda: clf.fit(X, y)))
        seconds = [row["dur"] for row in clf.history_]
        epochs.append(sum(seconds))
        later.append(sum(seconds[1:]) * peers.N_EPOCHS / (peers.N_EPOCHS - 1))
    record.add(
        what="training",
        backbone=backbone,
        unfreeze_depth=depth,
        n_images=n,
        bare_seconds=spread(bare, ".3f"),
        fit_ratio=spread(np.divide(whole, bare).tolist(), ".3f"),
        epochs_ratio=spread(np.divide(epochs, bare).tolist(), ".3f"),
        later_epochs_ratio=spread(np.divide(later, bare).tolist(), ".3f"),
    )


def measure_scratch(record: Record, pieces: str) -> None:
    """Measure ours, with or without augmentation and lookahead, against a bare loop."""
    n = 2000
    X = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    y = np.arange(n) % 10
    settings = {} if pieces == "all" else {"augment": None, "lookahead": False}
    clf = ScratchCNNClassifier(
        max_epochs=peers.N_EPOCHS,
        batch_size=BATCH,
        label_smoothing=0.0,
        precision="float32",
        device="cpu",
        random_state=0,
        **settings,
    ).fit(X, y)
    net, images, labels = clf.net_.module_, torch.from_numpy(X), torch.from_numpy(y)
    later, bare = [], []
    for _ in range(N_ROUNDS):
        bare.append(timed(lambda: peers.bare(net, images, labels, np.arange(n), BATCH)))
        seconds = [row["dur"] for row in clf.fit(X, y).history_]
        later.append(sum(seconds[1:]) * peers.N_EPOCHS / (peers.N_EPOCHS - 1))
    record.add(
        what="scratch",
        pieces=pieces,
        n_images=n,
        bare_seconds=spread(bare, ".3f"),
        later_epochs_ratio=spread(np.divide(later, bare).tolist(), ".3f"),
    )


def measure_predict(record: Record) -> None:
    """Measure ours against bare inference, with nothing cached."""
    chance = np.random.default_rng(0)
    X = chance.integers(0, 256, (1000, 32, 32, 3), dtype=np.uint8)
    clf = ResNetTransferClassifier(
        "mini_resnet18",
        max_epochs=1,
        activation_cache=None,
        precision="float32",
        device="cpu",
    ).fit(X[:100], np.arange(100) % 10)
    net = clf.net_.module_
    sizes = (16, SMALL_BATCH, 64, 256)
    ours, bare = [], {size: [] for size in sizes}
    for _ in range(N_ROUNDS):
        ours.append(timed(lambda: clf.predict(X)))
        for size in sizes:
            bare[size].append(timed(lambda size=size: bare_inference(net, X, size)))
    record.add(
        what="predict",
        backbone="mini_resnet18",
        n_images=len(X),
        seconds=spread(ours, ".3f"),
        ratio_by_bare_batch_size={
            size: spread(np.divide(ours, bare[size]).tolist(), ".3f") for size in sizes
        },
    )


def main() -> None:
    """Measure what the record lacks."""
    record = Record("overhead")
    with tempfile.TemporaryDirectory() as folder:
        for depth, backbone, n in CASES:
            key = {"what": "training", "backbone": backbone, "unfreeze_depth": depth}
            if record.find(**key):
                continue
            weights = "auto"
            if backbone != "mini_resnet18":
                weights = f"{folder}/random.pth"
                peers.write_weights(backbone, weights)
            measure_training(record, depth, backbone, n, weights)
    for pieces in ("none", "all"):
        if not record.find(what="scratch", pieces=pieces):
            measure_scratch(record, pieces)
    if not record.find(what="predict"):
        measure_predict(record)


if __name__ == "__main__":
    main()
