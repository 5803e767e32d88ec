"""Processes that are killed while they keep activations, and what they leave."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path
from random import Random

import numpy as np
import torch

from sktransfer import ActivationCache
from sktransfer._activations.storage import tiers
from sktransfer._activations.storage.claims import DamagedError
from sktransfer._activations.storage.folder import ABANDONED_SECONDS, TEMPORARY, Folder
from sktransfer._activations.storage.segments import read_rows, read_segment
from tests.helpers import files, fit_cached, pictures, transfer

N_WRITERS = 2
N_IMAGES = 320  # of a round, in which the writers are killed once


def images_of(n_rounds: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the images of all rounds, and labels."""
    rounds = [pictures(N_IMAGES, seed=seed) for seed in range(n_rounds)]
    return tuple(np.concatenate(some) for some in zip(*rounds, strict=True))


def write_often(path: Path, round_: int) -> None:
    """Do the same with a file for every few rows, as if these were large."""
    torch.set_num_threads(1)
    tiers.BLOCK_ROWS = 32
    write_images(path, round_)


def write_images(path: Path, round_: int) -> None:
    """Compute and keep the activations of the images of a round."""
    clf = transfer(unfreeze_depth=1, augment=None, head_init="random")
    ActivationCache(path=path).warm(clf, pictures(N_IMAGES, seed=round_)[0])


def kill_writers(path: Path, n_kills: int, seed: int = 0) -> None:
    """Kill processes that write the same images at once, some time after they began."""
    rng, fork = Random(seed), multiprocessing.get_context("fork")
    write_images(path.with_name("rehearsal"), 0)  # and import everything
    started = time.perf_counter()
    write_images(path.with_name("rehearsal 2"), 0)
    seconds = time.perf_counter() - started
    for round_ in range(n_kills // N_WRITERS):
        writers = [
            fork.Process(target=write_often, args=(path, round_), daemon=True)
            for _ in range(N_WRITERS)
        ]
        for writer in writers:
            writer.start()
        for writer in writers:
            # Both share the cores, and begin by copying memory.
            time.sleep(rng.uniform(0, 2 * seconds))
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            writer.join()


def count_left(path: Path) -> dict[str, int]:
    """Count rows that were published, by the state they are in, and temporary files."""
    whole, corrupt, n_files = set(), 0, 0
    for file in files(path):
        n_files += 1
        try:
            segment = read_segment(file)
            _, is_right = read_rows(file, segment, range(len(segment.keys)))
        except DamagedError:
            corrupt += 1
            continue
        corrupt += int((~is_right).sum())
        whole |= {segment.keys[i] for i in np.flatnonzero(is_right)}
    return {
        "n_files": n_files,
        "n_whole_rows": len(whole),
        "n_corrupt": corrupt,
        "n_temporary_files": len(list(path.rglob(f"{TEMPORARY}*"))),
    }


def fit_after(path: Path, n_rounds: int) -> dict[str, int | bool]:
    """Fit on the images of all rounds; return what of them was reused."""
    X, y = images_of(n_rounds)
    clf = fit_cached(X, y, ActivationCache(path=path), max_epochs=1)
    without = fit_cached(X, y, None, max_epochs=1)
    same = np.array_equal(clf.predict_proba(X), without.predict_proba(X))
    return {
        "n_images": len(X),
        "n_computed_by_next_fit": clf.cache_info_.misses,
        "same_probabilities_as_without_cache": same,
    }


def sweep(path: Path) -> int:
    """Return how many temporary files are left once they are old."""
    for left in path.rglob(f"{TEMPORARY}*"):
        os.utime(left, (time.time() - 2 * ABANDONED_SECONDS,) * 2)
    folder = Folder(path, "auto", print)
    folder.prepare()
    folder.n_bytes()
    return len(list(path.rglob(f"{TEMPORARY}*")))
