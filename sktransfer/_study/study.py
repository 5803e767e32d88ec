"""The study itself: plan it, fit every model with every seed, write the files."""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import accuracy_score, precision_recall_fscore_support

from sktransfer._displays.content.calibration import (
    compute_calibration_error,
    compute_log_loss,
)
from sktransfer._displays.content.confusions import most_confused
from sktransfer._displays.content.scores import count_trainable
from sktransfer._study.advice import PHOTO_BACKBONE, Facts, advise
from sktransfer._study.data import StudyData, load_data
from sktransfer._study.figures import draw_pictures
from sktransfer._study.html import check_drawing, render
from sktransfer._study.machine import (
    PeakMemory,
    describe_hardware,
    limit_torch_threads,
    list_versions,
)
from sktransfer._study.pictures import Picture, png_files
from sktransfer._study.report import (
    RunResult,
    collect_content,
    describe_model,
    describe_network,
    group_by_model,
    write_json,
)
from sktransfer._study.verdict import Verdict, judge

TRANSFER, SCRATCH = "transfer", "scratch"
DIGITS_EPOCHS = 18
# Image sets with names; any other data are a folder of photographs.
SMALL_IMAGES, SMALL_BACKBONE = ("digits", "cifar10"), "mini_resnet18"

Report = Callable[[str], None]
MakeModels = Mapping[str, Callable[[int], Any]]


@dataclass(frozen=True)
class Plan:
    """What is compared, on which images, how often, and where the files go.

    `models` maps "transfer" and "scratch" to functions that take a seed and return an
    unfitted model. `out` is a folder. torch computes with `n_threads`; None leaves its
    setting unchanged.
    """

    data: StudyData
    models: MakeModels
    out: Path
    n_seeds: int = 3
    n_threads: int | None = None


def print_line(line: str) -> None:
    """Print `line` at once, even into a pipe."""
    print(line, flush=True)


def choose_backbone(data_name: str) -> str:
    """Return the backbone that suits the images."""
    return SMALL_BACKBONE if data_name in SMALL_IMAGES else PHOTO_BACKBONE


def define_models(
    data_name: str,
    backbone: str | None = None,
    max_epochs: int | None = None,
    *,
    image_size: int | None = None,
    resize: str | None = None,
) -> dict[str, Callable[[int], Any]]:
    """Return functions, by model name, that make an unfitted model from a seed.

    What is None is the default of the models, or of these data. `image_size` is what
    the pretrained network sees.
    """
    from sktransfer._estimators.scratch import ScratchCNNClassifier
    from sktransfer._estimators.transfer import TransferClassifier
    from sktransfer._networks.backbones.known import find_backbone
    from sktransfer._networks.weights.sources import find_weights

    # Imported before any clock runs, or the first fit would pay for importing torch.
    importlib.import_module("sktransfer._training.train")
    name = choose_backbone(data_name) if backbone is None else backbone
    record = find_backbone(name)
    # Only for their errors, before anything is trained.
    find_weights(record, "auto").read()
    transfer: dict[str, Any] = {}
    scratch: dict[str, Any] = {}
    if data_name == "digits":
        # Few digits survive mirroring, so nothing is augmented. Eight grey pixels are
        # far from photographs, so every stage may learn, for as long as from scratch.
        scratch = {"augment": None, "max_epochs": DIGITS_EPOCHS}
        transfer = {**scratch, "unfreeze_depth": len(record.stages)}
    for option, value in {"max_epochs": max_epochs, "resize": resize}.items():
        if value is not None:
            scratch[option] = transfer[option] = value
    if image_size is not None:
        transfer["image_size"] = image_size

    def make_transfer(seed: int) -> Any:
        return TransferClassifier(name, random_state=seed, **transfer)

    def make_scratch(seed: int) -> Any:
        return ScratchCNNClassifier(random_state=seed, **scratch)

    return {TRANSFER: make_transfer, SCRATCH: make_scratch}


def predict(data: StudyData, model: Any) -> tuple[np.ndarray, np.ndarray | None]:
    """Return predicted labels (n_test,) and, if the model has any, their proba."""
    if not hasattr(model, "predict_proba"):
        return np.asarray(model.predict(data.X_test)), None
    proba = np.asarray(model.predict_proba(data.X_test))
    # Every class has training images, so the columns are in the order of `labels`.
    return data.labels[proba.argmax(axis=1)], proba


