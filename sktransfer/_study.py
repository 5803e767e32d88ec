"""Transfer learning against training from scratch: measured, reported, drawn."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import (
    accuracy_score,
    classification_report,
    precision_recall_fscore_support,
)

from sktransfer._study_plots import (
    draw_accuracy_time,
    draw_confusion_matrices,
    draw_predictions,
    new_figure,
)

TRANSFER, SCRATCH = "transfer", "scratch"
N_SHOWN = 24
SHOWN_SIZE = 96
DIGITS_EPOCHS = 18

Report = Callable[[str], None]
MakeModels = Mapping[str, Callable[[int], Any]]


@dataclass(frozen=True)
class StudyData:
    """Images and labels of one split; ``names[i]`` is how ``labels[i]`` is printed."""

    name: str
    X_train: Any
    y_train: np.ndarray
    X_test: Any
    y_test: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]


@dataclass(frozen=True)
class RunResult:
    """One fit: its scores on the test images, its cost and its predictions (n,)."""

    model: str
    seed: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    seconds: float
    n_parameters: int | None
    n_epochs: int | None
    predictions: np.ndarray = field(repr=False, compare=False)


def say(line: str) -> None:
    """Print `line` at once, also where the output is a pipe."""
    print(line, flush=True)


def stratified_sample(y: np.ndarray, n: int, name: str, seed: int = 0) -> np.ndarray:
    """Return `n` sorted indices into `y` (n_all,), each class by its share, none 0."""
    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if n < len(counts):
        raise ValueError(
            f"{name}={n} is fewer than one image for each of the {len(counts)} "
            f"classes; pass at least {len(counts)}."
        )
    if n > len(y):
        raise ValueError(
            f"{name}={n} is too large: {len(y)} images are there; pass at most "
            f"{len(y)}."
        )
    quota = n * counts / len(y)
    taken = np.maximum(1, np.floor(quota).astype(int))
    while taken.sum() < n:
        taken[np.argmax(np.where(taken < counts, quota - taken, -np.inf))] += 1
    while taken.sum() > n:
        taken[np.argmin(np.where(taken > 1, quota - taken, np.inf))] -= 1
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(codes == code))[:size]
        for code, size in enumerate(taken)
    ]
    return np.sort(np.concatenate(chosen))


def split(y: np.ndarray, n_train: int, n_test: int | None) -> tuple[Any, Any]:
    """Return disjoint stratified train and test indices into `y` of shape (n,)."""
    most = len(y) - len(np.unique(y))
    if n_train > most:
        raise ValueError(
            f"n_train={n_train} is too large: {len(y)} images are there, of which one "
            f"of each class is kept to test; pass at most {most}."
        )
    train = stratified_sample(y, n_train, "n_train")
    rest = np.setdiff1d(np.arange(len(y)), train)
    if n_test is None:
        return train, rest
    return train, rest[stratified_sample(y[rest], n_test, "n_test")]


def load_data(name: str, n_train: int | None, n_test: int | None) -> StudyData:
    """Load "digits", "cifar10" or a folder of class folders; ValueError otherwise."""
    if name == "digits":
        return _digits(100 if n_train is None else n_train, n_test)
    if name == "cifar10":
        return _cifar10(n_train, n_test)
    if Path(name).is_dir():
        return _folder(name, n_train, n_test)
    raise ValueError(
        f"--data {name!r} is neither a known name nor a folder; pass digits, cifar10 "
        "or the path of a folder with one sub-folder a class."
    )


def _digits(n_train: int, n_test: int | None) -> StudyData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    return _one_set("digits", images, digits.target, n_train, n_test)


def _folder(path: str, n_train: int | None, n_test: int | None) -> StudyData:
    from sktransfer.datasets import load_image_folder

    bunch = load_image_folder(path, as_arrays=False)
    n = round(0.8 * len(bunch.target)) if n_train is None else n_train
    return _one_set(path, np.asarray(bunch.data), bunch.target, n, n_test)


def _one_set(
    name: str, X: np.ndarray, y: np.ndarray, n_train: int, n_test: int | None
) -> StudyData:
    """Split images that come as one set."""
    train, test = split(y, n_train, n_test)
    labels = np.unique(y)
    names = tuple(map(str, labels))
    return StudyData(name, X[train], y[train], X[test], y[test], labels, names)


def _cifar10(n_train: int | None, n_test: int | None) -> StudyData:
    """Sample CIFAR-10's own training and test images."""
    from sktransfer.datasets import fetch_cifar10

    train, test = fetch_cifar10(subset="train"), fetch_cifar10(subset="test")
    chosen, held = (
        stratified_sample(bunch.target, len(bunch.target) if n is None else n, name)
        for bunch, n, name in ((train, n_train, "n_train"), (test, n_test, "n_test"))
    )
    names = tuple(train.target_names)
    return StudyData(
        "cifar10",
        train.data[chosen],
        train.target[chosen],
        test.data[held],
        test.target[held],
        np.arange(len(names)),
        names,
    )


