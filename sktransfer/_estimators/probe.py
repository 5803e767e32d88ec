"""The linear probe: multinomial logistic regression on pooled features."""

from __future__ import annotations

import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from sktransfer._training.probe import Solution

# L2 penalties beside the mean loss, strong ones first; features have a mean square norm
# of 1. benchmarks/probe.py notes which ones are chosen.
PENALTIES = tuple(10 ** -(exponent / 2) for exponent in range(1, 11))

# The head is the mean of those of the best penalty and of so many to each side, one
# power of ten: where labels are few, which one is best is chance. benchmarks/probe.py
# compares it with the best alone.
NEIGHBOURS = 2

# Largest sets of images whose penalty is chosen with this many folds; for still larger
# ones a single fold is held out, since its loss is exact enough.
FOLDS = {2_000: 5, 10_000: 3}
HELD_OUT_OF = 10

# Of the gradient of the mean loss; scikit-learn's default.
TOLERANCE = 1e-4
MAX_STEPS = 300

# Fewer values than that are multiplied so fast that threads mostly wait for each other,
# above all where other work keeps the cores busy.
MANY_VALUES = 2**24


class OneThread:
    """Keeps BLAS to one thread while any thread of this process is inside.

    A context manager that may be entered by several threads at once; the last to leave
    restores what the first one found.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._n_inside = 0
        self._limits: threadpool_limits | None = None

    def __enter__(self) -> None:
        with self._lock:
            self._n_inside += 1
            if self._n_inside == 1:
                self._limits = threadpool_limits(1, user_api="blas")

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._n_inside -= 1
            if self._n_inside == 0 and self._limits is not None:
                self._limits.restore_original_limits()


_ONE_THREAD = OneThread()


def solve_head(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, n_classes: int
) -> Solution:
    """Solve logistic regression; its penalty is chosen by cross-validated log loss.

    Parameters
    ----------
    features : ndarray of shape (n_views, n_images, n_features), float32
        Pooled features of every view of every image.

    labels : ndarray of shape (n_images,), int64
        In ``[0, n_classes)``.

    weights : ndarray of shape (n_images,), float32
        Weight of each image in the loss, more than 0.

    n_classes : int
        Width of the logits.

    Returns
    -------
    Solution
    """
    is_small = features.size < MANY_VALUES
    limited: AbstractContextManager[None] = _ONE_THREAD if is_small else nullcontext()
    with limited:
        return _solve(features, labels, weights, n_classes)


def _solve(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray, n_classes: int
) -> Solution:
    """Do what :func:`solve_head` does, on any number of threads."""
    from sktransfer._training.probe import Solution

    mean = np.average(features.mean(axis=0), axis=0, weights=weights)
    centred = features - mean
    # One scale for all: features that vary little know little, and would be loud if
    # each were divided by its own deviation.
    norms = np.square(centred).sum(axis=2).mean(axis=0)
    scale = np.float32(max(np.sqrt(np.average(norms, weights=weights)), 1e-12))
    centred /= scale
    losses, n_wrong = _cross_validate(centred, labels, weights)
    best = int(np.argmin(losses))
    path = _solve_path(
        centred, labels, weights, PENALTIES[: best + NEIGHBOURS + 1], n_classes
    )
    near = path[max(0, best - NEIGHBOURS) :]
    coef, intercept = (np.mean(parts, axis=0) for parts in zip(*near, strict=True))
    weight = (coef / scale).astype(np.float32)
    bias = (intercept - weight @ mean).astype(np.float32)
    logits = features[0] @ weight.T + bias
    return Solution(
        weight,
        bias,
        float(np.average(_compute_losses(logits, labels), weights=weights)),
        float(np.average(logits.argmax(axis=1) == labels, weights=weights)),
        float(n_wrong[best]),
    )


def _cross_validate(
    features: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Compute held-out loss and number of errors of every penalty, (n_penalties,).

    The loss is a weighted mean. Errors count alike, and as if all images had been held
    out; an image whose class is not among the others counts as one.
    """
    classes, labels = np.unique(labels, return_inverse=True)
    losses, errors = np.zeros((2, len(PENALTIES)))
    total, n_tested = 0.0, 0
    if len(classes) < 2:
        return losses, errors
    for train, held_out in _split(labels):
        n_tested += len(held_out)
        # A class of a single image may be held out whole: nothing can be learned of it.
        is_known = np.isin(labels[held_out], labels[train])
        errors += np.sum(~is_known)
        held_out = held_out[is_known]
        if len(np.unique(labels[train])) < 2 or not len(held_out):
            errors += len(held_out)
            continue
        path = _solve_path(
            features[:, train], labels[train], weights[train], PENALTIES, len(classes)
        )
        for i, (coef, intercept) in enumerate(path):
            logits = features[0, held_out] @ coef.T + intercept
            each = _compute_losses(logits, labels[held_out])
            losses[i] += float(weights[held_out] @ each)
            errors[i] += np.sum(logits.argmax(axis=1) != labels[held_out])
        total += float(weights[held_out].sum())
    return losses / max(total, 1e-12), errors * len(labels) / n_tested


def _split(labels: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield images to train on and images held out, each class spread evenly."""
    n_folds = next((k for most, k in FOLDS.items() if len(labels) <= most), None)
    n_parts, n_used = (HELD_OUT_OF, 1) if n_folds is None else (n_folds, n_folds)
    # By hand: StratifiedKFold warns of rare classes, which cannot be helped.
    order = np.random.default_rng(0).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    fold = np.empty(len(labels), np.int64)
    fold[order] = np.arange(len(labels)) % n_parts
    for i in range(n_used):
        yield np.flatnonzero(fold != i), np.flatnonzero(fold == i)


def _solve_path(
    features: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    penalties: tuple[float, ...],
    n_classes: int,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Solve for one penalty after another; return weights and biases of each."""
    present = np.unique(labels)
    n_views, total = len(features), float(weights.sum())
    X = features.reshape(-1, features.shape[2])
    y, sample_weight = np.tile(labels, n_views), np.tile(weights / n_views, n_views)
    path, model = (
        [],
        LogisticRegression(tol=TOLERANCE, max_iter=MAX_STEPS, warm_start=True),
    )
    for penalty in penalties:
        coef = np.zeros((n_classes, features.shape[2]))
        intercept = np.full(n_classes, _ABSENT)
        if len(present) < 2:
            intercept[present] = 0.0
        else:
            model.set_params(C=1 / (penalty * total))
            model.fit(X, y, sample_weight=sample_weight)
            coef[present], intercept[present] = _spread(model)
        path.append((coef, intercept))
    return path


# Logit of a class that no image has, so that nothing is taken for it.
_ABSENT = -20.0


def _spread(model: LogisticRegression) -> tuple[np.ndarray, np.ndarray]:
    """Return a row per class, also for two classes, which share one in the model."""
    coef, intercept = model.coef_, model.intercept_
    if len(model.classes_) > 2:
        return coef, intercept
    return np.vstack([-coef, coef]) / 2, np.concatenate([-intercept, intercept]) / 2


def _compute_losses(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Compute the log loss of each image, (n,)."""
    losses: np.ndarray = -log_softmax(logits, axis=1)[np.arange(len(labels)), labels]
    return losses
