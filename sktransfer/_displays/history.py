"""TrainingHistoryDisplay: loss and accuracy of each epoch of a fit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_scalar
from sklearn.utils.validation import check_is_fitted

from sktransfer._displays.content.predictions import walk_parts
from sktransfer._displays.drawing.captions import shorten
from sktransfer._displays.drawing.panels import (
    COLORS,
    MARKERS,
    check_matplotlib,
    make_panels,
)

AXES = {"epoch": "Epoch", "seconds": "Seconds of epochs"}
KEYS = {"loss": "Loss", "accuracy": "Accuracy"}
NEEDED = ("train_loss", "train_accuracy")
CURVES = {"train": "training", "valid": "validation"}
# Inches: the size of a panel, and the height above it for the names of stages.
CELL, MARGIN = (4.2, 3.4), 0.5
MOST_CHARACTERS = 20
# Marks that are closer than this fraction of the axis share a label.
CLOSEST = 0.055
# Names the first epoch if its head was solved, not trained.
PROBE = "linear probe"
# With more epochs than this, markers would hide the lines.
MOST_MARKERS = 40


class Opening(NamedTuple):
    """An epoch, from 1, in which stages start to learn: those from `first` to `last`.

    Stages are counted from the output; the head is 0.
    """

    epoch: int
    first: int
    last: int


class TrainingHistoryDisplay:
    """Loss and accuracy of each epoch, and when each stage started to learn.

    It is recommended to create a display with :meth:`from_estimator` or
    :meth:`from_history`. All parameters are stored as attributes.

    Parameters
    ----------
    history : list of dict
        One row per epoch, as in ``history_``, with ``train_loss``, ``train_accuracy``
        and, if known, ``valid_loss``, ``valid_accuracy``, ``unfreeze_depth`` and
        ``dur`` (seconds). Losses are cross-entropies; accuracies are in [0, 1].

    stage_names : sequence of str, default=None
        Names of all stages, input first. Without names, marks show the depth.

    best_epoch : int, default=None
        Epoch, from 1, to mark as the best; ``None`` marks none.

    x : {"epoch", "seconds"}, default="epoch"
        What the x-axis shows.

    starts_solved : bool, default=False
        Whether the first epoch was the linear probe, which solves the head and trains
        nothing. Its mark then says so.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes, shape (2,)
        The panels of loss and accuracy.

    ax_ : matplotlib Axes
        Invisible axes around both panels.

    figure_ : matplotlib Figure
        The figure that contains them.

    See Also
    --------
    ModelComparisonDisplay : Accuracy of several models against what they cost.

    Examples
    --------
    >>> import matplotlib.pyplot as plt
    >>> from sktransfer import TrainingHistoryDisplay
    >>> history = [
    ...     {"train_loss": 2.1, "train_accuracy": 0.3, "unfreeze_depth": 0},
    ...     {"train_loss": 0.9, "train_accuracy": 0.7, "unfreeze_depth": 1},
    ... ]
    >>> display = TrainingHistoryDisplay.from_history(history)
    >>> plt.show()
    """

    __module__ = "sktransfer"

    def __init__(
        self,
        *,
        history: Sequence[Mapping[str, Any]],
        stage_names: Sequence[str] | None = None,
        best_epoch: int | None = None,
        x: str = "epoch",
        starts_solved: bool = False,
    ) -> None:
        self.history = history
        self.stage_names = stage_names
        self.best_epoch = best_epoch
        self.x = x
        self.starts_solved = starts_solved

    @classmethod
    def from_estimator(
        cls, estimator: Any, *, x: str = "epoch", ax: Any = None
    ) -> TrainingHistoryDisplay:
        """Draw the history of a fitted classifier.

        The best epoch, ``best_epoch_``, is marked if there were validation images.

        Parameters
        ----------
        estimator : fitted estimator
            A :class:`ResNetTransferClassifier` or :class:`ScratchCNNClassifier`, or a
            pipeline or search that ends in one.

        x : {"epoch", "seconds"}, default="epoch"
            Whether the x-axis shows epochs, or the total seconds of all epochs so far,
            without the time before the first epoch.

        ax : matplotlib Axes, default=None
            Axes that the panels replace; ``None`` creates a figure.

        Returns
        -------
        TrainingHistoryDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        NotFittedError
            If `estimator` is not fitted.
        ValueError
            If `estimator` has no ``history_`` of losses and accuracies, or `x` is
            unknown.

        See Also
        --------
        TrainingHistoryDisplay.from_history : Draw rows without an estimator.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sktransfer import (
        ...     ResNetTransferClassifier,
        ...     TrainingHistoryDisplay,
        ...     datasets,
        ... )
        >>> X, y = datasets.make_shapes(
        ...     20, n_classes=2, random_state=0, return_X_y=True
        ... )
        >>> clf = ResNetTransferClassifier(
        ...     "mini_resnet18", unfreeze_depth=0, max_epochs=2, random_state=0
        ... ).fit(X, y)
        >>> display = TrainingHistoryDisplay.from_estimator(clf)
        >>> plt.show()
        """
        check_matplotlib(f"{cls.__name__}.from_estimator")
        check_is_fitted(estimator)
        for part, _ in walk_parts(estimator):
            if _has_history(part):
                break
        else:
            raise ValueError(
                "Expected 'estimator' to be a classifier with a history_ of "
                "train_loss and train_accuracy, such as ResNetTransferClassifier. "
                f"Got {type(estimator).__name__} instead."
            )
        history = _check_history(part.history_)
        best = _find_best_epoch(history)
        return cls(
            history=history,
            stage_names=part.net_.module_.names if hasattr(part, "net_") else None,
            best_epoch=None if best is None else getattr(part, "best_epoch_", best),
            x=x,
            starts_solved=begins_with_probe(part),
        ).plot(ax)

    @classmethod
    def from_history(
        cls,
        history: Sequence[Mapping[str, Any]],
        *,
        stage_names: Sequence[str] | None = None,
        x: str = "epoch",
        ax: Any = None,
    ) -> TrainingHistoryDisplay:
        """Draw rows such as those of ``history_``.

        The best epoch is the one with the lowest ``valid_loss``, if there is any. Rows
        are numbered from 1 in their order, so the histories of several fits with
        ``warm_start`` can be concatenated.

        Parameters
        ----------
        history : list of dict
            One row per epoch, as described for the class.

        stage_names : sequence of str, default=None
            Names of all stages, input first. Without names, marks show the depth.

        x : {"epoch", "seconds"}, default="epoch"
            Whether the x-axis shows epochs, or the total seconds of all epochs so far,
            without the time before the first epoch.

        ax : matplotlib Axes, default=None
            Axes that the panels replace; ``None`` creates a figure.

        Returns
        -------
        TrainingHistoryDisplay
            The display, drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `history` is not a list of dicts.
        ValueError
            If there are no rows, a row lacks a value that is drawn, `x` is unknown, or
            there are too few `stage_names`.

        See Also
        --------
        TrainingHistoryDisplay.from_estimator : Draw the history of a fitted classifier.

        Examples
        --------
        >>> import matplotlib.pyplot as plt
        >>> from sktransfer import TrainingHistoryDisplay
        >>> history = [
        ...     {"train_loss": 2.1, "train_accuracy": 0.3, "unfreeze_depth": 0},
        ...     {"train_loss": 0.9, "train_accuracy": 0.7, "unfreeze_depth": 1},
        ... ]
        >>> display = TrainingHistoryDisplay.from_history(
        ...     history, stage_names=["stem", "layer1", "head"]
        ... )
        >>> plt.show()
        """
        check_matplotlib(f"{cls.__name__}.from_history")
        rows = _check_history(history)
        return cls(
            history=rows,
            stage_names=stage_names,
            best_epoch=_find_best_epoch(rows),
            x=x,
        ).plot(ax)

    def plot(self, ax: Any = None, *, x: str | None = None) -> TrainingHistoryDisplay:
        """Draw the two panels.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            Axes that the panels replace; ``None`` creates a figure.

        x : {"epoch", "seconds"}, default=None
            What the x-axis shows; ``None`` is the display's own `x`.

        Returns
        -------
        TrainingHistoryDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        TypeError
            If `history` is not a list of dicts, or `best_epoch` is not an integer.
        ValueError
            If `x` is unknown, `history` lacks seconds or another value, `best_epoch` is
            not one of its epochs, or there are too few `stage_names`.
        """
        x = self.x if x is None else x
        history = _check_history(self.history)
        ends = _find_epoch_ends(history, x)
        openings = _find_openings(history)
        _check_best_epoch(self.best_epoch, len(history))
        _check_names(self.stage_names, openings)
        outer, panels = make_panels(
            ax, 1, 2, CELL, f"{type(self).__name__}.plot", margin=MARGIN
        )
        for panel, (key, label) in zip(panels[0], KEYS.items(), strict=True):
            self._draw_curves(panel, key, ends)
            panel.set(xlabel=AXES[x], ylabel=label)
            _set_limits(panel, key, x, ends)
            first = PROBE if self.starts_solved else None
            _mark_openings(panel, openings, x, ends, self.stage_names, first)
        _share_legend(panels[0])
        self.ax_, self.axes_, self.figure_ = outer, panels[0], outer.figure
        return self

    def _draw_curves(self, ax: Any, key: str, ends: np.ndarray) -> None:
        """Draw the curves of loss or accuracy, and a star at the best epoch."""
        marked = len(ends) <= MOST_MARKERS
        values = np.empty(0)
        for i, (prefix, label) in enumerate(CURVES.items()):
            found = _read_column(self.history, f"{prefix}_{key}")
            if np.isnan(found).all():
                continue
            values = found
            ax.plot(
                ends,
                values,
                color=COLORS[i],
                marker=MARKERS[i] if marked else None,
                linestyle=("-", "--")[i],
                clip_on=False,  # markers at 100 % extend beyond the panel
                label=label,
            )
        if self.best_epoch is not None:
            # On the last curve, which is that of validation if there is one.
            best = self.best_epoch - 1
            ax.plot(
                ends[best],
                values[best],
                color="black",
                marker="*",
                markersize=18,
                markerfacecolor="none",
                linestyle="none",
                clip_on=False,
                label=f"best epoch: {self.best_epoch}",
                zorder=3,
            )


def begins_with_probe(estimator: Any) -> bool:
    """Return whether the first epoch of a fit was the linear probe.

    Parameters
    ----------
    estimator : object
        Fitted, or a net of skorch.

    Returns
    -------
    bool
        False for a head that was trained.
    """
    history = getattr(estimator, "history_", None)
    if getattr(estimator, "head_init", None) != "probe" or not history:
        return False
    # A fit that goes on from earlier weights does not solve the head again.
    goes_on = bool(getattr(estimator, "warm_start", False))
    return history[0].get("unfreeze_depth") == 0 and not goes_on


def _has_history(part: Any) -> bool:
    """Whether an estimator has rows that can be drawn; skorch's own nets do not."""
    rows = getattr(part, "history_", None)
    return isinstance(rows, list) and all(name in r for r in rows for name in NEEDED)