def default_models(data_name: str, backbone: str) -> dict[str, Callable[[int], Any]]:
    """Return, by name, the functions that make an unfitted model from a seed."""
    from sktransfer._scratch import ScratchCNNClassifier
    from sktransfer._transfer import ResNetTransferClassifier

    # Loaded before any clock runs, or the first fit would pay for importing torch.
    importlib.import_module("sktransfer._training")
    transfer: dict[str, Any] = {}
    scratch: dict[str, Any] = {}
    if data_name == "digits":
        # A mirrored digit is another sign, so nothing is augmented here; eight grey
        # pixels are far from photographs, so every stage may learn, for as long.
        scratch = {"augment": None, "max_epochs": DIGITS_EPOCHS}
        transfer = {**scratch, "unfreeze_depth": 5}
        # Work this small gains little from threads and, on a busy machine, loses
        # minutes to their waiting for each other.
        importlib.import_module("torch").set_num_threads(1)

    def make_transfer(seed: int) -> Any:
        return ResNetTransferClassifier(backbone, random_state=seed, **transfer)

    def make_scratch(seed: int) -> Any:
        return ScratchCNNClassifier(random_state=seed, **scratch)

    return {TRANSFER: make_transfer, SCRATCH: make_scratch}


def n_trainable(model: Any) -> int | None:
    """Return how many parameters the fitted `model` trained, None if it has no net."""
    if not hasattr(model, "net_"):
        return None
    parameters = model.net_.module_.parameters()
    return int(sum(p.numel() for p in parameters if p.requires_grad))


def evaluate(data: StudyData, model_name: str, model: Any, seed: int) -> RunResult:
    """Fit `model` and score it on the test images."""
    started = time.perf_counter()
    model.fit(data.X_train, data.y_train)
    elapsed = time.perf_counter() - started
    predicted = np.asarray(model.predict(data.X_test))
    precision, recall, f1, _ = precision_recall_fscore_support(
        data.y_test, predicted, labels=data.labels, average="macro", zero_division=0
    )
    return RunResult(
        model=model_name,
        seed=seed,
        accuracy=float(accuracy_score(data.y_test, predicted)),
        precision=float(precision),
        recall=float(recall),
        f1=float(f1),
        seconds=float(getattr(model, "fit_time_", elapsed)),
        n_parameters=n_trainable(model),
        n_epochs=getattr(model, "n_iter_", None) if hasattr(model, "net_") else None,
        predictions=predicted,
    )


def run_study(
    data: StudyData, make_models: MakeModels, seeds: Iterable[int], report: Report
) -> list[RunResult]:
    """Fit every model once a seed on the same split; `report` hears of each fit."""
    results = []
    for seed in seeds:
        for name, make in make_models.items():
            report(f"seed {seed}, {name}: training ...")
            result = evaluate(data, name, make(seed), seed)
            results.append(result)
            report(
                f"seed {seed}, {name}: accuracy {result.accuracy:.1%} after "
                f"{result.seconds:.1f} s"
            )
    return results


def by_model(results: Iterable[RunResult]) -> dict[str, list[RunResult]]:
    """Group results by model, in order of appearance."""
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        groups.setdefault(result.model, []).append(result)
    return groups


def verdict(transfer: Sequence[float], scratch: Sequence[float]) -> str:
    """Return one line on the gain; accuracies in [0, 1], one a seed, same order."""
    gain = 100 * (float(np.mean(transfer)) - float(np.mean(scratch)))
    against = f"transfer {gain:+.1f} points of accuracy against scratch"
    if len(transfer) < 2:
        return (
            f"Verdict: no clear gain or loss can be claimed from one seed: {against}, "
            "spread unknown; pass --seeds 3."
        )
    spread = 100 * max(float(np.ptp(transfer)), float(np.ptp(scratch)))
    if abs(gain) <= spread:
        return (
            f"Verdict: no clear gain: {against}, within the seeds' spread of "
            f"{spread:.1f} points."
        )
    kind = "a clear gain" if gain > 0 else "no gain but a clear loss"
    return (
        f"Verdict: {kind}: {against}, beyond the seeds' spread of {spread:.1f} points."
    )


