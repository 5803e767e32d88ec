"""The cases of ``streaming.py``, each run in a process of its own."""

from __future__ import annotations

import hashlib
import importlib
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jpeg_folder import HEIGHT, WIDTH, Files, list_files, list_through_links
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from streaming_peers import FolderOfFastai, FolderOfTorch

from sktransfer import FeatureExtractor, ScratchCNNClassifier, TransferClassifier

# What is imported at the first fit: before memory and time are measured.
LATE = ("skorch", "timm", "torchvision", "sktransfer.ActivationCache")

# How each backbone is used, and height and width at which it has pictures read.
BACKBONES: dict[str, dict[str, Any]] = {
    "efficientnet_lite0": {},
    "mini_resnet18": {"image_shape": (224, 224, 3), "image_size": 32},
}
READ_AT = {
    "efficientnet_lite0": (HEIGHT, WIDTH),
    "mini_resnet18": (224, 224),
    "scratch": (64, 64),
}
N_EPOCHS = 4

# Case f: a million paths lead to a thousand files, which are read at this shape.
N_LINKED, TINY = 1000, (8, 8, 3)


def peak_mb() -> float:
    """Return the peak resident set of this process so far."""
    # Linux has ru_maxrss begin with the peak of the process that started this one.
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (a for a in status.read_text().splitlines() if "VmHWM" in a)
        return int(line.split()[1]) * 1024 / 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def peak_child_mb() -> float:
    """Return the largest peak of the processes that this one has waited for."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024) / 1e6


def make_head() -> Pipeline:
    """Make scikit-learn's head on features."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=300))


def make_model(model: str, backbone: str, precision: str, seed: int) -> Any:
    """Make an estimator of this package."""
    common = {"device": "cpu", "precision": precision, "random_state": seed}
    if model == "scratch":
        return ScratchCNNClassifier(max_epochs=N_EPOCHS, **common)
    common |= {"backbone": backbone, **BACKBONES[backbone]}
    if model == "transfer":
        return TransferClassifier(unfreeze_depth=0, **common)
    return make_pipeline(FeatureExtractor(**common), make_head())


def decode(paths: list[str], size: tuple[int, int]) -> np.ndarray:
    """Decode files into one array, resized as the estimators do it."""
    images = np.empty((len(paths), *size, 3), np.uint8)

    def read(index: int) -> None:
        with Image.open(paths[index]) as image:
            resized = image.convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR)
        images[index] = resized

    with ThreadPoolExecutor() as pool:
        list(pool.map(read, range(len(paths))))
    return images


def measure(
    fit: Callable[[], Any], predict: Callable[[Any], np.ndarray], y: np.ndarray
) -> tuple[Any, dict[str, Any]]:
    """Fit and predict; return the model, and what was measured."""
    started = time.perf_counter()
    model = fit()
    fitted = time.perf_counter()
    proba = predict(model)
    predicted = time.perf_counter()
    answers = model.classes_[proba.argmax(axis=1)]
    return model, {
        "fit_seconds": fitted - started,
        "predict_seconds": predicted - fitted,
        "accuracy": float(np.mean(answers == y)),
        "proba": hashlib.sha256(np.ascontiguousarray(proba)).hexdigest()[:12],
        "peak_mb": peak_mb(),
    }


def run_ours(case: dict[str, Any], train: Files, test: Files) -> dict[str, Any]:
    """Run an estimator on paths, or on arrays that are decoded first."""
    name = case["model"]
    size = READ_AT["scratch" if name == "scratch" else case["backbone"]]
    model = make_model(name, case["backbone"], case["precision"], case["repeat"])
    decoding: list[float] = []

    def take(files: Files) -> Any:
        if case["input"] == "paths":
            return files.X
        started = time.perf_counter()
        images = decode(files.X, size)
        decoding.append(time.perf_counter() - started)
        return images

    model, row = measure(
        lambda: model.fit(take(train), train.y),
        lambda fitted: fitted.predict_proba(take(test)),
        test.y,
    )
    if decoding:
        names = ("decode_seconds", "decode_test_seconds")
        row |= dict(zip(names, decoding, strict=True))
    if name == "scratch":
        seconds = [epoch["dur"] for epoch in model.history_]
        row["first_epoch_seconds"] = seconds[0]
        row["later_epoch_seconds"] = float(np.mean(seconds[1:]))
    return row


def run_torch(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Run torch's loader; it takes files class by class."""
    model = FolderOfTorch(case["precision"], make_head())
    tested = sorted((folder / "test").rglob("*.jpg"))
    y = np.array([path.parent.parent.name for path in tested])
    _, row = measure(
        lambda: model.fit(folder / "train"),
        lambda fitted: fitted.predict_proba(folder / "test"),
        y,
    )
    return row | {"peak_child_mb": peak_child_mb()}


def run_fastai(case: dict[str, Any], train: Files, test: Files) -> dict[str, Any]:
    """Run fastai."""
    model = FolderOfFastai(case["repeat"])
    _, row = measure(
        lambda: model.fit(*train), lambda fitted: fitted.predict_proba(test.X), test.y
    )
    return row | {"peak_child_mb": peak_child_mb()}


def run_paths(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Measure what ``fit`` of the features keeps in memory of so many paths."""
    linked = list_files(folder / "train", N_LINKED)
    links = folder.parent / "links"
    paths = list(list_through_links(linked, folder / "train", links, case["n"]))
    extractor = FeatureExtractor("mini_resnet18", image_shape=TINY, image_size=32)
    extractor.fit(paths[:N_LINKED])
    before, started = peak_mb(), time.perf_counter()
    extractor.fit(paths)
    return {
        "fit_seconds": time.perf_counter() - started,
        "peak_mb": peak_mb(),
        "bytes_per_path": (peak_mb() - before) * 1e6 / len(paths),
    }


def run_case(case: dict[str, Any], folder: Path, n_test: int) -> dict[str, Any]:
    """Run a case in this process, with the files in a folder."""
    torch.set_num_threads(case["threads"])
    for name in LATE:
        module, _, attribute = name.partition(".")
        getattr(importlib.import_module(module), attribute or "__name__")
    if case["model"] == "fastai":
        importlib.import_module("fastai.vision.all")
    train = list_files(folder / "train", case["n"])
    test = list_files(folder / "test", n_test)
    imported_mb = peak_mb()
    runs = {
        "torch": lambda: run_torch(case, folder),
        "fastai": lambda: run_fastai(case, train, test),
        "paths": lambda: run_paths(case, folder),
    }
    run = runs.get(case["model"], lambda: run_ours(case, train, test))
    return {"imported_mb": imported_mb, **run()}
