"""ModelComparisonDisplay: the scores of models against what they cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sklearn.base import is_classifier
from sklearn.utils.validation import check_consistent_length, check_is_fitted

from sktransfer._displays.content.scores import (
    COSTS,
    METRICS,
    Values,
    check_classes,
    check_costs,
    check_known,
    check_truth,
    collect_classes,
    collect_costs,
    compute_scores,
    list_seeds,
    make_rows,
    split_seeds,
    spread,
)
from sktransfer._displays.drawing.comparison_marks import (
    draw_legend,
    draw_model,
    figure_size,
    legend_label,
    legend_title,
    set_axes,
)
from sktransfer._displays.drawing.panels import (
    check_matplotlib,
    clear_drawn,
    make_axes,
    remember_drawn,
)
from sktransfer._images.containers import refuse_bad_container

MIB = 2**20


class ModelComparisonDisplay:
    """Accuracy of models against the seconds, parameters or memory they cost.

    Each seed is a faint point. A large marker shows the median of a model, and bars
    reach from its least to its greatest value. It is recommended to create a display
    with :meth:`from_estimators` or :meth:`from_predictions`. All parameters are stored
    as attributes.

    Parameters
    ----------
    accuracy : mapping of str to list of float
        Accuracy in [0, 1] of each seed of a model, by the name of the model.

    f1_macro : mapping of str to list of float
        Mean of the F1 scores of all classes, in [0, 1], likewise. The classes are the
        same for every model and seed. A class that is never predicted counts as 0.

    seconds : mapping of str to list of float or None, default=None
        Seconds of each fit; ``None`` if unknown.

    n_parameters : mapping of str to list of float or None, default=None
        Number of parameters that each fit trained; ``None`` if unknown.

    peak_memory : mapping of str to list of float or None, default=None
        Peak memory of each fit in bytes; ``None`` if unknown.

    x : {"seconds", "n_parameters", "peak_memory"}, default="seconds"
        What the x-axis shows.

    y_metric : {"accuracy", "f1_macro"}, default="accuracy"
        What the y-axis shows.

    Attributes
    ----------
    ax_ : matplotlib Axes
        The axes that the models are drawn into.

    figure_ : matplotlib Figure
        The figure that contains it.

    See Also
    --------
    TrainingHistoryDisplay : Loss and accuracy of one fit, epoch by epoch.

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

    __module__ = "sktransfer"

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
        seconds: Mapping[str, Any] | None = None,
        n_parameters: Mapping[str, Any] | None = None,
        peak_memory: Mapping[str, Any] | None = None,
        x: str = "seconds",
        y_metric: str = "accuracy",
        ax: Any = None,
    ) -> ModelComparisonDisplay:
        """Predict once with each estimator, and draw the comparison.

        Seconds are taken from ``fit_time_``, and the number of trained parameters from
        ``net_``: of the last step of a pipeline, and of the refitted best estimator of
        a search. scikit-learn's own classifiers have neither, and no estimator keeps
        its peak memory: pass what you measured. After several fits with
        ``warm_start=True``, ``fit_time_`` is the time of the last fit only: pass the
        sum.

        Parameters
        ----------
        estimators : mapping of str to fitted classifier, or to list of them
            Estimators by the name of the model; a list has one estimator per seed.

        X : array-like
            Images, in any form that ``predict`` accepts.

        y : array-like of shape (n_images,)
            Labels of the images.

        seconds, n_parameters, peak_memory : mapping of str to number or list, \
default=None
            Seconds of the fit, number of trained parameters and peak memory in bytes,
            by the name of the model: one number per seed, or one for all. They replace
            the values of the estimators themselves.

        x : {"seconds", "n_parameters", "peak_memory"}, default="seconds"
            What the x-axis shows. It is logarithmic if the values span more than a
            factor of 10.

        y_metric : {"accuracy", "f1_macro"}, default="accuracy"
            What the y-axis shows. Macro F1 is the mean over all classes that are in
            `y`, in the ``classes_`` of an estimator or in a prediction.

        ax : matplotlib Axes, default=None
            Axes to draw into; ``None`` creates a figure.

        Returns
        -------
        ModelComparisonDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If a parameter is not a mapping, or `X` is not a set of images.
        ValueError
            If there are no models, a model has no estimators, a number is wrong, `x` is
            unknown for a model, or `X` and `y` differ in length.
        NotFittedError
            If an estimator is not fitted.

        See Also
        --------
        ModelComparisonDisplay.from_predictions : Compare predictions that are known.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sklearn.datasets import load_digits
        >>> from sklearn.linear_model import RidgeClassifier
        >>> from sklearn.naive_bayes import GaussianNB
        >>> from sktransfer import ModelComparisonDisplay
        >>> X, y = load_digits(return_X_y=True)
        >>> models = {"Bayes": GaussianNB(), "ridge": RidgeClassifier()}
        >>> for model in models.values():
        ...     model.fit(X[:1000], y[:1000])
        GaussianNB()
        RidgeClassifier()
        >>> display = ModelComparisonDisplay.from_estimators(
        ...     models, X[1000:], y[1000:], seconds={"Bayes": 0.002, "ridge": 0.005}
        ... )
        >>> plt.show()
        """
        check_matplotlib(f"{cls.__name__}.from_estimators")
        _check_options(x, y_metric)
        models = {
            n: list_seeds(e) for n, e in _check_models(estimators, "estimators").items()
        }
        counts = {name: len(seeds) for name, seeds in models.items()}
        _check_not_empty(counts, "estimators")
        for name, seeds in models.items():
            _check_classifiers(name, seeds)
        known = collect_costs(
            models,
            {
                "seconds": seconds,
                "n_parameters": n_parameters,
                "peak_memory": peak_memory,
            },
        )
        # Errors must not wait for the predictions, which may take long.
        check_known(known[x], x)
        refuse_bad_container(X)
        truth = check_truth(y)
        check_consistent_length(X, truth)
        predictions = {
            name: [estimator.predict(X) for estimator in seeds]
            for name, seeds in models.items()
        }
        display = cls(
            **compute_scores(
                truth, predictions, collect_classes(models, truth, predictions)
            ),
            **known,
            x=x,
            y_metric=y_metric,
        )
        return display.plot(ax)

    @classmethod
    def from_predictions(
        cls,
        y_true: Any,
        predictions: Mapping[str, Any],
        *,
        labels: Any = None,
        seconds: Mapping[str, Any] | None = None,
        n_parameters: Mapping[str, Any] | None = None,
        peak_memory: Mapping[str, Any] | None = None,
        x: str = "seconds",
        y_metric: str = "accuracy",
        ax: Any = None,
    ) -> ModelComparisonDisplay:
        """Draw the comparison of models whose predictions are known.

        Parameters
        ----------
        y_true : array-like of shape (n_images,)
            True labels of the images.

        predictions : mapping of str to array-like of shape (n_images,), or to list
            Predicted labels, by the name of the model. For several seeds, pass a list
            of arrays, or an array of shape (n_seeds, n_images).

        labels : array-like of shape (n_classes,), default=None
            All classes that macro F1 averages over; ``None`` takes those in `y_true`
            and in any prediction.

        seconds, n_parameters, peak_memory : mapping of str to number or list, \
default=None
            Seconds of the fit, number of trained parameters and peak memory in bytes,
            by the name of the model: one number per seed, or one for all. Only those of
            `x` are required for every model.

        x : {"seconds", "n_parameters", "peak_memory"}, default="seconds"
            What the x-axis shows. It is logarithmic if the values span more than a
            factor of 10.

        y_metric : {"accuracy", "f1_macro"}, default="accuracy"
            What the y-axis shows. Macro F1 is scikit-learn's ``f1_score`` with
            ``average="macro"``.

        ax : matplotlib Axes, default=None
            Axes to draw into; ``None`` creates a figure.

        Returns
        -------
        ModelComparisonDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If a parameter is not a mapping.
        ValueError
            If there are no models, lengths differ, a name is unknown, a number is
            wrong, `labels` omits a label that occurs, or `x` is unknown for a model.

        See Also
        --------
        ModelComparisonDisplay.from_estimators : Predict with fitted estimators.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sktransfer import ModelComparisonDisplay
        >>> display = ModelComparisonDisplay.from_predictions(
        ...     ["cat", "dog"], {"a": ["cat", "dog"]}, seconds={"a": 3.1}
        ... )
        >>> plt.show()
        """
        check_matplotlib(f"{cls.__name__}.from_predictions")
        _check_options(x, y_metric)
        truth = check_truth(y_true)
        of_seeds = {
            name: split_seeds(predicted, len(truth))
            for name, predicted in _check_models(predictions, "predictions").items()
        }
        counts = {name: len(seeds) for name, seeds in of_seeds.items()}
        _check_not_empty(counts, "predictions")
        given = (seconds, n_parameters, peak_memory)
        display = cls(
            **compute_scores(truth, of_seeds, check_classes(labels, truth, of_seeds)),
            **{
                what: check_costs(values, counts, what)
                for what, values in zip(COSTS, given, strict=True)
            },
            x=x,
            y_metric=y_metric,
        )
        return display.plot(ax)

    def plot(
        self, ax: Any = None, *, x: str | None = None, y_metric: str | None = None
    ) -> ModelComparisonDisplay:
        """Draw the models, without predicting again.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into, with the legend inside; ``None`` creates a figure with
            the legend beside the axes.

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
        ImportError
            If matplotlib is not installed.
        ValueError
            If `x` or `y_metric` is not an option, or `x` is unknown for a model.
        """
        x = self.x if x is None else x
        y_metric = self.y_metric if y_metric is None else y_metric
        _check_options(x, y_metric)
        ys: Values = getattr(self, y_metric)
        known: Values = getattr(self, x) or {}
        check_known({name: known.get(name) for name in ys}, x)
        unit = MIB if x == "peak_memory" else 1
        xs = {name: [v / unit for v in known[name] or ()] for name in ys}
        counts = {name: len(values or ()) for name, values in ys.items()}
        of_y = {name: spread(values or ()) for name, values in ys.items()}
        labels = [legend_label(n, of_y[n], counts[n], y_metric) for n in ys]
        title = legend_title(counts, y_metric)
        is_alone = ax is None
        ax = make_axes(ax, *figure_size(title, labels), f"{type(self).__name__}.plot")
        clear_drawn(ax)
        others = set(ax.get_children())
        for i, (name, label) in enumerate(zip(ys, labels, strict=True)):
            seeds = (xs[name], ys[name] or ())
            draw_model(ax, i, seeds, (spread(xs[name]), of_y[name]), label)
        set_axes(ax, x, y_metric, [v for values in xs.values() for v in values])
        draw_legend(ax, title, labels, is_alone)
        remember_drawn(ax, (own for own in ax.get_children() if own not in others))
        self.ax_, self.figure_ = ax, ax.figure
        return self

    def to_table(self) -> list[dict[str, Any]]:
        """Return the numbers that are drawn.

        Returns
        -------
        list of dict
            One row per model, with ``model``, ``n_seeds``, and, for each of
            ``accuracy``, ``f1_macro``, ``seconds``, ``n_parameters`` and
            ``peak_memory`` (bytes), ``<name>_median``, ``<name>_min`` and
            ``<name>_max`` over the seeds; ``None`` if unknown.
        """
        return make_rows({w: getattr(self, w) or {} for w in (*METRICS, *COSTS)})