def describe_model(data: StudyData, runs: Sequence[RunResult]) -> str:
    """Return the text on one model: the last seed's report, then all seeds."""
    last = runs[-1]
    accuracy = [run.accuracy for run in runs]
    macro = {
        word: float(np.mean([getattr(run, word) for run in runs]))
        for word in ("precision", "recall", "f1")
    }
    table = classification_report(
        data.y_test,
        last.predictions,
        labels=data.labels,
        target_names=data.names,
        zero_division=0,
    )
    seconds = float(np.mean([run.seconds for run in runs]))
    size = "unknown" if last.n_parameters is None else f"{last.n_parameters:,}"
    epochs = sorted({run.n_epochs for run in runs if run.n_epochs is not None})
    lines = [
        f"== {last.model} (report of seed {last.seed}) ==",
        table.rstrip(),
        f"accuracy: mean {np.mean(accuracy):.1%}, "
        f"from {min(accuracy):.1%} to {max(accuracy):.1%} over {len(runs)} seed(s)",
        f"macro mean: precision {macro['precision']:.3f}, "
        f"recall {macro['recall']:.3f}, F1 {macro['f1']:.3f}",
        f"training: {seconds:.1f} s a fit, {size} trainable parameters",
    ]
    if epochs:
        lines.append(f"epochs run: {', '.join(map(str, epochs))}")
    return "\n".join(lines)


def write_json(
    path: Path, data: StudyData, results: Sequence[RunResult], conclusion: str
) -> None:
    """Write every run without its predictions, the sizes and the verdict."""
    runs = [asdict(result) for result in results]
    for run in runs:
        del run["predictions"]
    content = {
        "data": data.name,
        "n_train": len(data.y_train),
        "n_test": len(data.y_test),
        "classes": list(data.names),
        "runs": runs,
        "verdict": conclusion,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def shown_images(X: Any) -> np.ndarray:
    """Return images to draw: arrays (n, H, W[, C]) as they are, paths (n,) read."""
    if np.ndim(X) > 1:
        return np.asarray(X)
    from sktransfer._images import read_pictures

    pictures = [str(path) for path in X]
    return read_pictures(pictures, (SHOWN_SIZE, SHOWN_SIZE, 3))


def draw(out: Path, data: StudyData, results: Sequence[RunResult]) -> None:
    """Write the three figures into the folder `out`."""
    groups = by_model(results)
    last = {model: runs[-1] for model, runs in groups.items()}
    draw_confusion_matrices(
        out / "confusion_matrices.png",
        data.y_test,
        {model: run.predictions for model, run in last.items()},
        data.labels,
        data.names,
    )
    draw_accuracy_time(
        out / "accuracy_time.png",
        {m: [(run.seconds, run.accuracy) for run in g] for m, g in groups.items()},
    )
    # Drawn by lot: a choice by hand would flatter the model.
    n = len(data.y_test)
    chosen = np.random.default_rng(0).permutation(n)[:N_SHOWN]
    name_of = dict(zip(data.labels.tolist(), data.names, strict=True))
    run = last[TRANSFER]
    draw_predictions(
        out / "predictions.png",
        shown_images(data.X_test[chosen]),
        [name_of[label] for label in data.y_test[chosen].tolist()],
        [name_of[label] for label in run.predictions[chosen].tolist()],
        f"{run.model}, seed {run.seed}: {len(chosen)} test images drawn by lot",
    )


def study(
    data_name: str = "digits",
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    n_seeds: int = 3,
    out: Path = Path("sktransfer_study"),
    backbone: str = "mini_resnet18",
    make_models: MakeModels | None = None,
    report: Report = say,
) -> list[RunResult]:
    """Run the whole study and write its files into `out`; ValueError on bad options.

    `make_models` maps "transfer" and "scratch" to functions from a seed to a model.
    """
    if n_seeds < 1:
        raise ValueError(f"seeds={n_seeds} runs nothing; pass 1 or more.")
    new_figure(1, 1)  # without matplotlib, fail before the training, not after it
    data = load_data(data_name, n_train, n_test)
    out.mkdir(parents=True, exist_ok=True)
    report(
        f"{data.name}: {len(data.y_train)} training and {len(data.y_test)} test images "
        f"of {len(data.names)} classes; one split for every seed and model."
    )
    models = default_models(data_name, backbone) if make_models is None else make_models
    limits = {m: getattr(make(0), "max_epochs", None) for m, make in models.items()}
    if all(limit is not None for limit in limits.values()):
        same = "the same for both" if len(set(limits.values())) == 1 else "not the same"
        listed = ", ".join(f"{name} {limit}" for name, limit in limits.items())
        report(f"Epochs at most: {listed} ({same}).")
    results = run_study(data, models, range(n_seeds), report)
    groups = by_model(results)
    for runs in groups.values():
        report("\n" + describe_model(data, runs))
    conclusion = verdict(
        [run.accuracy for run in groups[TRANSFER]],
        [run.accuracy for run in groups[SCRATCH]],
    )
    report("\n" + conclusion)
    write_json(out / "results.json", data, results, conclusion)
    draw(out, data, results)
    report(f"Figures and results.json are in {out}.")
    return results
