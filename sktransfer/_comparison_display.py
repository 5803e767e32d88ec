"""ModelComparisonDisplay: how good models are against what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.utils.validation import check_is_fitted, column_or_1d

from sktransfer._comparison import (
    COSTS,
    METRICS,
    Spread,
    Values,
    as_seeds,
    check_known,
    costs,
    fit_seconds,
    n_trainable,
    scores,
    seeds_of_labels,
    spans_decades,
    spread,
    table_rows,
)
from sktransfer._drawing import COLORS, MARKERS, axes_in, shortened
from sktransfer._shown_images import n_images

X_LABELS = {
    "seconds": "Training seconds",
    "n_parameters": "Parameters trained",
    "peak_memory": "Peak memory, MiB",
}
Y_LABELS = {"accuracy": "Accuracy", "f1_macro": "Macro F1"}
MIB = 2**20
# Inches: of the panel, and of a character of the legend beside it.
PANEL, CHARACTER = (5.8, 4.2), 0.078
MOST_CHARACTERS = 32
# Of a log axis; asked for fewer, matplotlib leaves out decades between others.
MOST_TICKS = 20


class ModelComparisonDisplay:
    """Accuracy of models against the seconds, parameters or memory they cost.

    Every seed is a faint point, a large marker is the median of a model, and bars
    reach from the least to the greatest value. It is recommended to use
    :meth:`from_estimators` or :meth:`from_predictions` to create a display. All
    parameters are stored as attributes.

    Parameters
    ----------
    accuracy : mapping of str to list of float
        Accuracy in [0, 1] of each seed of a model, by the name of the model.

    f1_macro : mapping of str to list of float
        Mean of the F1 of all classes, in [0, 1], likewise.

    seconds : mapping of str to list of float or None, default=None
        Seconds of each fit; ``None`` where unknown.

    n_parameters : mapping of str to list of float or None, default=None
        Parameters that each fit trained; ``None`` where unknown.

    peak_memory : mapping of str to list of float or None, default=None
        Greatest memory of each fit in bytes; ``None`` where unknown.

    x : {"seconds", "n_parameters", "peak_memory"}, default="seconds"
        What the x-axis shows.

    y_metric : {"accuracy", "f1_macro"}, default="accuracy"
        What the y-axis shows.

    Attributes
    ----------
    ax_ : Axes
        The panel.

    figure_ : Figure
        The figure that holds it.

    See Also
    --------
    TrainingHistoryDisplay : How one fit went, epoch by epoch.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sktransfer import ModelComparisonDisplay
    >>> display = ModelComparisonDisplay.from_predictions(
    ...     ["cat", "dog", "dog", "cat"],
    ...     {
    ...         "transfer": [
    ...             ["cat", "dog", "dog", "cat"],
    ...             ["cat", "dog", "dog", "dog"],
    ...         ],
    ...         "scratch": ["cat", "dog", "cat", "dog"],
    ...     },
    ...     seconds={"transfer": [3.1, 2.9], "scratch": 41.0},
    ... )
    >>> display.to_table()[0]["accuracy_median"]
    0.875
    >>> plt.show()
    """

    def __init__(
        self,
        *,
        accuracy: Values,
        f1_macro: Values,
        seconds: Values | None = None,
        n_parameters: Values | None = None,
        peak_memory: Values | None = None,
        x: str = "seconds",
        y_metric: str = "accuracy",
    ) -> None:
        self.accuracy = accuracy
        self.f1_macro = f1_macro
        self.seconds = seconds
        self.n_parameters = n_parameters
        self.peak_memory = peak_memory
        self.x = x
        self.y_metric = y_metric

    @classmethod
    def from_estimators(
        cls,
        estimators: Mapping[str, Any],
        X: Any,
        y: Any,
        *,
        x: str = "seconds",
        y_metric: str = "accuracy",
        ax: Any = None,
    ) -> ModelComparisonDisplay:
        """Predict with every estimator, once, and draw how they compare.

        Seconds are ``fit_time_``, and parameters are those that ``net_`` trained. In
        a pipeline the last step has them, and in a search its best estimator, refit.
        scikit-learn's own classifiers have neither: pass what you measured to
        :meth:`from_predictions`.

        Parameters
        ----------
        estimators : mapping of str to fitted classifier, or to list of them
            By the name of the model; those of a list differ in their seeds.

        X : array-like
            Images, as for ``predict``.

        y : array-like of shape (n_images,)
            Their labels.

        x : {"seconds", "n_parameters"}, default="seconds"
            What the x-axis shows.

        y_metric : {"accuracy", "f1_macro"}, default="accuracy"
            What the y-axis shows.

        ax : Axes, default=None
            Axes to draw into; by default those of a new figure.

        Returns
        -------
        ModelComparisonDisplay
            The display, drawn.

        Raises
        ------
        NotFittedError
            If an estimator is not fitted.
        ValueError
            If there is no model, a model has no estimator or no known `x`, or `X` and
            `y` differ in length.
        """
        _check_options(x, y_metric)
        models = {n: as_seeds(e) for n, e in _checked(estimators, "estimators").items()}
        counts = {name: len(seeds) for name, seeds in models.items()}
        _check_any(counts, "estimators")
        for name, seeds in models.items():
            _check_classifiers(name, seeds)
        measures = {"seconds": fit_seconds, "n_parameters": n_trainable}
        known = {
            what: costs(
                {n: [measure(e) for e in s] for n, s in models.items()}, counts, what
            )
            for what, measure in measures.items()
        }
        # Before the predictions: an error must not wait until they are computed.
        check_known(known.get(x, dict.fromkeys(models)), x)
        labels = column_or_1d(y, warn=True)
        if n_images(X) != len(labels):
            raise ValueError(
                "Found input variables with inconsistent numbers of samples: "
                f"{[n_images(X), len(labels)]}"
            )
        predictions = {
            name: [estimator.predict(X) for estimator in seeds]
            for name, seeds in models.items()
        }
        return cls.from_predictions(
            labels, predictions, **known, x=x, y_metric=y_metric, ax=ax
        )

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        predictions: Mapping[str, Any],
        *,
        seconds: Mapping[str, Any] | None = None,
        n_parameters: Mapping[str, Any] | None = None,
        peak_memory: Mapping[str, Any] | None = None,
        x: str = "seconds",
        y_metric: str = "accuracy",
        ax: Any = None,
    ) -> ModelComparisonDisplay:
        """Draw how models compare whose predictions were computed before.

        Parameters
        ----------
        y_true : array-like of shape (n_images,)
            Labels of the images.

        predictions : mapping of str to array-like of shape (n_images,), or to list
            Predicted labels by the name of the model; a list has an array for each
            seed.

        seconds, n_parameters, peak_memory : mapping of str to number or list, \