def _check_history(history: Any) -> list[dict[str, Any]]:
    """Check the rows, and return them as dicts.

    Raises
    ------
    TypeError
        If they are not mappings.
    ValueError
        If there are no rows, or one lacks a value.
    """
    rows = list(history) if isinstance(history, Iterable) else [history]
    if not rows:
        raise ValueError("history has no rows; pass one per epoch.")
    others = [row for row in rows if not isinstance(row, Mapping)]
    if others:
        raise TypeError(
            "history must be a list of dicts, one per epoch, such as history_; got "
            f"{type(others[0]).__name__} instead of a dict."
        )
    for i, row in enumerate(rows):
        missing = [name for name in NEEDED if name not in row]
        if missing:
            raise ValueError(
                f"Row {i} of history has no {missing[0]!r}; pass rows as in history_. "
                f"It has {sorted(row)}."
            )
    return [dict(row) for row in rows]


def _check_best_epoch(best_epoch: Any, n_epochs: int) -> None:
    """Raise an error unless it is None or the number of an epoch, from 1."""
    if best_epoch is not None:
        check_scalar(best_epoch, "best_epoch", Integral, min_val=1, max_val=n_epochs)


def _check_names(names: Sequence[str] | None, openings: Sequence[Opening]) -> None:
    """Raise a ValueError if a stage that starts to learn has no name."""
    deepest = max((opening.last for opening in openings), default=0)
    if names is not None and deepest >= len(names):
        raise ValueError(
            f"stage_names has {len(names)} names, but unfreeze_depth reaches "
            f"{deepest}, which needs {deepest + 1}; pass the names of all stages."
        )


