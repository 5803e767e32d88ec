"""The results of a study, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import classification_report, precision_recall_fscore_support

from sktransfer._displays.content.scores import spread
from sktransfer._displays.history import begins_with_probe
from sktransfer._study.data import StudyData
from sktransfer._study.verdict import Verdict

# Reported per model: the median, least and greatest of each over the seeds.
MEASURES = (
    "accuracy",
    "log_loss",
    "calibration_error",
    "precision",
    "recall",
    "f1",
    "seconds",
    "n_parameters",
    "n_epochs",
    "peak_memory",
)


@dataclass(frozen=True)
class RunResult:
    """One fit: its scores on the test images, its cost and its predictions.

    `log_loss` and `calibration_error` are those of `proba`. `seconds` and `peak_memory`
    (bytes) are those of the fit. `predictions` has shape (n_test,) and `proba` (n_test,
    n_classes). What is unknown of a model is None.
    """

    model: str
    seed: int
    accuracy: float
    precision: float
    recall: float
    f1: float
    log_loss: float | None
    calibration_error: float | None
    seconds: float
    n_parameters: int | None
    n_epochs: int | None
    peak_memory: int | None
    predictions: np.ndarray = field(repr=False, compare=False)
    proba: np.ndarray | None = field(repr=False, compare=False)


def group_by_model(results: Iterable[RunResult]) -> dict[str, list[RunResult]]:
    """Group results by model, in the order of their first results."""
    groups: dict[str, list[RunResult]] = {}
    for result in results:
        groups.setdefault(result.model, []).append(result)
    return groups


def _describe_accuracy(accuracy: Sequence[float]) -> str:
    """Return the median and the range in words, or the only value."""
    if len(accuracy) == 1:
        return f"{accuracy[0]:.1%}, one seed"
    return (
        f"median {np.median(accuracy):.1%}, from {min(accuracy):.1%} to "
        f"{max(accuracy):.1%} over {len(accuracy)} seeds"
    )


def describe_model(data: StudyData, runs: Sequence[RunResult]) -> str:
    """Return the text about one model: the last seed's report, then all seeds."""
    last = runs[-1]
    accuracy = [run.accuracy for run in runs]
    macro = {
        word: float(np.median([getattr(run, word) for run in runs]))
        for word in ("precision", "recall", "f1")
    }
    table = classification_report(
        data.y_test,
        last.predictions,
        labels=data.labels,
        target_names=data.names,
        zero_division=0,
    )
    seconds = float(np.median([run.seconds for run in runs]))
    size = "unknown" if last.n_parameters is None else f"{last.n_parameters:,}"
    epochs = sorted({run.n_epochs for run in runs if run.n_epochs is not None})
    lines = [
        f"== {last.model} (report of seed {last.seed}) ==",
        table.rstrip(),
        f"accuracy: {_describe_accuracy(accuracy)}",
        f"macro mean: precision {macro['precision']:.3f}, "
        f"recall {macro['recall']:.3f}, F1 {macro['f1']:.3f}",
        *_describe_proba(runs),
        f"training: {seconds:.1f} s per fit, {size} trainable parameters",
    ]
    if epochs:
        lines.append(f"epochs run: {', '.join(map(str, epochs))}")
    return "\n".join(lines)


def _describe_proba(runs: Sequence[RunResult]) -> list[str]:
    """Return a line on the probabilities of a model, or none if it gives none."""
    losses = [run.log_loss for run in runs if run.log_loss is not None]
    errors = [r.calibration_error for r in runs if r.calibration_error is not None]
    if not losses or not errors:
        return []
    return [
        f"probabilities: log loss {np.median(losses):.3f}, calibration error "
        f"{np.median(errors):.1%}"
    ]


def summarise(results: Iterable[RunResult]) -> dict[str, dict[str, Any]]:
    """Return median, least and greatest of each measure, by model; None if unknown."""
    return {
        model: {measure: _summarise_measure(runs, measure) for measure in MEASURES}
        for model, runs in group_by_model(results).items()
    }


