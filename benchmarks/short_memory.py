"""Batches that pass in parts because memory is short: what it costs with batch norm.

    SKTRANSFER_DATA=FOLDER python benchmarks/short_memory.py

A CNN from scratch, all of whose batch norm learns, is trained on 2,000 images of
CIFAR-10, while a stand-in for a device refuses more than so many images at a time, and
tested on 2,000 others. Compared are ways to treat batch norm in the parts:

- ``as before``: statistics follow each part as if it were a batch, also those of a try
  that failed;
- ``restored``: the same, but what a failed try has changed is put back;
- ``shared``: restored, and all parts together weigh as much as one batch does;
- ``frozen``: a first pass without gradients measures the statistics of the whole batch,
  with which each part is then normalised; no gradient passes through them.

``none`` is a device with enough memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import torch
from record import Record
from sets import load_to_choose, score

from sktransfer import ScratchCNNClassifier
from sktransfer._training.faults.short_memory import OpenStatistics
from sktransfer._training.net import StagesNet

N_SEEDS, N_IMAGES, N_TEST, N_EPOCHS, BATCH = 2, 2000, 2000, 6, 128
WAYS = ("as before", "restored", "shared", "frozen")
MOST = (4, 32)

Learned = tuple[torch.Tensor, torch.Tensor]


def learn_frozen(net: StagesNet, n_parts: int, *tensors: torch.Tensor) -> Learned:
    """Add up gradients of parts that are normalised with their batch's statistics."""
    if n_parts == 1:
        return net._learn(*tensors)
    norms = OpenStatistics(net.module_).norms
    momenta = [norm.momentum for norm in norms]
    parts = list(zip(*(t.tensor_split(n_parts) for t in tensors), strict=True))
    old = [(norm.running_mean.clone(), norm.running_var.clone()) for norm in norms]
    for i, (x, *_) in enumerate(parts):
        for norm in norms:
            norm.momentum = 1 / (i + 1)  # their mean
        with torch.no_grad():
            net.infer(x)
    for norm in norms:
        norm.eval()
    losses, logits = zip(*(net._learn(*part) for part in parts), strict=True)
    for norm, momentum, (mean, var) in zip(norms, momenta, old, strict=True):
        norm.train()
        norm.momentum = momentum
        norm.running_mean.lerp_(mean, 1 - momentum)
        norm.running_var.lerp_(var, 1 - momentum)
    return torch.cat(losses), torch.cat(logits)


@contextmanager
def short_of_memory(most: int | None, way: str) -> Iterator[None]:
    """Refuse more than `most` images with gradients, and treat parts in this way."""
    infer = StagesNet.infer

    def limited(net: StagesNet, x: torch.Tensor, **options: Any) -> torch.Tensor:
        logits = infer(net, x, **options)  # as late as it can be
        if net.module_.training and most is not None and len(x) > most:
            raise torch.OutOfMemoryError("too many")
        return logits

    changes = [patch.object(StagesNet, "infer", limited)]
    if way == "as before":
        changes.append(patch.object(OpenStatistics, "restore", lambda self: None))
    if way in ("as before", "restored"):
        plain = patch.object(OpenStatistics, "follow", lambda self, n: nullcontext())
        changes.append(plain)
    if way == "frozen":
        changes.append(patch.object(StagesNet, "_learn_in_parts", learn_frozen))
    for change in changes:
        change.start()
    try:
        yield
    finally:
        for change in changes:
            change.stop()


def run(most: int | None, way: str, seed: int) -> dict[str, float]:
    """Return the accuracy of a fit on images that it has not seen."""
    X, y, X_test, y_test = load_to_choose("cifar10", N_IMAGES, seed, N_TEST)
    clf = ScratchCNNClassifier(
        width=16, max_epochs=N_EPOCHS, batch_size=BATCH, device="cpu", random_state=seed
    )
    with short_of_memory(most, way):
        clf.fit(X, y)
    return score(clf.predict_proba(X_test), clf.classes_, y_test)


def main() -> None:
    """Run what the record lacks."""
    torch.set_num_threads(1)
    record = Record("short_memory")
    cases = [(None, "none"), *((most, way) for most in MOST for way in WAYS)]
    for seed in range(N_SEEDS):
        for most, way in cases:
            key = {"most_at_once": most, "way": way, "seed": seed}
            if not record.find(**key):
                record.add(**key, **run(most, way, seed))


if __name__ == "__main__":
    main()
