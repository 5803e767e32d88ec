"""What is left of a model file if the process dies while it is saved.

    python benchmarks/kills_files.py

A process saves two models in turn under one name, without end, and is killed (SIGKILL)
after a random time, almost always while it writes; then the file is read. It must
predict what one of the two does. The same is done with joblib and with ``torch.save``
of the weights, which write in place. Not on Windows.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import joblib
import numpy as np
import torch
from record import Record

import sktransfer
from sktransfer import ScratchCNNClassifier

N_KILLS = 50
LONGEST_SECONDS = 0.3


def save_state(model: Any, path: Path) -> None:
    """Save the weights as torch does."""
    torch.save(model.net_.module_.state_dict(), path)


def read_state(model: Any, path: Path) -> Any:
    """Put weights into a model."""
    model.net_.module_.load_state_dict(torch.load(path, weights_only=True))
    return model


WAYS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "sktransfer": (
        lambda model, path: model.save(path),
        lambda model, path: sktransfer.load(path),
    ),
    "joblib": (joblib.dump, lambda model, path: joblib.load(path)),
    "torch.save": (save_state, read_state),
}


def fit_two(X: np.ndarray) -> list[ScratchCNNClassifier]:
    """Fit two networks of the same size, of 2.6 MB."""
    y = np.arange(len(X)) % 5
    return [
        ScratchCNNClassifier(
            width=64, max_epochs=1, augment=None, device="cpu", random_state=seed
        ).fit(X, y)
        for seed in (0, 1)
    ]


def kill_while(action: Callable[[], object], seconds: float) -> None:
    """Repeat something in another process, and kill it after a while."""
    child = os.fork()
    while not child:
        action()
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def judge(
    way: str, models: list[ScratchCNNClassifier], X: np.ndarray, n_kills: int
) -> Counter[str]:
    """Count what was found after each kill."""
    write, read = WAYS[way]
    chance = Random(0)
    known = {m.predict_proba(X).tobytes(): n for m, n in zip(models, "ab", strict=True)}
    found: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        write(models[0], path)
        if known.get(read(models[0], path).predict_proba(X).tobytes()) != "a":
            raise RuntimeError(f"{way} does not bring a model back")

        def save_both() -> None:
            for model in reversed(models):
                write(model, path)

        for _ in range(n_kills):
            kill_while(save_both, chance.uniform(0.01, LONGEST_SECONDS))
            try:
                proba = read(models[0], path).predict_proba(X).tobytes()
                found[known.get(proba, "wrong")] += 1
            except Exception:
                found["neither"] += 1
        found["left over"] = len(list(Path(folder).iterdir())) - 1
    return found


def main(n_kills: int = N_KILLS) -> None:
    """Measure what the record lacks."""
    torch.set_num_threads(1)  # others would not survive in the copied process
    record = Record("kills_files")
    X = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    for way in WAYS:
        if record.find(way=way):
            continue
        found = judge(way, fit_two(X), X, n_kills)
        record.add(
            way=way,
            n_kills=n_kills,
            first=found["a"],
            second=found["b"],
            neither=found["neither"],
            wrong=found["wrong"],
            temporary_files=found["left over"],
        )


if __name__ == "__main__":
    main()
