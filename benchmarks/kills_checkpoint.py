"""What is left after a fit that writes checkpoints was killed at 50 random moments.

    OMP_NUM_THREADS=1 python benchmarks/kills_checkpoint.py

A process fits with a checkpoint after every one of 30 short epochs, and is killed
(SIGKILL) after a random time since its first checkpoint. Then the checkpoint is read:
it must be that of an epoch that had ended, whole, and the fit must resume from it. In
the end, the weights must be those of a fit that was never killed, bit for bit.
"""

from __future__ import annotations

import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from record import RESULTS, Record
from sklearn.datasets import load_digits

from sktransfer import ScratchCNNClassifier
from sktransfer._files.model_file import ModelFileError, open_model_file
from sktransfer._training.callbacks.checkpoint import CODECS, KIND

N_KILLS, N_EPOCHS = 50, 30
# Wide, so that much of the time passes while a file is written.
WIDTH = 96


def make(path: Path | None) -> ScratchCNNClassifier:
    """Make the estimator of every fit."""
    return ScratchCNNClassifier(
        width=WIDTH,
        max_epochs=N_EPOCHS,
        batch_size=64,
        random_state=0,
        device="cpu",
        precision="float32",
        checkpoint=path,
    )


def load() -> tuple[np.ndarray, np.ndarray]:
    """Load a few digits."""
    X, y = load_digits(return_X_y=True)
    return X[:64].reshape(-1, 8, 8) / 16, y[:64]


def count_epochs(path: Path) -> int:
    """Count the epochs in a checkpoint; -1 if there is none, -2 if it is damaged."""
    try:
        with open_model_file(path, KIND, CODECS) as opened:
            opened.read_tensors()
            return len(opened.content["state"]["history"])
    except FileNotFoundError:
        return -1
    except ModelFileError:
        return -2


def when_written(path: Path) -> int:
    """Return when a file was written, 0 if there is none."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def kill_once(path: Path, chance: random.Random) -> bool:
    """Kill a fit a moment after its next checkpoint; return whether it was alive."""
    before = when_written(path)
    process = subprocess.Popen([sys.executable, __file__, str(path)])
    while process.poll() is None and when_written(path) == before:
        time.sleep(0.001)
    time.sleep(chance.uniform(0, 0.2))
    process.kill()
    return process.wait() != 0


def main() -> None:
    """Kill, read, resume; count what is left."""
    record, chance = Record("kills_checkpoint", RESULTS), random.Random(0)
    X, y = load()
    whole = make(None).fit(X, y).predict_proba(X)
    left = {"whole": 0, "the one before": 0, "neither": 0, "wrong": 0}
    n_done = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "a.checkpoint")
        previous = path.with_name(path.name + ".previous")
        while n_done < N_KILLS:
            if not kill_once(path, chance):  # it had ended
                left["wrong"] += not np.array_equal(
                    make(path).fit(X, y).predict_proba(X), whole
                )
                path.unlink()
                previous.unlink(missing_ok=True)
                continue
            n_done += 1
            kinds = count_epochs(path), count_epochs(previous)
            if kinds[0] > 0:
                left["whole"] += 1
            elif kinds[1] > 0:
                left["the one before"] += 1
            else:
                left["neither"] += 1
            left["wrong"] += -2 in kinds
            print(n_done, kinds, flush=True)
        resumed = make(path).fit(X, y).predict_proba(X)
    equal = bool(np.array_equal(resumed, whole))
    record.add(n_kills=N_KILLS, n_epochs=N_EPOCHS, **left, resumed_is_equal=equal)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        make(Path(sys.argv[1])).fit(*load())
    else:
        main()