def evaluate(data: StudyData, model_name: str, model: Any, seed: int) -> RunResult:
    """Fit `model` and score it on the test images."""
    with PeakMemory() as memory:
        started = time.perf_counter()
        model.fit(data.X_train, data.y_train)
        elapsed = time.perf_counter() - started
    predicted, proba = predict(data, model)
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
        **measure_proba(data, proba),
        seconds=float(getattr(model, "fit_time_", elapsed)),
        n_parameters=count_trainable(model),
        n_epochs=getattr(model, "n_iter_", None) if hasattr(model, "net_") else None,
        peak_memory=memory.get_peak(getattr(model, "device_", "cpu")),
        predictions=predicted,
        proba=proba,
    )


def measure_proba(data: StudyData, proba: np.ndarray | None) -> dict[str, Any]:
    """Return log loss and calibration error of test images; None without proba."""
    if proba is None:
        return {"log_loss": None, "calibration_error": None}
    truth = np.searchsorted(data.labels, data.y_test)
    return {
        "log_loss": compute_log_loss(proba, truth),
        "calibration_error": compute_calibration_error(proba, truth),
    }


def run_study(
    data: StudyData, make_models: MakeModels, seeds: Iterable[int], report: Report
) -> Iterator[tuple[RunResult, Any]]:
    """Fit every model once per seed on the same split, and `report` the progress.

    Yields the result of each fit and the fitted model.
    """
    from sktransfer._training.callbacks.progress import EpochReport

    for seed in seeds:
        for name, make in make_models.items():
            label = f"seed {seed}, {name}"
            report(f"{label}: training ...")
            model = make(seed)
            if hasattr(model, "callbacks"):
                own = model.callbacks or []
                model.set_params(callbacks=[*own, EpochReport(report, label)])
            result = evaluate(data, name, model, seed)
            report(
                f"{label}: accuracy {result.accuracy:.1%} after {result.seconds:.1f} s"
            )
            yield result, model


def plan_study(
    data_name: str = "digits",
    *,
    n_train: int | None = None,
    n_test: int | None = None,
    n_seeds: int = 3,
    out: Path = Path("sktransfer_study"),
    **options: Any,
) -> Plan:
    """Check the options, load the images and make the folder `out`.

    `options` are those of `define_models`.

    Raises ValueError, OSError or ImportError if the study could not be run.
    """
    if n_seeds < 1:
        raise ValueError(f"seeds={n_seeds} would run nothing; pass 1 or more.")
    check_drawing()
    data = load_data(data_name, n_train, n_test)
    models = define_models(data_name, **options)
    check_models(models, data)
    if out.exists() and not out.is_dir():
        raise ValueError(f"out={str(out)!r} is a file; pass a folder.")
    out.mkdir(parents=True, exist_ok=True)
    # Work as small as the digits gains little from threads and, on a busy machine,
    # loses minutes while they wait for each other.
    return Plan(data, models, out, n_seeds, 1 if data_name == "digits" else None)


def check_models(models: MakeModels, data: StudyData) -> None:
    """Raise now the errors of a fit about parameters, files or the backbone."""
    for make in models.values():
        make(0)._validate_params()
    model, shape = models[TRANSFER](0), (*data.X_train.shape[1:], 1)[:3]
    if data.X_train.ndim == 1:
        model._check_images(data.X_train, reset=True)
        model._check_images(data.X_test, reset=False)
        shape = model.image_shape_
    # Some networks take few sizes. The weights that are read here serve every fit.
    model._load_backbone(len(data.names), 0.0, shape)


def study(
    plan: Plan, *, report: Report = print_line, command: str | None = None
) -> list[RunResult]:
    """Run the study and write its files; the report quotes `command`."""
    delete_earlier_files(plan)
    settings = {
        name: " ".join(repr(make(0)).split()) for name, make in plan.models.items()
    }
    announce(plan.data, settings, report)
    with limit_torch_threads(plan.n_threads):
        about = {"command": command, **describe_surroundings(), "networks": {}}
        return _fit_and_write(plan, settings, about, report)


