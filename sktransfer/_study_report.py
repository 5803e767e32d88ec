"""What the fits of a study gave, told as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from sklearn.metrics import classification_report

from sktransfer._study_data import StudyData


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


def _over_seeds(accuracy: Sequence[float]) -> str:
    """Mean and range, or the only one."""
    if len(accuracy) == 1:
        return f"{accuracy[0]:.1%}, one seed"
    return (
        f"mean {np.mean(accuracy):.1%}, from {min(accuracy):.1%} to "
        f"{max(accuracy):.1%} over {len(accuracy)} seeds"
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
        f"accuracy: {_over_seeds(accuracy)}",
        f"macro mean: precision {macro['precision']:.3f}, "
        f"recall {macro['recall']:.3f}, F1 {macro['f1']:.3f}",
        f"training: {seconds:.1f} s a fit, {size} trainable parameters",
    ]
    if epochs:
        lines.append(f"epochs run: {', '.join(map(str, epochs))}")
    return "\n".join(lines)


def write_json(
    path: Path,
    data: StudyData,
    settings: Mapping[str, str],
    results: Sequence[RunResult],
    conclusion: str | None,
) -> None:
    """Write every run without its predictions, sizes, settings and the verdict."""
    runs = [asdict(result) for result in results]
    for run in runs:
        del run["predictions"]
    content = {
        "data": data.name,
        "n_train": len(data.y_train),
        "n_test": len(data.y_test),
        "classes": list(data.names),
        "settings": dict(settings),
        "runs": runs,
        "verdict": conclusion,
    }
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
