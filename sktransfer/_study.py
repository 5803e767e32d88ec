"""Transfer learning against training from scratch: measured, reported, drawn."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from sktransfer._study_data import StudyData, load_data, shown_images
from sktransfer._study_plots import (
    draw_accuracy_time,
    draw_confusion_matrices,
    draw_predictions,
    new_figure,
)
from sktransfer._study_report import (
    RunResult,
    by_model,
    describe_model,
    verdict,
    write_json,
)

TRANSFER, SCRATCH = "transfer", "scratch"
N_SHOWN = 24
DIGITS_EPOCHS = 18

Report = Callable[[str], None]
MakeModels = Mapping[str, Callable[[int], Any]]


def say(line: str) -> None:
    """Print `line` at once, also where the output is a pipe."""
    print(line, flush=True)


def default_models(
    data_name: str, backbone: str, max_epochs: int | None
) -> dict[str, Callable[[int], Any]]:
    """Return, by name, the functions that make an unfitted model from a seed."""
    from sktransfer._resnet import check_backbone
    from sktransfer._scratch import ScratchCNNClassifier
    from sktransfer._transfer import ResNetTransferClassifier
    from sktransfer._weights import find_weights

    # Loaded before any clock runs, or the first fit would pay for importing torch.
    importlib.import_module("sktransfer._training")
    # For their errors, before anything is trained.
    check_backbone(backbone)
    find_weights(backbone, "auto").read()
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
    if max_epochs is not None:
        scratch["max_epochs"] = transfer["max_epochs"] = max_epochs

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
) -> Iterator[RunResult]:
    """Fit every model once a seed on the same split; `report` hears how it goes."""
    from sktransfer._progress import EpochReport

    for seed in seeds:
        for name, make in make_models.items():
            label = f"seed {seed}, {name}"
            report(f"{label}: training ...")
            model = make(seed)
            if hasattr(model, "callbacks"):
                model.set_params(callbacks=[EpochReport(report, label)])
            result = evaluate(data, name, model, seed)
            report(
                f"{label}: accuracy {result.accuracy:.1%} after {result.seconds:.1f} s"
            )
            yield result


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
    max_epochs: int | None = None,
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
    models = make_models
    if models is None:
        models = default_models(data_name, backbone, max_epochs)
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is a file; pass a folder.")
    out.mkdir(parents=True, exist_ok=True)
    report(
        f"{data.name}: {len(data.y_train)} training and {len(data.y_test)} test images "
        f"of {len(data.names)} classes; one split for every seed and model."
    )
    settings = {name: " ".join(repr(make(0)).split()) for name, make in models.items()}
    for name, text in settings.items():
        report(f"{name}: {text}")
    results = []
    for result in run_study(data, models, range(n_seeds), report):
        results.append(result)
        write_json(out / "results.json", data, settings, results, None)
    groups = by_model(results)
    for runs in groups.values():
        report("\n" + describe_model(data, runs))
    conclusion = verdict(
        [run.accuracy for run in groups[TRANSFER]],
        [run.accuracy for run in groups[SCRATCH]],
    )
    report("\n" + conclusion)
    write_json(out / "results.json", data, settings, results, conclusion)
    draw(out, data, results)
    report(f"Figures and results.json are in {out}.")
    return results