def delete_earlier_files(plan: Plan) -> None:
    """Delete the files of an earlier study, which could be taken for those of this one.

    Without its ``results.json``, files with these names may be somebody else's.
    """
    try:
        content = json.loads((plan.out / "results.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    if isinstance(content, dict) and {"settings", "runs"} <= content.keys():
        for file in list_output_files(plan):
            if file.is_file():
                file.unlink()


def list_output_files(plan: Plan) -> list[Path]:
    """Return every file that a study may write."""
    pngs = png_files(plan.out, plan.models).values()
    return [plan.out / "report.html", plan.out / "results.json", *pngs]


def _fit_and_write(
    plan: Plan, settings: Mapping[str, str], about: dict[str, Any], report: Report
) -> list[RunResult]:
    """Fit, report and write; results.json is written again after every fit."""
    data, json_file = plan.data, plan.out / "results.json"
    results: list[RunResult] = []
    fitted: dict[str, Any] = {}
    for result, model in run_study(data, plan.models, range(plan.n_seeds), report):
        results.append(result)
        if result.seed == plan.n_seeds - 1:  # more would fill the memory
            fitted[result.model] = model
        del model
        write_json(json_file, collect_content(data, settings, results, about))
    about["networks"] = {name: describe_network(m) for name, m in fitted.items()}
    advice = advise(collect_facts(data, results, about["networks"][TRANSFER]))
    verdict = report_results(data, results, advice, report)
    content = collect_content(data, settings, results, about, verdict, advice)
    write_json(json_file, content)
    write_report(plan.out, content, draw_pictures(data, results, fitted, TRANSFER))
    report(f"report.html, its pictures and results.json are in {plan.out}.")
    return results


def announce(data: StudyData, settings: Mapping[str, str], report: Report) -> None:
    """Report what will be compared."""
    report(
        f"{data.name}: {len(data.y_train)} training and {len(data.y_test)} test images "
        f"of {len(data.names)} classes; the same split for all seeds and models."
    )
    for name, text in settings.items():
        report(f"{name}: {text}")


def write_report(
    out: Path,
    content: Mapping[str, Any],
    drawn: tuple[Mapping[str, Picture], Sequence[str]],
) -> None:
    """Write report.html, and each of its pictures as a file."""
    pictures, left_out = drawn
    files = png_files(out, content["settings"])
    for name, picture in pictures.items():
        files[name].write_bytes(picture.png)
    html = render(content, pictures, left_out, TRANSFER)
    (out / "report.html").write_text(html, encoding="utf-8")


def collect_facts(
    data: StudyData,
    results: Sequence[RunResult],
    network: Mapping[str, Any] | None,
) -> Facts:
    """Collect what advice rests on; `network` describes that of transfer."""
    groups = group_by_model(results)
    predicted = groups[TRANSFER][-1].predictions
    name_of = dict(zip(data.labels.tolist(), data.names, strict=True))
    pairs = [
        pair._replace(true=name_of[pair.true], predicted=name_of[pair.predicted])
        for pair in most_confused(data.y_test, predicted, labels=data.labels, n_pairs=1)
    ]
    known = network or {}
    return Facts(
        transfer=[run.accuracy for run in groups[TRANSFER]],
        scratch=[run.accuracy for run in groups[SCRATCH]],
        n_train=len(data.y_train),
        n_test=len(data.y_test),
        n_classes=len(data.names),
        image_size=data.image_size,
        backbone=known.get("backbone"),
        seen_size=known.get("image_size"),
        history=known.get("history", ()),
        best_epoch=known.get("best_epoch"),
        max_epochs=known.get("max_epochs"),
        starts_solved=known.get("starts_solved", False),
        confused=pairs[0] if pairs else None,
        n_wrong=int(np.sum(predicted != data.y_test)),
    )


def report_results(
    data: StudyData,
    results: Sequence[RunResult],
    advice: Sequence[str],
    report: Report,
) -> Verdict:
    """Report the results of every model, the verdict and advice; return the verdict."""
    groups = group_by_model(results)
    for runs in groups.values():
        report("\n" + describe_model(data, runs))
    verdict = judge(
        [run.accuracy for run in groups[TRANSFER]],
        [run.accuracy for run in groups[SCRATCH]],
        len(data.y_test),
    )
    report(f"\nVerdict: {verdict.sentence}\n{verdict.reason}")
    report("\nWhat to try next:\n" + "\n".join(f"- {line}" for line in advice))
    return verdict


def describe_surroundings() -> dict[str, Any]:
    """Describe when the study began, and on what it runs."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": list_versions(),
        "hardware": describe_hardware(),
    }
