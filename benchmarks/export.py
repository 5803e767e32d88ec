"""Exported networks: whether they predict the same, and how fast they are.

    SKTRANSFER_DATA=FOLDER python benchmarks/export.py [NAME ...]
    python benchmarks/export.py --table

``sets.py`` says what FOLDER holds. Each classifier is fitted on 100 photographs of
TrashNet, 150 x 200 pixels, with ``precision="float32"``, and shown 1,000 others as
uint8. Networks that no package brings weights for start from random ones. Recorded are
the largest absolute differences of probabilities to ``predict_proba``: of the program
that ``torch.export`` wrote and loaded, of the file of ONNX in onnxruntime, and of
``predict_proba`` itself in the number format that ``precision="auto"`` would take on
this machine. Also the share of equal labels, the bytes of the file, the seconds of
``to_onnx``, and milliseconds per image of 64 images in batches of 32, all in turn, on
one thread, with nothing cached. Times are those of the processor, since they are nearly
the same where other work keeps the cores busy; the first case also imports the
exporter.

It needs ``pip install "sktransfer[onnx]" onnxruntime``. Finished rows are not run
again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import onnxruntime
import onnxscript
import torch
from PIL import Image
from record import Record, Shown, tabulate, time_in_turn
from sets import load
from torch import nn

from sktransfer import Backbone, ScratchCNNClassifier, TransferClassifier
from sktransfer._networks.device import resolve_precision

N_FIT, N_TEST, N_TIMED, N_ROUNDS, BATCH = 100, 1000, 64, 3, 32
HEIGHT, WIDTH = 150, 200

COMMON: dict[str, Any] = {"random_state": 0, "device": "cpu", "precision": "float32"}


class Plain(nn.Module):
    """A network of a user's own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16))
        self.body = nn.Sequential(nn.SiLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.SiLU())


OWN = Backbone("plain", Plain, {"stem": ["stem"], "stage1": ["body"]}, image_size=64)


def transfer(backbone: Any, **params: Any) -> TransferClassifier:
    """Make a classifier of which the last stage learns for one epoch."""
    chosen = {"unfreeze_depth": 1, "max_epochs": 2, "activation_cache": None}
    return TransferClassifier(backbone, **{**COMMON, **chosen, **params})


CASES: dict[str, Callable[[], Any]] = {
    "mini_resnet18, 32 px": lambda: transfer("mini_resnet18", image_size=32),
    "mini_resnet18, pad, flip_shift": lambda: transfer(
        "mini_resnet18", image_size=32, resize="pad", tta="flip_shift"
    ),
    "efficientnet_lite0, 128 px": lambda: transfer(
        "efficientnet_lite0", image_size=128, max_epochs=1
    ),
    "resnet18, 64 px": lambda: transfer("resnet18", weights=None, image_size=64),
    "resnet50, 64 px, crop": lambda: transfer(
        "resnet50", weights=None, image_size=64, resize="crop"
    ),
    "timm/convnext_atto, 64 px": lambda: transfer(
        "timm/convnext_atto", weights=None, image_size=64
    ),
    "timm/vit_tiny_patch16_224, 64 px": lambda: transfer(
        "timm/vit_tiny_patch16_224", weights=None, image_size=64
    ),
    "a Backbone, 64 px": lambda: transfer(OWN, weights=None),
    "a Backbone, own size": lambda: transfer(OWN, weights=None, image_size=None),
    "scratch, 64 px": lambda: ScratchCNNClassifier(max_epochs=5, **COMMON),
    "scratch, 64 px, flip": lambda: ScratchCNNClassifier(
        max_epochs=5, tta="flip", **COMMON
    ),
}

SHOWN = {
    "of_program": Shown("Program of torch: largest difference", 1, ".1e"),
    "of_onnx": Shown("ONNX: largest difference", 1, ".1e"),
    "of_auto": Shown('precision="auto" here: largest difference', 1, ".1e"),
    "file_bytes": Shown("File of ONNX, MB", 1e-6, ".1f"),
    "export_seconds": Shown("to_onnx, s", 1, ".1f"),
    "predict_ms": Shown("predict_proba, ms per image", 1, ".2f"),
    "program_ms": Shown("Program of torch, ms per image", 1, ".2f"),
    "onnx_ms": Shown("onnxruntime, ms per image", 1, ".2f"),
}


