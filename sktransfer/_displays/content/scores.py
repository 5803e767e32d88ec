"""The numbers of a comparison of models: scores, costs and their spread over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils.multiclass import unique_labels
from sklearn.utils.validation import check_consistent_length, column_or_1d

from sktransfer._displays.content.predictions import walk_parts

METRICS = ("accuracy", "f1_macro")
COSTS = ("seconds", "n_parameters", "peak_memory")

# By model: one value per seed, or None if unknown.
Values = Mapping[str, Sequence[float] | None]


class Spread(NamedTuple):
    """Median, least and greatest value over the seeds."""

    median: float
    least: float
    greatest: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of the values of a model, one value per seed."""
    return Spread(float(np.median(values)), float(min(values)), float(max(values)))


def find_attribute(estimator: Any, attribute: str) -> Any:
    """Find a fitted attribute of an estimator, pipeline or search; None without it."""
    for part, _ in walk_parts(estimator):
        if hasattr(part, attribute):
            return getattr(part, attribute)
    return None


def count_trainable(estimator: Any) -> int | None:
    """Count the parameters that an estimator trained; None if it has no network."""
    net = find_attribute(estimator, "net_")
    if net is None:
        return None
    return int(sum(p.numel() for p in net.module_.parameters() if p.requires_grad))


def find_fit_seconds(estimator: Any) -> float | None:
    """Find the seconds that a fit took; None if the estimator did not measure them.

    For a pipeline, these are the seconds of its last step, for a search those of the
    final refit, and for ``warm_start=True`` those of the last fit alone.
    """
    seconds = find_attribute(estimator, "fit_time_")
    return None if seconds is None else float(seconds)