def _summarise_measure(
    runs: Sequence[RunResult], measure: str
) -> dict[str, float] | None:
    """Return median, least and greatest over the seeds; None if a seed has none."""
    values = [getattr(run, measure) for run in runs]
    return None if None in values else spread(values)._asdict()


def score_classes(data: StudyData, run: RunResult) -> list[dict[str, Any]]:
    """Return the scores of each class, in [0, 1], and its numbers of images."""
    precision, recall, f1, n_test = precision_recall_fscore_support(
        data.y_test, run.predictions, labels=data.labels, zero_division=0
    )
    return [
        {
            "class": name,
            "precision": float(precision[i]),
            "recall": float(recall[i]),
            "f1": float(f1[i]),
            "n_test": int(n_test[i]),
            "n_train": int(np.sum(data.y_train == data.labels[i])),
        }
        for i, name in enumerate(data.names)
    ]


def describe_network(model: Any) -> dict[str, Any] | None:
    """Describe the stages of a fitted model, and what learned; None without a net."""
    if not hasattr(model, "net_"):
        return None
    modules = list(model.net_.module_.items())
    stages = []
    for i, (name, module) in enumerate(modules):
        sizes = [(p.numel(), p.requires_grad) for p in module.parameters()]
        # Counted from the output, as `unfreeze_depth` is.
        depth = len(modules) - 1 - i
        epochs = (
            row["epoch"]
            for row in model.history_
            if row.get("unfreeze_depth", depth) >= depth
        )
        stages.append(
            {
                "name": name,
                "n_parameters": sum(size for size, _ in sizes),
                "n_trained": sum(size for size, learns in sizes if learns),
                "first_epoch": next(epochs, None),
            }
        )
    return {
        "stages": stages,
        "n_parameters": sum(stage["n_parameters"] for stage in stages),
        "n_trained": sum(stage["n_trained"] for stage in stages),
        "n_epochs": model.n_iter_,
        "device": model.device_,
        "precision": model.precision_,
        "backbone": _name_backbone(model),
        "image_size": find_seen_size(model),
        "max_epochs": getattr(model, "max_epochs", None),
        "best_epoch": model.best_epoch_,
        "starts_solved": begins_with_probe(model),
        "depth_reason": getattr(model, "depth_reason_", None),
        "history": [_clean(row) for row in model.history_],
        "n_activations_found": model.cache_info_.hits,
        "n_activations_new": model.cache_info_.misses,
    }


def _name_backbone(model: Any) -> str | None:
    """Return the name of a model's backbone; None if it has none."""
    backbone = getattr(model, "backbone", None)
    return getattr(backbone, "name", backbone)


def find_seen_size(model: Any) -> list[int]:
    """Return height and width in pixels of what the network of a model sees."""
    preprocess = model.net_.module_.preprocess
    size = getattr(preprocess, "image_size", None) or model.image_shape_[:2]
    return [int(side) for side in size]


def _clean(row: Mapping[str, Any]) -> dict[str, Any]:
    """Keep the numbers of a row of the history, ready for JSON."""
    return {key: value for key, value in row.items() if isinstance(value, (int, float))}


def collect_content(
    data: StudyData,
    settings: Mapping[str, str],
    results: Sequence[RunResult],
    about: Mapping[str, Any],
    verdict: Verdict | None = None,
    advice: Sequence[str] = (),
) -> dict[str, Any]:
    """Collect everything about a study except its predictions, ready for JSON.

    `about` says where and how it ran; its items are added unchanged.
    """
    runs = [asdict(result) for result in results]
    for run in runs:
        del run["predictions"], run["proba"]
    return {
        "data": data.name,
        "images": data.images,
        "image_size": list(data.image_size),
        "n_train": len(data.y_train),
        "n_test": len(data.y_test),
        "classes": list(data.names),
        "settings": dict(settings),
        "runs": runs,
        "summary": summarise(results),
        "per_class": {
            model: score_classes(data, runs[-1])
            for model, runs in group_by_model(results).items()
        },
        **about,
        "verdict": None if verdict is None else verdict.sentence,
        "reason": None if verdict is None else verdict.reason,
        "advice": list(advice),
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the content of a study to a file."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
