"""Faults while a network learns: NaN, Ctrl-C, kills, torn checkpoints, short memory."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from faults_tools import (
    N_KILLS,
    fork,
    kill,
    limit_files,
    list_folder,
    make_data,
    observe,
    same,
    tell,
    word,
)
from sklearn.model_selection import GridSearchCV
from torch import nn
from torch.nn.modules.module import register_module_forward_pre_hook

Row = dict[str, Any]
EPOCHS, KILLED_IN, LOST = 6, 4, 100
MOST_IMAGES = 8
MOMENTS = 0.6  # seconds


def lose_numbers(lib: Any, folder: Path) -> Row:
    """Train at a rate with which the loss becomes NaN."""
    X, y = make_data()

    def fit() -> list[bool]:
        return [
            bool(np.isfinite(x)) for x in lib.losses(lib.fit(X, y, epochs=3, lr=1e30))
        ]

    seen = observe(fit, folder)
    silent = (
        f"silent, {sum(not ok for ok in seen.get('value', []))} of 3 losses not finite"
    )
    return {"outcome": word(seen, silent), "seen": seen}


def interrupt(lib: Any, folder: Path) -> Row:
    """Send Ctrl-C in epoch 3 of 6."""
    X, y = make_data()

    def fit() -> int:
        return len(
            lib.losses(lib.fit(X, y, epochs=EPOCHS, hook=_interrupt_in(3, folder)))
        )

    seen = observe(fit, folder)
    swallowed = f"swallowed; fit returns with {seen.get('value')} epochs"
    raised = "error" in seen and seen["error"].startswith("KeyboardInterrupt")
    outcome = "raised again" if raised else word(seen, swallowed)
    return {"outcome": outcome, "seen": seen}


def _interrupt_in(epoch: int, folder: Path) -> Callable[[int], None]:
    """Make a hook that sends Ctrl-C once."""
    sent = folder / "sent"

    def hook(present: int) -> None:
        if present == epoch and not sent.exists():
            sent.touch()
            os.kill(os.getpid(), signal.SIGINT)

    return hook


def interrupt_search(lib: Any, folder: Path) -> Row:
    """Send Ctrl-C in epoch 3 of the first fit of a search."""
    from faults_libraries import to_channels_first

    X, y = make_data()
    images = X if lib.name == "sktransfer" else to_channels_first(X)
    model = lib.make(epochs=EPOCHS, hook=_interrupt_in(3, folder))

    def search() -> list[float]:
        found = GridSearchCV(model, {"lr": [0.01, 0.02]}, cv=2, scoring="accuracy")
        found.fit(images, y)
        return [float(x) for x in found.cv_results_["split0_test_score"]]

    seen = observe(search, folder)
    raised = "error" in seen and seen["error"].startswith("KeyboardInterrupt")
    goes_on = "the search goes on, with the score of a fit half done"
    return {
        "outcome": "the search ends" if raised else word(seen, goes_on),
        "seen": seen,
    }


interrupt_search.without = ("joblib", "pickle", "fastai")  # type: ignore[attr-defined]


def _count(path: Path, epoch: int) -> None:
    with path.open("a") as file:
        file.write(f"{epoch}\n")


def resume(lib: Any, folder: Path) -> Row:
    """Kill a fit in epoch 4 of 6, make the call again, and compare with a whole fit."""
    X, y = make_data()
    whole, trained = folder / "whole.npz", folder / "trained"
    more = {"every_epoch": True} if lib.name == "fastai" else {}
    apart = {name: folder / name for name in ("one", "two")}
    for path in apart.values():
        path.mkdir()

    def die(epoch: int) -> None:
        _count(trained, epoch)
        if epoch == KILLED_IN:
            os.kill(os.getpid(), signal.SIGKILL)

    def fit(name: str, hook: Any, fit: Any) -> None:
        model = fit(X, y, epochs=EPOCHS, folder=apart[name], hook=hook, **more)
        np.savez(whole.with_name(f"{name}.npz"), **lib.weights(model))

    observe(lambda: fit("one", None, lib.fit), folder)
    observe(lambda: fit("two", die, lib.fit), folder)
    trained.unlink()
    seen = observe(
        lambda: fit("two", lambda e: _count(trained, e), lib.continue_fit), folder
    )
    epochs = (
        sorted({int(e) for e in trained.read_text().split()})
        if trained.exists()
        else []
    )
    if "error" in seen:
        return {"outcome": word(seen), "seen": seen}
    one, two = (dict(np.load(folder / f"{name}.npz")) for name in apart)
    equal = "equal to the last bit" if same(one, two) else "other weights"
    total = KILLED_IN - 1 + len(epochs)
    outcome = f"{equal}; {total} epochs in all instead of {EPOCHS}"
    if total == EPOCHS:
        outcome = f"{equal}; {EPOCHS} epochs in all"
    by_hand = " (by hand: load, start_epoch=)" if lib.name == "fastai" else ""
    return {"outcome": outcome + by_hand, "epochs_after": epochs, "seen": seen}


def kill_checkpoint(lib: Any, folder: Path) -> Row:
    """Kill a fit at random moments of its writing the third checkpoint, of 45 MB."""
    rng, bad, errors = random.Random(0), 0, []
    for i in range(N_KILLS):
        own = folder / str(i)
        own.mkdir()
        pid = _begin_third(lib, own)
        time.sleep(rng.uniform(0, MOMENTS))
        kill(pid)
        try:
            lib.read_checkpoint(own)
        except Exception as error:
            bad += 1
            errors.append(tell(error, own)[:120])
        for path in own.iterdir():
            path.unlink()
    outcome = (
        f"none readable after {bad} of {N_KILLS}" if bad else "always one readable"
    )
    return {"outcome": outcome, "unreadable": bad, "errors": sorted(set(errors))[:3]}


def _begin_third(lib: Any, folder: Path) -> int:
    """Let a child train, and return once it begins to write a third checkpoint."""
    X, y = make_data(6)
    reached = folder.with_name(f"{folder.name}.reached")

    def note(epoch: int) -> None:
        if epoch == 3:
            reached.touch()

    pid = fork(lambda: lib.fit(X, y, epochs=50, large=True, folder=folder, hook=note))
    while not reached.exists():
        time.sleep(0.0005)
    before = list_folder(folder)
    while list_folder(folder) == before:
        time.sleep(0.0005)
    return pid


def tear(lib: Any, folder: Path) -> Row:
    """Cut off the end of the newest checkpoint, and make the call again."""
    X, y = make_data()
    more = {"every_epoch": True} if lib.name == "fastai" else {}

    def die(epoch: int) -> None:
        if epoch == KILLED_IN:
            os.kill(os.getpid(), signal.SIGKILL)

    def fit(hook: Any, fit: Any) -> None:
        fit(X, y, epochs=EPOCHS, folder=folder, hook=hook, **more)

    observe(lambda: fit(die, lib.fit), folder)
    for path in lib.checkpoints(folder):
        path.write_bytes(path.read_bytes()[:-LOST])
    trained = folder / "trained"
    seen = observe(lambda: fit(lambda e: _count(trained, e), lib.continue_fit), folder)
    epochs = trained.read_text().split() if trained.exists() else []
    told = "warns, and " if any("resume" in w for w in seen.get("warned", [])) else ""
    outcome = word(seen, f"{told}resumes before epoch {epochs[0] if epochs else '?'}")
    return {"outcome": outcome[:160], "seen": seen}


def fill_disk(lib: Any, folder: Path) -> Row:
    """Let no file grow beyond half a checkpoint from epoch 3 of 6 on."""
    X, y = make_data()

    def limit(epoch: int) -> None:
        if epoch == 3:
            limit_files(lib.checkpoints(folder)[0].stat().st_size // 2)

    def fit() -> int:
        # The answer is written to a file, too, and short.
        return len(lib.losses(lib.fit(X, y, epochs=EPOCHS, folder=folder, hook=limit)))

    seen = observe(fit, folder)
    try:
        lib.read_checkpoint(folder)
        kept = "a checkpoint is kept"
    except Exception:
        kept = "no checkpoint is whole"
    return {"outcome": f"{word(seen, 'trains on')[:100]}; {kept}", "seen": seen}


def give_nan(lib: Any, folder: Path) -> Row:
    """Put a NaN among the pixels, and one among the labels."""
    X, y = make_data()
    pixels, labels = X.copy(), y.astype(float)
    pixels[7, 0, 0, 0] = labels[7] = np.nan

    def fit(images: np.ndarray, targets: np.ndarray) -> None:
        lib.fit(images, targets)

    of_pixel = observe(lambda: fit(pixels, y), folder)
    of_label = observe(lambda: fit(X, labels), folder)
    outcome = f"pixel: {word(of_pixel)[:90]}; label: {word(of_label)[:90]}"
    return {"outcome": outcome, "pixel": of_pixel, "label": of_label}


def lack_memory(lib: Any, folder: Path) -> Row:
    """Let convolutions find memory for 8 images only, in ``fit`` and in ``predict``."""
    X, y = make_data()
    model = lib.fit(X, y)

    def refuse(module: Any, inputs: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Conv2d) and len(inputs[0]) > MOST_IMAGES:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB.")

    def work(call: Callable[[], object]) -> None:
        register_module_forward_pre_hook(refuse)
        call()

    fitted = observe(lambda: work(lambda: lib.fit(X, y)), folder)
    shown = observe(lambda: work(lambda: lib.proba(model, X)), folder)
    outcome = (
        f"fit: {word(fitted, 'goes on')[:70]}; predict: {word(shown, 'goes on')[:70]}"
    )
    return {"outcome": outcome, "fit": fitted, "predict": shown}


FAULTS: dict[str, Callable[[Any, Path], Row]] = {
    "loss becomes NaN": lose_numbers,
    "Ctrl-C in fit": interrupt,
    "Ctrl-C in a search": interrupt_search,
    "kill in epoch 4 of 6, then again": resume,
    "kill while a checkpoint is written": kill_checkpoint,
    "torn checkpoint": tear,
    "disk full while a checkpoint is written": fill_disk,
    "NaN in the data": give_nan,
    "out of memory": lack_memory,
}
for _inject in FAULTS.values():
    if not hasattr(_inject, "without"):
        _inject.without = ("joblib", "pickle")  # type: ignore[attr-defined]