def list_seeds(value: Any) -> list[Any]:
    """Return a list with one item per seed; a single item becomes a list of one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def split_seeds(predictions: Any, n_images: int) -> list[np.ndarray]:
    """Return one array of labels per seed, given a list, rows or a single array."""
    if isinstance(predictions, (list, tuple)):
        are_seeds = not predictions or np.ndim(predictions[0])
    else:
        are_rows = isinstance(predictions, np.ndarray) and predictions.ndim == 2
        # A single column, such as that of a data frame, is one seed.
        are_seeds = are_rows and predictions.shape != (n_images, 1)
    return [
        column_or_1d(seed) for seed in (predictions if are_seeds else [predictions])
    ]


def check_truth(y_true: Any) -> np.ndarray:
    """Return `y_true` as an array (n_images,); ValueError if it is empty."""
    truth: np.ndarray = column_or_1d(y_true, warn=True)
    if not len(truth):
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is needed.")
    return truth


def check_classes(
    labels: Any, truth: np.ndarray, predictions: Mapping[str, Sequence[np.ndarray]]
) -> np.ndarray:
    """Return the classes that macro F1 averages over, for all models and seeds.

    Without `labels`, these are all classes in the truth or in any prediction.

    Raises
    ------
    ValueError
        If lengths differ, or `labels` omits a label that occurs or repeats one.
    """
    seeds = [seed for of_model in predictions.values() for seed in of_model]
    for seed in seeds:
        check_consistent_length(truth, seed)
    found = unique_labels(truth, *seeds)
    if labels is None:
        return np.asarray(found)
    classes: np.ndarray = column_or_1d(labels)
    known = classes.tolist()
    if len(set(known)) < len(known):
        raise ValueError(
            f"labels={known[:10]} contains a label twice; pass each label once."
        )
    unknown = [label for label in found.tolist() if label not in set(known)]
    if unknown:
        raise ValueError(
            f"labels={known[:10]} lacks labels that occur: {unknown[:5]}; pass all "
            "labels, or labels=None."
        )
    return classes


def collect_classes(
    models: Mapping[str, Sequence[Any]],
    truth: np.ndarray,
    predictions: Mapping[str, Sequence[np.ndarray]],
) -> np.ndarray:
    """Return all labels that occur, then those that an estimator could predict."""
    occur = check_classes(None, truth, predictions).tolist()
    for estimator in (estimator for seeds in models.values() for estimator in seeds):
        classes = np.asarray(getattr(estimator, "classes_", ())).tolist()
        occur += [label for label in classes if label not in occur]
    return np.array(occur)


def compute_scores(
    truth: np.ndarray,
    predictions: Mapping[str, Sequence[np.ndarray]],
    classes: np.ndarray,
) -> dict[str, dict[str, list[float]]]:
    """Compute accuracy and macro F1, in [0, 1], by model, one value per seed."""
    options = {"labels": classes, "average": "macro", "zero_division": 0}
    return {
        "accuracy": {
            name: [float(accuracy_score(truth, seed)) for seed in seeds]
            for name, seeds in predictions.items()
        },
        "f1_macro": {
            name: [float(f1_score(truth, seed, **options)) for seed in seeds]
            for name, seeds in predictions.items()
        },
    }


def check_costs(
    given: Mapping[str, Any] | None, n_seeds: Mapping[str, int], what: str
) -> dict[str, list[float] | None]:
    """Check one cost of all models: one value per seed, or one value for all seeds.

    Parameters
    ----------
    given : mapping of str to number or list, or None
        By the name of the model; missing models and None are unknown.

    n_seeds : mapping of str to int
        Number of seeds, for every model.

    what : str
        Name of the parameter, for errors.

    Returns
    -------
    dict of str to list of float or None
        For every model, one value per seed.

    Raises
    ------
    TypeError
        If `given` is not a mapping.
    ValueError
        If a name, the number of values or a value is wrong.
    """
    given = {} if given is None else given
    if not isinstance(given, Mapping):
        raise TypeError(
            f"{what} must be a mapping of model names to numbers; got "
            f"{type(given).__name__}. Pass {{'name': ...}}."
        )
    unknown = [name for name in given if name not in n_seeds]
    if unknown:
        raise ValueError(
            f"{what} names models that have no predictions: {unknown}; the models "
            f"are {list(n_seeds)}."
        )
    return {
        name: _check_cost(given.get(name), n, f"{what}[{name!r}]")
        for name, n in n_seeds.items()
    }


def collect_costs(
    models: Mapping[str, Sequence[Any]], given: Mapping[str, Mapping[str, Any] | None]
) -> dict[str, dict[str, list[float] | None]]:
    """Return each cost by model: as passed, else as measured by its estimators."""
    n_seeds = {name: len(seeds) for name, seeds in models.items()}
    measures = {"seconds": find_fit_seconds, "n_parameters": count_trainable}
    known = {what: check_costs(values, n_seeds, what) for what, values in given.items()}
    for what, measure in measures.items():
        found = {name: [measure(e) for e in seeds] for name, seeds in models.items()}
        for name, values in check_costs(found, n_seeds, what).items():
            if known[what][name] is None:
                known[what][name] = values
    return known


def _check_cost(value: Any, n_seeds: int, what: str) -> list[float] | None:
    """Return one number per seed, finite and not negative; None if any is unknown."""
    numbers = list(value) if np.ndim(value) else [value] * n_seeds
    if len(numbers) != n_seeds:
        raise ValueError(
            f"{what} has {len(numbers)} values, but there are {n_seeds} seeds; pass "
            "one value per seed, or a single value for all."
        )
    if any(number is None for number in numbers):
        return None
    bad = [number for number in numbers if not _is_cost(number)]
    if bad:
        raise ValueError(
            f"{what} must hold finite numbers of 0 or more; got {bad[0]!r}."
        )
    return [float(number) for number in numbers]


def _is_cost(value: Any) -> bool:
    """Whether a value is a finite number of 0 or more."""
    is_number = np.ndim(value) == 0 and np.asarray(value).dtype.kind in "iuf"
    return is_number and bool(np.isfinite(value) and value >= 0)


def check_known(values: Values, what: str) -> None:
    """Raise a ValueError if the quantity to draw is unknown for a model."""
    for name, numbers in values.items():
        if numbers is None:
            raise ValueError(
                f"{what} of model {name!r} is unknown; pass {what}={{{name!r}: ...}} "
                "when the display is created, or choose another x."
            )


def make_rows(quantities: Mapping[str, Values]) -> list[dict[str, Any]]:
    """Make one row per model: seeds, and the spread of every quantity over them.

    `quantities` maps names, among them accuracy, to the values of all models.
    """
    rows = []
    for model, accuracy in quantities["accuracy"].items():
        row: dict[str, Any] = {"model": model, "n_seeds": len(accuracy or ())}
        for what, values in quantities.items():
            numbers = values.get(model)
            found = (None,) * 3 if numbers is None else spread(numbers)
            words = (f"{what}_median", f"{what}_min", f"{what}_max")
            row.update(zip(words, found, strict=True))
        rows.append(row)
    return rows