def _check_models(models: Any, what: str) -> Mapping[str, Any]:
    """Return the models; TypeError if not a mapping, ValueError if it is empty."""
    if not isinstance(models, Mapping):
        raise TypeError(
            f"{what} must be a mapping of model names to {what}; got "
            f"{type(models).__name__}. Pass {{'name': ...}}."
        )
    if not models:
        raise ValueError(f"{what} is empty; pass at least one model.")
    return models


def _check_not_empty(n_seeds: Mapping[str, int], what: str) -> None:
    """Raise a ValueError if the list of a model is empty."""
    for name, n in n_seeds.items():
        if not n:
            raise ValueError(f"{what}[{name!r}] is empty; pass one item per seed.")


def _check_classifiers(name: str, seeds: Sequence[Any]) -> None:
    """Raise an error unless all estimators of a model are fitted classifiers."""
    for estimator in seeds:
        has_tags = hasattr(estimator, "__sklearn_tags__")
        # Regressors predict too, but these scores are for classes.
        if not (has_tags and is_classifier(estimator)):
            raise ValueError(
                f"Expected estimators[{name!r}] to be a classifier or a list of them. "
                f"Got {type(estimator).__name__} instead."
            )
        check_is_fitted(estimator)


def _check_options(x: str, y_metric: str) -> None:
    """Raise a ValueError if `x` or `y_metric` is not an option."""
    for parameter, value, options in (("x", x, COSTS), ("y_metric", y_metric, METRICS)):
        if value not in options:
            known = ", ".join(map(repr, options))
            raise ValueError(f"{parameter}={value!r} is unknown; pass one of {known}.")
