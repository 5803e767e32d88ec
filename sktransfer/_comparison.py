"""Models side by side, as numbers: scores, costs and their spread over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.metrics import accuracy_score, f1_score
from sklearn.utils.validation import check_consistent_length, column_or_1d

METRICS = ("accuracy", "f1_macro")
COSTS = ("seconds", "n_parameters", "peak_memory")

# A value a seed; None where it is unknown.
Values = Mapping[str, Sequence[float] | None]


class Spread(NamedTuple):
    """Median, least and greatest value of the seeds."""

    median: float
    least: float
    greatest: float


def spread(values: Sequence[float]) -> Spread:
    """The spread of the values of one model, one a seed."""
    return Spread(float(np.median(values)), float(min(values)), float(max(values)))


def fitted_parts(estimator: Any) -> Iterator[Any]:
    """The estimator, then the last step of a pipeline or the best of a search."""
    while estimator is not None:
        yield estimator
        steps = getattr(estimator, "steps", None)
        inner = getattr(estimator, "best_estimator_", None)
        estimator = steps[-1][1] if steps else inner


def found_in(estimator: Any, attribute: str) -> Any:
    """A fitted attribute of an estimator, pipeline or search; None without it."""
    for part in fitted_parts(estimator):
        if hasattr(part, attribute):
            return getattr(part, attribute)
    return None


def n_trainable(estimator: Any) -> int | None:
    """How many parameters a fitted estimator trained; None where it has no net."""
    net = found_in(estimator, "net_")
    if net is None:
        return None
    return int(sum(p.numel() for p in net.module_.parameters() if p.requires_grad))


def fit_seconds(estimator: Any) -> float | None:
    """Seconds that the fit of an estimator took; None where it did not measure it.

    Of a pipeline, those of its last step; of a search, of the refit of the best.
    """
    seconds = found_in(estimator, "fit_time_")
    return None if seconds is None else float(seconds)


def as_seeds(value: Any) -> list[Any]:
    """A list of one thing a seed, of such a list or of the only one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def seeds_of_labels(predictions: Any) -> list[Any]:
    """One array of labels a seed, of a list of them or of the only one."""
    if isinstance(predictions, (list, tuple)):
        are_arrays = not predictions or np.ndim(predictions[0])
    else:
        are_arrays = isinstance(predictions, np.ndarray) and predictions.ndim == 2
    return list(predictions) if are_arrays else [predictions]


def scores(y_true: Any, predictions: Sequence[Any]) -> dict[str, list[float]]:
    """Accuracy and macro F1 of each array of predicted labels, in [0, 1].

    Raises
    ------
    ValueError
        If lengths differ, or are 0.
    """
    truth = column_or_1d(y_true)
    if not len(truth):
        raise ValueError("Found array with 0 sample(s) while a minimum of 1 is needed.")
    accuracy, f1 = [], []
    for predicted in predictions:
        labels = column_or_1d(predicted)
        check_consistent_length(truth, labels)
        accuracy.append(float(accuracy_score(truth, labels)))
        f1.append(float(f1_score(truth, labels, average="macro", zero_division=0)))
    return {"accuracy": accuracy, "f1_macro": f1}


def costs(
    given: Mapping[str, Any] | None, n_seeds: Mapping[str, int], what: str
) -> dict[str, list[float] | None]:
    """Values of each model, one a seed; a single number counts for every seed.

    Parameters
    ----------
    given : mapping of str to number or list, or None
        By name of the model; models left out, or None, are unknown.

    n_seeds : mapping of str to int
        Of every model.

    what : str
        Name of the parameter, for errors.

    Returns
    -------
    dict of str to list of float or None

    Raises
    ------
    ValueError
        If a name, a number of values or a value is wrong.
    """
    given = {} if given is None else given
    unknown = [name for name in given if name not in n_seeds]
    if unknown:
        raise ValueError(
            f"{what} names models that have no predictions: {unknown}; the models "
            f"are {list(n_seeds)}."
        )
    return {
        name: _cost(given.get(name), n, f"{what}[{name!r}]")
        for name, n in n_seeds.items()
    }


def _cost(value: Any, n_seeds: int, what: str) -> list[float] | None:
    """One number a seed, finite and not negative; None where any is unknown."""
    numbers = list(value) if np.ndim(value) else [value] * n_seeds
    if len(numbers) != n_seeds:
        raise ValueError(
            f"{what} has {len(numbers)} values, but there are {n_seeds} seeds; pass "
            "one value a seed, or one for all."
        )
    if any(number is None for number in numbers):
        return None
    bad = [number for number in numbers if not (np.isfinite(number) and number >= 0)]
    if bad:
        raise ValueError(f"{what} must hold finite numbers from 0 on; got {bad[0]!r}.")
    return [float(number) for number in numbers]


def check_known(values: Values, what: str) -> None:
    """Raise where a quantity that is to be drawn is unknown for a model."""
    for name, numbers in values.items():
        if numbers is None:
            raise ValueError(
                f"{what} of model {name!r} is unknown; pass {what}={{{name!r}: ...}} "
                "to ModelComparisonDisplay.from_predictions, or choose another x."
            )


def table_rows(quantities: Mapping[str, Values]) -> list[dict[str, Any]]:
    """One row a model: seeds, and median, least and greatest of every quantity.

    `quantities` maps their names to values of all models; accuracy is among them.
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


def spans_decades(values: Sequence[float], ratio: float = 10.0) -> bool:
    """Whether positive values span more than this factor, as on a log axis."""
    return min(values) > 0 and max(values) / min(values) > ratio