def _read_column(history: Sequence[Mapping[str, Any]], key: str) -> np.ndarray:
    """Read a value of each row, (n_epochs,); NaN if a row lacks it."""
    return np.array([row.get(key, np.nan) for row in history], dtype=float)


def _find_best_epoch(history: Sequence[Mapping[str, Any]]) -> int | None:
    """Find the epoch, from 1, with the lowest validation loss; None without one."""
    losses = _read_column(history, "valid_loss")
    return None if np.isnan(losses).all() else int(np.nanargmin(losses)) + 1


def _find_epoch_ends(history: Sequence[Mapping[str, Any]], x: str) -> np.ndarray:
    """Find the end of each epoch on the x-axis, (n_epochs,)."""
    if x not in AXES:
        raise ValueError(f"x={x!r} is unknown; pass 'epoch' or 'seconds'.")
    if x == "epoch":
        return np.arange(1, len(history) + 1, dtype=float)
    seconds = _read_column(history, "dur")
    if np.isnan(seconds).any():
        raise ValueError(
            "x='seconds' needs 'dur', the seconds of the epoch, in every row of "
            "history; pass x='epoch'."
        )
    return np.cumsum(seconds)


def _find_openings(history: Sequence[Mapping[str, Any]]) -> list[Opening]:
    """Find the epochs in which stages started to learn, from the depths."""
    openings, depth = [], -1
    for epoch, row in enumerate(history, start=1):
        now = row.get("unfreeze_depth")
        if now is not None and now > depth:
            openings.append(Opening(epoch, depth + 1, now))
            depth = now
    return openings


