"""What it costs to save and to load a fitted classifier, beside others' ways.

    pip install skops
    python benchmarks/model_files.py

Milliseconds and bytes of ``save`` and ``sktransfer.load``, with all weights in the
file and with those of the backbone by reference, beside joblib, pickle, skops (if it is
installed; all its types are trusted) and ``torch.save`` of the weights alone, into a
network that is there. joblib, pickle and skops build estimators by running code that
the file names. Ours hashes every byte at both ends, and waits until they are on the
disk. All ways are tried in turn.
"""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import torch
from record import Record, spread, time_in_turn

import sktransfer
from sktransfer import ScratchCNNClassifier, TransferClassifier

N_ROUNDS = 9
SHORT: dict[str, Any] = {
    "max_epochs": 1,
    "device": "cpu",
    "precision": "float32",
    "random_state": 0,
}
# What is fitted, on a few small images: files do not depend on how many.
CASES: dict[str, Callable[[], Any]] = {
    "scratch": lambda: ScratchCNNClassifier(**SHORT),
    "mini_resnet18": lambda: TransferClassifier(
        "mini_resnet18", unfreeze_depth=0, **SHORT
    ),
    "efficientnet_lite0": lambda: TransferClassifier(
        image_size=32, unfreeze_depth=0, **SHORT
    ),
    "resnet50": lambda: TransferClassifier(
        "resnet50", weights=None, image_size=32, unfreeze_depth=0, **SHORT
    ),
}


def write_pickle(model: Any, path: Path) -> None:
    """Pickle a model."""
    path.write_bytes(pickle.dumps(model, pickle.HIGHEST_PROTOCOL))


def write_state(model: Any, path: Path) -> None:
    """Save the weights alone."""
    torch.save(model.net_.module_.state_dict(), path)


def read_state(model: Any, path: Path) -> None:
    """Load the weights into the network."""
    model.net_.module_.load_state_dict(torch.load(path, weights_only=True))


def list_ways(model: Any, folder: Path) -> dict[str, tuple[Callable[[], Any], ...]]:
    """List how a model can be saved and loaded, with its file."""
    ways: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
        "sktransfer": (model.save, sktransfer.load),
        "joblib": (partial(joblib.dump, model), joblib.load),
        "pickle": (
            partial(write_pickle, model),
            lambda path: pickle.loads(path.read_bytes()),
        ),
        "torch.save, weights alone": (
            partial(write_state, model),
            partial(read_state, model),
        ),
    }
    if getattr(model, "weights", None) is not None:
        refer = partial(model.save, backbone="reference")
        ways["sktransfer, by reference"] = refer, sktransfer.load
    if find_spec("skops"):
        from skops import io

        def read_trusting(path: Path) -> Any:
            return io.load(path, trusted=io.get_untrusted_types(file=path))

        ways["skops"] = partial(io.dump, model), read_trusting
    paths = {name: folder / f"{i}" for i, name in enumerate(ways)}
    return {
        name: (partial(write, paths[name]), partial(read, paths[name]), paths[name])
        for name, (write, read) in ways.items()
    }


def measure(record: Record, case: str) -> None:
    """Measure every way for one model."""
    X = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    model = CASES[case]().fit(X, np.arange(40) % 5)
    with tempfile.TemporaryDirectory() as folder:
        ways = list_ways(model, Path(folder))
        works: dict[str, Any] = {}
        for name, (write, read, path) in ways.items():
            try:
                write()
                read()
            except Exception as error:
                record.add(
                    case=case, way=name, fails=f"{type(error).__name__}: {error}"
                )
            else:
                works[name] = (write, read, path)
        saving = time_in_turn({n: way[0] for n, way in works.items()}, N_ROUNDS)
        loading = time_in_turn({n: way[1] for n, way in works.items()}, N_ROUNDS)
        for name, (_, _, path) in works.items():
            record.add(
                case=case,
                way=name,
                n_bytes=path.stat().st_size,
                save_ms=spread([1000 * s for s in saving[name]], ".1f"),
                load_ms=spread([1000 * s for s in loading[name]], ".1f"),
            )


def main() -> None:
    """Measure what the record lacks."""
    torch.set_num_threads(1)
    record = Record("model_files")
    for case in CASES:
        if not record.find(case=case):
            measure(record, case)


if __name__ == "__main__":
    main()