def open_images(paths: np.ndarray) -> np.ndarray:
    """Read photographs as uint8 of one size."""
    pictures = (Image.open(path).convert("RGB") for path in paths)
    return np.stack([np.asarray(some.resize((WIDTH, HEIGHT))) for some in pictures])


def load_program(clf: Any, images: np.ndarray, path: Path) -> nn.Module:
    """Write a program of torch, and read it."""
    n_images = torch.export.Dim("n_images")
    some = torch.from_numpy(images[:2])
    program = torch.export.export(
        clf.to_torch(), (some,), dynamic_shapes=[{0: n_images}]
    )
    torch.export.save(program, path)
    return torch.export.load(path).module()


def open_session(path: Path) -> onnxruntime.InferenceSession:
    """Open a file of ONNX, to be run on one thread."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options)


def cut(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield batches of images."""
    for start in range(0, len(images), BATCH):
        yield images[start : start + BATCH]


def measure(clf: Any, images: np.ndarray, folder: Path) -> dict[str, Any]:
    """Compare a fitted classifier with what is exported of it."""
    started = time.process_time()
    clf.to_onnx(folder / "clf.onnx")
    seconds = time.process_time() - started
    session = open_session(folder / "clf.onnx")
    program = load_program(clf, images, folder / "clf.pt2")

    def run_program(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            parts = [program(torch.from_numpy(some)) for some in cut(images)]
        return torch.cat(parts).numpy()

    def run_onnx(images: np.ndarray) -> list[np.ndarray]:
        parts = [session.run(None, {"images": some}) for some in cut(images)]
        return [np.concatenate(some) for some in zip(*parts, strict=True)]

    few = images[:N_TIMED]
    calls = {
        "predict_ms": lambda: clf.predict_proba(few),
        "program_ms": lambda: run_program(few),
        "onnx_ms": lambda: run_onnx(few),
    }
    times = time_in_turn(calls, N_ROUNDS, time.process_time)
    expected = clf.predict_proba(images)
    proba, labels = run_onnx(images)
    row = {
        "of_program": float(np.abs(run_program(images) - expected).max()),
        "of_onnx": float(np.abs(proba - expected).max()),
        "equal_labels": float((labels == clf.predict(images)).mean()),
        "range": float(np.ptp(expected, axis=0).max()),
    }
    clf.net_.precision = resolve_precision("auto", torch.device("cpu"))
    of_auto = float(np.abs(clf.predict_proba(images) - expected).max())
    return {
        **row,
        "auto": clf.net_.precision,
        "of_auto": of_auto,
        "file_bytes": (folder / "clf.onnx").stat().st_size,
        "export_seconds": round(seconds, 2),
        **{
            name: round(1000 * float(np.median(some)) / len(few), 3)
            for name, some in times.items()
        },
    }


def main() -> None:
    """Run the cases that have no row yet, or those that are named."""
    parser = argparse.ArgumentParser()
    parser.add_argument("names", nargs="*", default=list(CASES))
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    record = Record("export")
    packages = (onnx, onnxscript, onnxruntime)
    record.here |= {some.__name__: some.__version__ for some in packages}
    if arguments.table:
        down = {name: {"case": name} for name in CASES}
        for name, shown in SHOWN.items():
            print(tabulate(record.rows, down, {"": {}}, {name: shown}), end="\n\n")
        return
    torch.set_num_threads(1)
    split = load("trash", N_FIT, 0, N_TEST)
    X, X_test = open_images(split.X), open_images(split.X_test)
    for name in arguments.names:
        if record.find(case=name):
            continue
        clf = CASES[name]().fit(X, split.y)
        with TemporaryDirectory() as folder:
            record.add(case=name, n_images=N_TEST, **measure(clf, X_test, Path(folder)))


if __name__ == "__main__":
    main()
