"""ModelComparisonDisplay: how good models are against what they cost."""

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

    Every seed is a faint point, a large marker is the median of a model, and bars
    reach from the least to the greatest value. It is recommended to use
    :meth:`from_estimators` or :meth:`from_predictions` to create a display. All
    parameters are stored as attributes.

    Parameters
    ----------
    accuracy : mapping of str to list of float
        Accuracy in [0, 1] of each seed of a model, by the name of the model.

    f1_macro : mapping of str to list of float
        Mean of the F1 of all classes, in [0, 1], likewise. The classes are the same
        for every model and seed; one that a model never predicts counts as 0.

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
    ax_ : matplotlib Axes
        The panel.

    figure_ : matplotlib Figure
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
        """Predict with every estimator, once, and draw how they compare.

        Seconds are ``fit_time_``, and parameters are those that ``net_`` trained. In
        a pipeline the last step has them, and in a search its best estimator, refit.
        scikit-learn's own classifiers have neither, and nothing keeps its memory: pass
        what you measured. After several fits with ``warm_start=True``, ``fit_time_`` is
        the time of the last alone: pass the sum.

        Parameters
        ----------
        estimators : mapping of str to fitted classifier, or to list of them
            By the name of the model; those of a list differ in their seeds.

        X : array-like
            Images, as for ``predict``.

        y : array-like of shape (n_images,)
            Their labels.

        seconds, n_parameters, peak_memory : mapping of str to number or list, \
default=None
            Seconds of the fit, parameters trained and greatest memory in bytes, by
            the name of the model: a number for each seed, or one for all. They count
            instead of what the estimators tell themselves.

        x : {"seconds", "n_parameters", "peak_memory"}, default="seconds"
            What the x-axis shows. It is logarithmic where its values span more than
            a factor of 10.

        y_metric : {"accuracy", "f1_macro"}, default="accuracy"
            What the y-axis shows. Macro F1 is the mean over the classes in `y`, in
            the ``classes_`` of any estimator and in any prediction.

        ax : matplotlib Axes, default=None
            Axes to draw into; ``None`` makes a figure.

        Returns
        -------
        ModelComparisonDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        TypeError
            If a mapping is none, or `X` is no set of images.
        ValueError
            If there is no model, a model has no estimator, a number is wrong, `x` is
            not known for a model, or `X` and `y` differ in length.
        NotFittedError
            If an estimator is not fitted.

        See Also
        --------
        ModelComparisonDisplay.from_predictions : Predictions that are there already.

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
        # Before the predictions: an error must not wait until they are computed.
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
        """Draw how models compare whose predictions were computed before.

        Parameters
        ----------
        y_true : array-like of shape (n_images,)
            Labels of the images.

        predictions : mapping of str to array-like of shape (n_images,), or to list
            Predicted labels by the name of the model. Several seeds are a list of
            arrays, or the rows of an array of shape (n_seeds, n_images).

        labels : array-like of shape (n_classes,), default=None
            All classes, over which macro F1 is the mean; ``None`` takes those in
            `y_true` and in any prediction.

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

        ax : matplotlib Axes, default=None
            Axes to draw into; ``None`` makes a figure.

        Returns
        -------
        ModelComparisonDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            Without matplotlib.
        TypeError
            If a mapping is none.
        ValueError
            If there is no model, lengths differ, a name is unknown, a number is wrong,
            `labels` lack one that occurs, or `x` is not known for a model.

        See Also
        --------
        ModelComparisonDisplay.from_estimators : Predicts by itself.

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
        """Draw the models; nothing is predicted again.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes to draw into, with the legend inside; ``None`` makes a figure, with
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
            Without matplotlib.
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
        """The numbers behind the picture.

        Returns
        -------
        list of dict
            A row for each model: ``model``, ``n_seeds``, and for each of
            ``accuracy``, ``f1_macro``, ``seconds``, ``n_parameters`` and
            ``peak_memory`` (bytes) the values ``<name>_median``, ``<name>_min`` and
            ``<name>_max`` over the seeds, ``None`` where unknown.
        """
        return make_rows({w: getattr(self, w) or {} for w in (*METRICS, *COSTS)})


def _check_models(models: Any, what: str) -> Mapping[str, Any]:
    """The models; TypeError unless they are a mapping, ValueError if it is empty."""
    if not isinstance(models, Mapping):
        raise TypeError(
            f"{what} must be a mapping of names to models; got "
            f"{type(models).__name__}. Pass {{'name': ...}}."
        )
    if not models:
        raise ValueError(f"{what} is empty; pass one model at least.")
    return models


def _check_not_empty(n_seeds: Mapping[str, int], what: str) -> None:
    """Raise where a model has nothing in its list."""
    for name, n in n_seeds.items():
        if not n:
            raise ValueError(f"{what}[{name!r}] is empty; pass one for each seed.")


def _check_classifiers(name: str, seeds: Sequence[Any]) -> None:
    """Raise unless all are fitted classifiers."""
    for estimator in seeds:
        has_tags = hasattr(estimator, "__sklearn_tags__")
        # Also a regressor predicts, what no score here is made for.
        if not (has_tags and is_classifier(estimator)):
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
