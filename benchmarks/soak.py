"""Whether memory grows, and answers stay equal, over many fits and predictions.

    OMP_NUM_THREADS=1 python benchmarks/soak.py

In one process with eight threads: 200 fits and 2,000 predictions, by four estimators in
turn, each of them cloned for every fit; a tenth of the fits is saved and loaded again.
Every answer is compared, bit for bit, with the first one of its kind. The resident set
(Linux, after freeing what the allocator holds back) is recorded every tenth of the way.
"""

from __future__ import annotations

import ctypes
import gc
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import psutil
from record import RESULTS, Record
from sklearn.base import clone
from sklearn.datasets import load_digits

import sktransfer

N_THREADS, N_FITS, N_PREDICTIONS = 8, 200, 2_000
# Of the way: until then, caches and allocators fill.
WARM = 0.2

COMMON = {"random_state": 0, "device": "cpu", "precision": "float32"}
ESTIMATORS = {
    "scratch": sktransfer.ScratchCNNClassifier(width=8, max_epochs=2, **COMMON),
    "transfer": sktransfer.ResNetTransferClassifier(
        "mini_resnet18", image_size=16, max_epochs=2, **COMMON
    ),
    "probe": sktransfer.ResNetTransferClassifier(
        "mini_resnet18", image_size=16, unfreeze_depth=0, augment=None, **COMMON
    ),
    "uncached": sktransfer.ResNetTransferClassifier(
        "mini_resnet18", image_size=16, max_epochs=2, activation_cache=None, **COMMON
    ),
}


class Soak:
    """Fits and predicts, and compares every answer with the first of its kind."""

    def __init__(self, folder: Path) -> None:
        X, y = load_digits(return_X_y=True)
        self.X, self.y = X[:200].reshape(-1, 8, 8) / 16, y[:200]
        self.folder = folder
        self.first: dict[str, np.ndarray] = {}
        self.fitted: dict[str, object] = {}
        self.n_different = 0
        self.lock = threading.Lock()

    def compare(self, name: str, proba: np.ndarray) -> None:
        """Count an answer that is not the first one."""
        with self.lock:
            known = self.first.setdefault(name, proba)
            self.n_different += not np.array_equal(known, proba)

    def fit(self, i: int) -> None:
        """Fit a clone; some are saved and loaded."""
        name = list(ESTIMATORS)[i % len(ESTIMATORS)]
        model = clone(ESTIMATORS[name]).fit(self.X, self.y)
        if i % 10 == 0:
            path = self.folder / f"{i}.sktransfer"
            model.save(path)
            model = sktransfer.load(path)
            path.unlink()
        self.compare(name, model.predict_proba(self.X))
        self.fitted[name] = model

    def predict(self, i: int) -> None:
        """Predict with a fitted estimator that other threads use too."""
        name = list(ESTIMATORS)[i % len(ESTIMATORS)]
        self.compare(name, self.fitted[name].predict_proba(self.X))


def resident_mib() -> float:
    """Return the resident set, once unused memory was given back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return psutil.Process().memory_info().rss / 2**20


def main() -> None:
    """Run everything, and record how memory went."""
    record = Record("soak", RESULTS)
    started, sizes = time.perf_counter(), []
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(N_THREADS) as pool,
    ):
        soak = Soak(Path(folder))
        for i in range(len(ESTIMATORS)):
            soak.fit(i)
        for part in range(10):
            fits = range(part * N_FITS // 10, (part + 1) * N_FITS // 10)
            list(pool.map(soak.fit, fits))
            n = N_PREDICTIONS // 10
            list(pool.map(soak.predict, range(part * n, (part + 1) * n)))
            sizes.append(resident_mib())
            print(f"{part + 1} of 10: {sizes[-1]:.0f} MiB", flush=True)
    warm = sizes[int(WARM * 10) - 1]
    record.add(
        n_threads=N_THREADS,
        n_fits=N_FITS,
        n_predictions=N_PREDICTIONS,
        n_different=soak.n_different,
        resident_mib=[round(size) for size in sizes],
        growth=round(sizes[-1] / warm - 1, 4),
        seconds=round(time.perf_counter() - started),
    )


if __name__ == "__main__":
    main()
