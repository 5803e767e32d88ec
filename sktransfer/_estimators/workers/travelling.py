"""What an estimator takes along to another process, and what is looked at there."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from numbers import Number
from pathlib import PurePath
from typing import Any

import numpy as np
from joblib.parallel import get_active_backend
from sklearn.base import BaseEstimator

from sktransfer._files.versions import THAT_COMPUTE, compare_versions, list_versions
from sktransfer._processes.workers import is_worker

# Of joblib, those whose workers may have another disk.
ON_OTHER_MACHINES = ("DaskDistributedBackend", "RayBackend")

LUGGAGE = "_luggage"
DIFFERENCE = "_other_versions"

# An estimator may be large, and is not pickled twice.
_PLAIN = (
    str,
    bytes,
    Number,
    PurePath,
    np.ndarray,
    np.generic,
    type(None),
    BaseEstimator,
)

_trying = threading.local()


def pack(estimator: Any, state: dict[str, Any]) -> dict[str, Any]:
    """Add to the state of an estimator what it takes along.

    Parameters
    ----------
    estimator : BaseEstimator
        Fitted or not.

    state : dict
        What is pickled of it.

    Returns
    -------
    dict
        A new one.

    Raises
    ------
    TypeError
        If a parameter cannot be pickled.
    """
    _refuse_what_cannot_travel(estimator)
    luggage: dict[str, Any] = {"versions": dict(_list_that_compute())}
    activation_cache = getattr(estimator, "activation_cache", None)
    # An object sees to this itself; without a folder there is nothing to tell.
    if isinstance(activation_cache, str | os.PathLike):
        from sktransfer._activations.cache import identify_folder

        luggage["folder"] = identify_folder(activation_cache)
    kept = {name: value for name, value in state.items() if name != DIFFERENCE}
    return {**kept, LUGGAGE: luggage}


def unpack(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state of an estimator without what it took along, which is noted."""
    state = dict(state)
    luggage = state.pop(LUGGAGE, None)  # earlier releases took nothing along
    if not isinstance(luggage, dict):
        return state
    difference = compare_versions(luggage.get("versions") or {})
    if difference:
        state[DIFFERENCE] = difference
    if luggage.get("folder") is not None:
        from sktransfer._activations.cache import expect_folder

        expect_folder(state.get("activation_cache"), luggage["folder"])
    return state


@contextmanager
def cloning(estimator: Any) -> Iterator[None]:
    """Clone the estimator in the block, which a search does before it sends anything.

    Raises
    ------
    TypeError
        If it cannot be copied because of a parameter, or is about to be sent to Dask
        and cannot be pickled. joblib does that in a loop whose errors reach nobody, and
        would wait for the result for ever.
    """
    engine = type(get_active_backend()[0]).__name__
    if engine == "DaskDistributedBackend":
        _refuse_what_cannot_travel(estimator)
    if engine in ON_OTHER_MACHINES and hasattr(estimator, "activation_cache"):
        from sktransfer._activations.cache import make_folder

        # There it will be asked whether this is the same folder.
        make_folder(estimator.activation_cache)
    try:
        yield
    except Exception:
        _refuse_what_cannot_travel(estimator)
        raise


def hand_on(estimator: Any, cloned: Any) -> None:
    """Let a clone remember where the estimator came from."""
    if hasattr(estimator, DIFFERENCE):
        setattr(cloned, DIFFERENCE, getattr(estimator, DIFFERENCE))


def refuse_other_versions(estimator: Any) -> None:
    """Raise a RuntimeError if a worker would compute with other packages.

    The same candidate would then have another score on each machine. A process that
    loads an old pickle, and is no worker, may fit it.
    """
    difference = getattr(estimator, DIFFERENCE, "")
    if difference and is_worker():
        raise RuntimeError(
            "this worker has other versions than the process that sent the estimator: "
            f"{difference} on {socket.gethostname()}. The same fit may give another "
            "result here; install the same versions everywhere."
        )


@cache
def _list_that_compute() -> dict[str, str]:
    versions = list_versions()
    return {name: versions[name] for name in THAT_COMPUTE}


def _refuse_what_cannot_travel(estimator: Any) -> None:
    """Raise a TypeError that names a parameter which cannot be pickled.

    The pickler's own error says what cannot be pickled, and not where it is.
    """
    if getattr(_trying, "is_busy", False):  # a parameter that holds the estimator
        return
    _trying.is_busy = True
    try:
        for name, value in estimator.get_params(deep=False).items():
            if not _is_plain(value):
                _try_to_pickle(estimator, name, value)
    finally:
        _trying.is_busy = False


def _is_plain(value: Any) -> bool:
    """Return whether a value can be pickled for sure, or will say itself why not."""
    if isinstance(value, list | tuple | set):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, _PLAIN)


def _try_to_pickle(estimator: Any, name: str, value: Any) -> None:
    # joblib, Dask and Ray pickle lambdas as well, as this does.
    from joblib.externals.loky.backend.reduction import dumps

    try:
        dumps(value)
    except Exception as error:
        raise TypeError(
            f"{name} of this {type(estimator).__name__} cannot be copied or sent to "
            f"another process ({error}); it must not hold locks, open files or "
            "connections. A callback can make them in on_train_begin, or leave them "
            "out of its __getstate__."
        ) from error
