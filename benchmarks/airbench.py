"""Run the public speed run airbench94 on the same images as ours.

    git clone https://github.com/KellerJordan/cifar10-airbench

The file ``legacy/airbench94.py`` is not part of this project: `speed_run` reads it from
a clone and gives it our images in the format of its own cache. On a GPU it runs
unchanged. It was not written for a CPU: there, ``.cuda()`` does nothing, ``.half()``
keeps float32, a clock replaces CUDA events, and bfloat16 autocast replaces half
precision if the processor supports bfloat16 natively.

The images are shuffled once beforehand: airbench94 computes its whitening filters from
the first 5,000 images. The official files are shuffled, but a folder is read class by
class.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from sktransfer._networks.device import autocast, resolve_precision


class _Clock:
    """A clock with the methods of a CUDA event that the program calls."""

    def __init__(self, **kwargs: Any) -> None:
        self.at = 0.0

    def record(self) -> None:
        """Store the time."""
        self.at = time.perf_counter()

    def elapsed_time(self, other: _Clock) -> float:
        """Milliseconds until another event."""
        return 1000 * (other.at - self.at)


def _itself(x: Any, *args: Any, **kwargs: Any) -> Any:
    return x


@contextmanager
def _on_a_cpu() -> Iterator[None]:
    """Let a program written for CUDA run on a CPU."""
    with (
        mock.patch.object(torch.Tensor, "cuda", _itself),
        mock.patch.object(torch.Tensor, "half", torch.Tensor.float),
        mock.patch.object(torch.nn.Module, "cuda", _itself),
        mock.patch.object(torch.nn.Module, "half", _itself),
        mock.patch.object(torch.cuda, "Event", _Clock),
        mock.patch.object(torch.cuda, "synchronize", return_value=None),
    ):
        yield


def _halved(make_net: Callable[[], Any]) -> Callable[[], Any]:
    """Make its network compute in bfloat16 if the CPU supports it natively."""
    cpu = torch.device("cpu")
    precision = resolve_precision("auto", cpu)

    def made() -> Any:
        net = make_net()
        forward = net.forward

        def halved(images: torch.Tensor) -> torch.Tensor:
            with autocast(precision, cpu):
                logits: torch.Tensor = forward(images)
            return logits.float()

        net.forward = halved
        return net

    return made


def _write(folder: Path, name: str, X: np.ndarray, y: np.ndarray) -> None:
    """Write images in the format of the program's cache."""
    classes, labels = np.unique(y, return_inverse=True)
    order = np.random.default_rng(0).permutation(len(y))
    content = {
        "images": torch.from_numpy(X[order]),
        "labels": torch.from_numpy(labels[order]),
        "classes": classes.tolist(),
    }
    torch.save(content, folder / f"{name}.pt")


def speed_run(
    program: Path,
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    n_runs: int,
    epochs: float | None = None,
) -> Iterator[dict[str, float]]:
    """Yield accuracy and seconds of each run; on a GPU, after a warm-up run.

    Parameters
    ----------
    program : Path
        ``airbench94.py``.

    train, test : tuple of ndarray
        Images (n, 32, 32, 3), uint8, and labels.

    n_runs : int
        Number of runs.

    epochs : float or None
        Number of epochs; ``None`` keeps its own 9.9.

    Yields
    ------
    dict
        ``accuracy`` and ``accuracy_plain``, with and without its six views;
        ``seconds`` as it counts them, without the evaluation after each epoch but with
        the one over six views at the end; ``all_seconds``, which includes every
        evaluation and reading the data.
    """
    has_gpu = torch.cuda.is_available()
    tries_kernels = torch.backends.cudnn.benchmark
    space: dict[str, Any] = {"__name__": "airbench94", "__file__": str(program)}
    seen: dict[str, Any] = {}

    def note(variables: dict[str, Any], is_final_entry: bool = False) -> None:
        names = ("val_acc", "total_time_seconds")
        seen.update({name: variables[name] for name in names if name in variables})

    source = program.read_text()
    here = os.getcwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            Path("cifar10").mkdir()
            _write(Path("cifar10"), "train", *train)
            _write(Path("cifar10"), "test", *test)
            with nullcontext() if has_gpu else _on_a_cpu():
                exec(compile(source, str(program), "exec"), space)
                space["print_training_details"] = note
                if epochs is not None:
                    space["hyp"]["opt"]["train_epochs"] = epochs
                if has_gpu:
                    space["main"]("warmup")
                else:
                    init = space["CifarLoader"].__init__
                    init.__defaults__ = (*init.__defaults__[:-1], "cpu")
                    space["make_net"] = _halved(space["make_net"])
                for run in range(n_runs):
                    started = time.perf_counter()
                    accuracy = space["main"](run)
                    yield {
                        "accuracy": float(accuracy),
                        "accuracy_plain": float(seen["val_acc"]),
                        "seconds": float(seen["total_time_seconds"]),
                        "all_seconds": time.perf_counter() - started,
                    }
        finally:
            os.chdir(here)
            torch.backends.cudnn.benchmark = tries_kernels