def _opening_label(first: int, last: int, names: Sequence[str] | None) -> str:
    """The names of the stages from `first` to `last`, counted from the output."""
    if names is None:
        return f"depth {last}"
    if last - first + 1 == len(names) > 1:
        return "all stages"
    stages = [shorten(names[-1 - i], MOST_CHARACTERS) for i in (last, first)]
    if first == last:
        return stages[0]
    return (", " if last - first == 1 else " to ").join(stages)


def _mark_openings(
    ax: Any,
    openings: Sequence[Opening],
    x: str,
    ends: np.ndarray,
    names: Sequence[str] | None,
    name_of_first: str | None,
) -> None:
    """Draw a line at each opening, and above the panel the names of its stages."""
    starts = np.concatenate([[0.0], ends[:-1]])
    left, right = ax.get_xlim()
    groups: list[tuple[float, int, int]] = []
    for number, (epoch, first, last) in enumerate(openings):
        at = float(ends[epoch - 1] if x == "epoch" else starts[epoch - 1])
        ax.axvline(
            at,
            color="gray",
            linestyle=":",
            zorder=0,
            label="stages opened" if number == 0 else None,
        )
        if groups and at - groups[-1][0] < CLOSEST * (right - left):
            groups[-1] = (groups[-1][0], groups[-1][1], last)
        else:
            groups.append((at, first, last))
    if groups:
        labels = [_opening_label(first, last, names) for _, first, last in groups]
        # If other stages opened too close to it, their names matter more.
        if name_of_first is not None and groups[0][1:] == (0, 0):
            labels[0] = name_of_first
        top = ax.secondary_xaxis("top")
        top.set_xticks(
            [at for at, _, _ in groups],
            labels,
            rotation=45,
            ha="left",
            rotation_mode="anchor",
            fontsize="small",
        )
        top.tick_params(length=0)


def _share_legend(panels: np.ndarray) -> None:
    """Split the legend of both panels into two, so that neither hides the curves."""
    handles, labels = panels[0].get_legend_handles_labels()
    is_curve = [label in CURVES.values() for label in labels]
    for panel, wanted in zip(panels, (True, False), strict=True):
        some = [i for i, curve in enumerate(is_curve) if curve is wanted]
        if some:
            panel.legend(
                [handles[i] for i in some], [labels[i] for i in some], fontsize="small"
            )


def _set_limits(ax: Any, key: str, x: str, ends: np.ndarray) -> None:
    """Show whole epochs, seconds from 0, and no accuracy above 100 %."""
    from matplotlib.ticker import MaxNLocator, PercentFormatter

    if x == "epoch":
        ax.set_xlim(0.5, len(ends) + 0.5)
        ax.xaxis.set_major_locator(MaxNLocator("auto", integer=True, min_n_ticks=1))
    else:
        ax.set_xlim(-0.03 * ends[-1], None)
    if key == "accuracy":
        ax.set_ylim(None, min(1.02, ax.get_ylim()[1]))
        ax.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    ax.grid(alpha=0.3)
