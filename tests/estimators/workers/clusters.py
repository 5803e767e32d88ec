"""Schedulers and workers as users start them, and what is computed on them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    cross_val_score,
)
from skorch.callbacks import Callback

from tests.helpers import pictures, save_image, transfer

ENVIRONMENT = {
    **os.environ,
    "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    "OMP_NUM_THREADS": "1",
}
GRID = {"dropout": [0.0, 0.5]}


@contextmanager
def started_by_commands(folder: Path) -> Iterator[str]:
    """Start a scheduler and two workers by Dask's commands; yield the address."""
    address_file, processes = folder / "scheduler.json", []

    def start(*arguments: object) -> None:
        command = [sys.executable, "-m", "distributed.cli." + str(arguments[0])]
        command += [*map(str, arguments[1:]), "--no-dashboard"]
        command += ["--scheduler-file", str(address_file), "--host", "127.0.0.1"]
        processes.append(subprocess.Popen(command, cwd=folder, env=ENVIRONMENT))

    try:
        start("dask_scheduler", "--port", 0)
        for _ in range(2):
            start("dask_worker", "--nthreads", 1)
        yield str(address_file)
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGINT)
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


def save_pictures(folder: Path, n: int = 24) -> tuple[list[str], np.ndarray]:
    """Save noisy pictures; return their paths and labels."""
    from PIL import Image

    X, y = pictures(n)
    save_image(folder / "0.png", "red")  # makes the folder
    paths = [str(folder / f"{i}.png") for i in range(n)]
    for path, pixels in zip(paths, X, strict=True):
        Image.fromarray(pixels).save(path)
    return paths, y


def search_in_three_ways(clf, X, y) -> dict[str, np.ndarray]:
    """Return what three searches find, and probabilities of what they chose."""
    grid = GridSearchCV(clf, GRID, cv=2, error_score="raise").fit(X, y)
    halving = HalvingGridSearchCV(
        clf, GRID, cv=2, factor=2, random_state=0, min_resources=12, error_score="raise"
    ).fit(X, y)
    return {
        "grid": grid.cv_results_["mean_test_score"],
        "refit": grid.predict_proba(X),
        "halving": halving.cv_results_["mean_test_score"],
        "halving refit": halving.predict_proba(X),
        "scores": cross_val_score(clf, X, y, cv=2, error_score="raise"),
    }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    """Compare bit for bit."""
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


class KillOnce(Callback):
    """Kills its own process, as the system does when memory is short, but only once."""

    def __init__(self, mark):
        self.mark = mark

    def on_epoch_end(self, net, **kwargs):
        with suppress(FileExistsError):
            os.close(os.open(self.mark, os.O_CREAT | os.O_EXCL))
            os.kill(os.getpid(), signal.SIGKILL)


def quick(**changes):
    """A classifier that fits in a moment."""
    return transfer(
        **{"max_epochs": 2, "unfreeze_depth": 1, "augment": None, **changes}
    )