default=None
            Seconds of the fit, parameters trained and greatest memory in bytes, by
            the name of the model: a number for each seed, or one for all. Models may
            be left out of those that are not drawn.

        x : {"seconds", "n_parameters", "peak_memory"}, default="seconds"
            What the x-axis shows. It is logarithmic where its values span more than
            a factor of 10.

        y_metric : {"accuracy", "f1_macro"}, default="accuracy"
            What the y-axis shows. Macro F1 is scikit-learn's ``f1_score`` with
            ``average="macro"``.

        ax : Axes, default=None
            Axes to draw into; by default those of a new figure.

        Returns
        -------
        ModelComparisonDisplay
            The display, drawn.

        Raises
        ------
        ValueError
            If there is no model, lengths differ, a name is unknown, or `x` is not
            known for a model.
        """
        _check_options(x, y_metric)
        of_seeds = {
            name: seeds_of_labels(labels)
            for name, labels in _checked(predictions, "predictions").items()
        }
        counts = {name: len(seeds) for name, seeds in of_seeds.items()}
        _check_any(counts, "predictions")
        by_model = {name: scores(y_true, seeds) for name, seeds in of_seeds.items()}
        given = (seconds, n_parameters, peak_memory)
        display = cls(
            **{m: {n: found[m] for n, found in by_model.items()} for m in METRICS},
            **{
                what: costs(values, counts, what)
                for what, values in zip(COSTS, given, strict=True)
            },
            x=x,
            y_metric=y_metric,
        )
        return display.plot(ax)

    def plot(
        self, ax: Any = None, *, x: str | None = None, y_metric: str | None = None
    ) -> ModelComparisonDisplay:
        """Draw the models; nothing is predicted again.

        Parameters
        ----------
        ax : Axes, default=None
            Axes to draw into; by default those of a new figure.

        x : {"seconds", "n_parameters", "peak_memory"}, default=None
            What the x-axis shows; ``None`` is the display's own `x`.

        y_metric : {"accuracy", "f1_macro"}, default=None
            What the y-axis shows; ``None`` is the display's own `y_metric`.

        Returns
        -------
        ModelComparisonDisplay
            The display itself.

        Raises
        ------
        ValueError
            If `x` or `y_metric` is unknown, or `x` is not known for a model.
        """
        x = self.x if x is None else x
        y_metric = self.y_metric if y_metric is None else y_metric
        _check_options(x, y_metric)
        ys: Values = getattr(self, y_metric)
        known: Values = getattr(self, x) or {}
        check_known({name: known.get(name) for name in ys}, x)
        unit = MIB if x == "peak_memory" else 1
        xs = {name: [v / unit for v in known[name] or ()] for name in ys}
        labels = {n: _label(n, values or (), y_metric) for n, values in ys.items()}
        title = _legend_title(ys, y_metric)
        longest = max(map(len, "\n".join([title, *labels.values()]).split("\n")))
        width, height = PANEL
        ax = axes_in(
            ax, width + CHARACTER * longest, height, f"{type(self).__name__}.plot"
        )
        for i, (name, label) in enumerate(labels.items()):
            _draw_model(ax, i, xs[name], ys[name] or (), label)
        _set_axes(ax, x, y_metric, [v for values in xs.values() for v in values])
        ax.legend(
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            title=title,
            alignment="left",
            frameon=False,
        )
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def to_table(self) -> list[dict[str, Any]]:
        """The numbers behind the picture.

        Returns
        -------
        list of dict
            A row for each model: ``model``, ``n_seeds``, and for each of
            ``accuracy``, ``f1_macro``, ``seconds``, ``n_parameters`` and
            ``peak_memory`` (bytes) the values ``<name>_median``, ``<name>_min`` and
            ``<name>_max`` over the seeds, ``None`` where unknown.
        """
        return table_rows({w: getattr(self, w) or {} for w in (*METRICS, *COSTS)})


def _checked(models: Any, what: str) -> Mapping[str, Any]:
    """The models; TypeError unless they are a mapping, ValueError if it is empty."""
    if not isinstance(models, Mapping):
        raise TypeError(
            f"{what} must be a mapping of names to models; got "
            f"{type(models).__name__}. Pass {{'name': ...}}."
        )
    if not models:
        raise ValueError(f"{what} is empty; pass one model at least.")
    return models


def _check_any(n_seeds: Mapping[str, int], what: str) -> None:
    """Raise where a model has nothing in its list."""
    for name, n in n_seeds.items():
        if not n:
            raise ValueError(f"{what}[{name!r}] is empty; pass one for each seed.")


def _check_classifiers(name: str, seeds: Sequence[Any]) -> None:
    """Raise unless all are fitted estimators that predict."""
    for estimator in seeds:
        if not hasattr(estimator, "predict"):
            raise ValueError(
                f"Expected estimators[{name!r}] to be a classifier or a list of them. "
                f"Got {type(estimator).__name__} instead."
            )
        check_is_fitted(estimator)


def _check_options(x: str, y_metric: str) -> None:
    """Raise where an axis is asked to show what is unknown here."""
    for parameter, value, options in (("x", x, COSTS), ("y_metric", y_metric, METRICS)):
        if value not in options:
            known = ", ".join(map(repr, options))
            raise ValueError(f"{parameter}={value!r} is unknown; pass one of {known}.")


def _label(name: str, values: Sequence[float], y_metric: str) -> str:
    """Two lines of the legend: the name, then the spread and the number of seeds."""
    digits = ".1%" if y_metric == "accuracy" else ".3f"
    median, least, greatest = (format(value, digits) for value in spread(values))
    score = f"{median}, 1 seed"
    if len(values) > 1:
        score = f"{median} ({least} to {greatest}), {len(values)} seeds"
    return f"{shortened(name, MOST_CHARACTERS)}\n{score}"


def _legend_title(values: Values, y_metric: str) -> str:
    """What the numbers in the legend are."""
    has_seeds = any(len(seeds or ()) > 1 for seeds in values.values())
    spread_of = ", median (least to greatest)" if has_seeds else ""
    return Y_LABELS[y_metric] + spread_of


def _reach(found: Spread) -> list[list[float]] | None:
    """How far below and above the median an error bar reaches; None for no bar."""
    if found.least == found.greatest:
        return None
    return [[found.median - found.least], [found.greatest - found.median]]


def _draw_model(
    ax: Any, i: int, xs: Sequence[float], ys: Sequence[float], label: str
) -> None:
    """Draw a point for each seed, and the median with its bars."""
    color = COLORS[i % len(COLORS)]
    # Beyond as many models as colours, a colour comes back with another marker.
    marker = MARKERS[(i + i // len(COLORS)) % len(MARKERS)]
    ax.scatter(xs, ys, s=25, color=color, marker=marker, alpha=0.35, linewidths=0)
    x, y = spread(xs), spread(ys)
    ax.errorbar(
        x.median,
        y.median,
        xerr=_reach(x),
        yerr=_reach(y),
        color=color,
        marker=marker,
        markersize=9,
        markeredgecolor="white",
        markeredgewidth=0.7,
        linestyle="none",
        elinewidth=1.2,
        capsize=4,
        capthick=1.2,
        label=label,
    )


def _set_axes(ax: Any, x: str, y_metric: str, values: Sequence[float]) -> None:
    """Scales, ticks and names."""
    from matplotlib.ticker import (
        EngFormatter,
        FuncFormatter,
        LogLocator,
        NullFormatter,
        PercentFormatter,
    )

    if spans_decades(values):
        ax.set_xscale("log")
        few = not spans_decades(values, 1000)
        ax.xaxis.set_major_locator(
            LogLocator(subs=(1, 2, 5) if few else (1,), numticks=MOST_TICKS)
        )
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.set_xlim(0, 1.05 * max(values) or 1)
    plain = FuncFormatter(lambda value, _: f"{value:,.10g}")
    ax.xaxis.set_major_formatter(EngFormatter() if x == "n_parameters" else plain)
    ax.set_ylim(top=min(1.02, ax.get_ylim()[1]))
    if y_metric == "accuracy":
        ax.yaxis.set_major_formatter(PercentFormatter(1))
    ax.set(xlabel=X_LABELS[x], ylabel=Y_LABELS[y_metric])
    ax.grid(alpha=0.3)
