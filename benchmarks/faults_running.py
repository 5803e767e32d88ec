"""Faults of the surroundings: odd pictures, shared caches, bare machines, threads."""

from __future__ import annotations

import importlib
import os
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
from faults_tools import PATIENCE, cost, fork, kill, make_data, observe, word
from PIL import Image

import sktransfer

Row = dict[str, Any]
N_ROUNDS = 5
SIDE, N_THREADS, N_KILLED, N_CACHED = 12_000, 8, 10, 600


def _save_pictures(folder: Path) -> tuple[list[Path], np.ndarray]:
    X, y = make_data(12, 64)
    paths = [folder / f"{i}.jpg" for i in range(len(X))]
    for path, x in zip(paths, X, strict=True):
        Image.fromarray((255 * x).astype(np.uint8)).save(path)
    return paths, y


def show_pictures(lib: Any, folder: Path) -> Row:
    """Put a truncated file, a giant, and a named pipe among the paths."""
    paths, y = _save_pictures(folder)
    odd = {name: folder / name for name in ("truncated.jpg", "giant.png", "pipe.jpg")}
    content = paths[0].read_bytes()
    odd["truncated.jpg"].write_bytes(content[: len(content) // 2])
    Image.new("1", (SIDE, SIDE)).save(odd["giant.png"], optimize=True)
    os.mkfifo(odd["pipe.jpg"])
    fit = _fit_pictures if lib.name == "sktransfer" else _fit_pictures_of_fastai
    observe(lambda: fit(paths, y), folder)  # all is imported
    shown, found = [], {}
    for name, path in odd.items():
        seen = observe(
            lambda path=path: fit([path, *paths[1:]], y), folder, PATIENCE * 2
        )
        found[name] = seen
        shown.append(f"{name}: {word(seen, 'read')[:70]} ({cost(seen)})")
    return {"outcome": "; ".join(shown), **found}


show_pictures.without = ("skorch", "joblib", "pickle")  # type: ignore[attr-defined]


def _fit_pictures(paths: list[Path], y: np.ndarray) -> None:
    sktransfer.ResNetTransferClassifier(
        "mini_resnet18", max_epochs=1, augment=None, random_state=0
    ).fit([str(p) for p in paths], y)


def _fit_pictures_of_fastai(paths: list[Path], y: np.ndarray) -> None:
    from fastai.learner import Learner
    from fastai.vision.augment import Resize
    from fastai.vision.data import ImageDataLoaders
    from faults_libraries import Small

    importlib.import_module("fastai.callback.progress")  # defines Learner.no_bar
    loaders = ImageDataLoaders.from_lists(
        ".", paths, y.tolist(), item_tfms=Resize(32), num_workers=0, bs=4, seed=0
    )
    learner = Learner(loaders, Small())
    with learner.no_bar(), learner.no_logging():
        learner.fit(1)


def share_cache(lib: Any, folder: Path) -> Row:
    """Let two processes fill one cache at once; then kill one of two, ten times."""
    fill = _fill_ours if lib.name == "sktransfer" else _fill_joblib
    expected = fill(folder / "alone", folder)
    n_alone = _count(folder)
    pids = [fork(lambda: fill(folder / "both", folder)) for _ in range(2)]
    for pid in pids:
        os.waitpid(pid, 0)
    n_both, rng, wrong = _count(folder), random.Random(0), 0
    for i in range(N_KILLED):
        cache = folder / f"cache{i}"
        pids = [fork(lambda cache=cache: fill(cache, folder)) for _ in range(2)]
        time.sleep(rng.uniform(0.1, 1))
        kill(pids[0])
        os.waitpid(pids[1], 0)
        wrong += not np.array_equal(fill(cache, folder), expected)
        shutil.rmtree(cache)
    times = n_both / n_alone
    outcome = (
        f"computed {times:.2f} times; {wrong} of {N_KILLED} results wrong after a kill"
    )
    return {"outcome": outcome, "computed": n_both, "needed": n_alone, "wrong": wrong}


share_cache.without = ("skorch", "pickle", "fastai")  # type: ignore[attr-defined]


def _note(folder: Path, n: int) -> None:
    with (folder / "computed").open("a") as file:
        file.write(f"{n}\n")


def _count(folder: Path) -> int:
    """Return how many images were computed, and forget it."""
    path = folder / "computed"
    n = sum(int(x) for x in path.read_text().split())
    path.unlink()
    return n


def _fill_ours(cache: Path, folder: Path) -> np.ndarray:
    X, y = make_data(N_CACHED, 32)
    clf = sktransfer.ResNetTransferClassifier(
        "mini_resnet18",
        unfreeze_depth=0,
        augment=None,
        max_epochs=1,
        random_state=0,
        device="cpu",
        activation_cache=sktransfer.ActivationCache(path=cache),
    ).fit(X, y)
    _note(folder, clf.cache_info_.misses)
    return clf.predict_proba(X)  # type: ignore[no-any-return]


def _encode(X: np.ndarray, folder: Path) -> np.ndarray:
    """Encode images, and note how many."""
    _note(folder, len(X))
    extractor = sktransfer.FeatureExtractor(
        "mini_resnet18", activation_cache=None, device="cpu"
    )
    return extractor.fit(X).transform(X)  # type: ignore[no-any-return]


def _fill_joblib(cache: Path, folder: Path) -> np.ndarray:
    X, _ = make_data(N_CACHED, 32)
    memory = joblib.Memory(cache, verbose=0)
    return memory.cache(_encode, ignore=["folder"])(X, folder)  # type: ignore[no-any-return]


# A home and a folder for temporary files that cannot be written to, and no network.
BARE = """
set -e
for place in /tmp "$HOME"; do mount --bind "$place" "$place"; done
mount --bind "$0" "$0"
for place in /tmp "$HOME"; do mount -o remount,bind,ro "$place"; done
unset HOME TMPDIR
cd "$0"
exec "$@"
"""


def work_bare(lib: Any, folder: Path) -> Row:
    """Fit, save, load and predict without HOME, network, and folders for notes."""
    program = (
        "import sys; sys.path[:0] = sys.argv[3:]\n"
        "import faults_running\n"
        "faults_running.use_bare(*sys.argv[1:3])"
    )
    here = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    call = [sys.executable, "-c", program, lib.name, str(folder), *here]
    done = subprocess.run(
        ["unshare", "-rmn", "sh", "-c", BARE, str(folder), *call],
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    scratch, pretrained = done.stdout.splitlines()[-2:]
    outcome = f"from scratch: {scratch[:90]}; pretrained: {pretrained[:110]}"
    return {"outcome": outcome, "scratch": scratch, "pretrained": pretrained}


work_bare.without = ("joblib", "pickle")  # type: ignore[attr-defined]


def use_bare(library: str, folder: str) -> None:
    """Print what happens to a small network, and to a pretrained one."""
    from faults_libraries import LIBRARIES

    lib, X, y = LIBRARIES[library], *make_data()
    path = Path(folder) / f"model{lib.ending}"

    def use_small() -> None:
        lib.save(lib.fit(X, y), path)
        lib.proba(lib.load(path), X)

    def use_pretrained() -> None:
        PRETRAINED[library](X, y, path)

    for work in (use_small, use_pretrained):
        print(word(observe(work, Path(folder)), "works"))


def _pretrained_of_ours(X: np.ndarray, y: np.ndarray, path: Path) -> None:
    for backbone in ("mini_resnet18", "efficientnet_lite0"):
        clf = sktransfer.TransferClassifier(
            backbone, image_size=32, max_epochs=1, augment=None, random_state=0
        )
        clf.fit(X, y).save(path)
        sktransfer.load(path).predict(X)


def _pretrained_of_torchvision(X: np.ndarray, y: np.ndarray, path: Path) -> None:
    from torchvision.models import resnet18

    resnet18(weights="DEFAULT")


def _pretrained_of_fastai(X: np.ndarray, y: np.ndarray, path: Path) -> None:
    from fastai.vision.data import ImageDataLoaders
    from fastai.vision.learner import vision_learner
    from torchvision.models import resnet18

    paths, y = _save_pictures(path.parent)
    loaders = ImageDataLoaders.from_lists(".", paths, y.tolist(), num_workers=0)
    vision_learner(loaders, resnet18)


PRETRAINED = {
    "sktransfer": _pretrained_of_ours,
    "skorch": _pretrained_of_torchvision,
    "fastai": _pretrained_of_fastai,
}


def predict_in_threads(lib: Any, folder: Path) -> Row:
    """Let eight threads predict with one estimator, five times each; in five rounds."""
    X, y = make_data()
    model = lib.fit(X, y)
    expected = lib.proba(model, X)

    def predict() -> int:
        with ThreadPoolExecutor(N_THREADS) as pool:
            jobs = [pool.submit(lib.proba, model, X) for _ in range(5 * N_THREADS)]
            return sum(not np.array_equal(job.result(), expected) for job in jobs)

    seen = [observe(predict, folder, 40) for _ in range(N_ROUNDS)]
    kinds = [
        "equal to serial" if s.get("value") == 0 else word(s, "other numbers")[:100]
        for s in seen
    ]
    counts = Counter(kind.split(":")[0] for kind in kinds)
    told = ", ".join(f"{kind} {n} of {N_ROUNDS} times" for kind, n in counts.items())
    return {"outcome": told, "rounds": kinds}


predict_in_threads.without = ("joblib", "pickle")  # type: ignore[attr-defined]

FAULTS: dict[str, Callable[[Any, Path], Row]] = {
    "odd pictures": show_pictures,
    "two processes, one cache": share_cache,
    "no home, no network, no /tmp": work_bare,
    "threads that predict": predict_in_threads,
}
