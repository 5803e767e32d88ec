"""What stands inside a pipeline or a search, from the outside in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sklearn.pipeline import Pipeline


def fitted_parts(estimator: Any) -> Iterator[tuple[Any, tuple[Any, ...]]]:
    """Yield the estimator, then the last step of a pipeline or the best of a search.

    Parameters
    ----------
    estimator : object
        Fitted or not; a search that is not fitted has nothing inside.

    Yields
    ------
    part : object
        The outermost first.

    steps_before : tuple of transformer
        What data passes through before it reaches `part`; empty where it is given
        what `estimator` is given.
    """
    part: Any = estimator
    before: tuple[Any, ...] = ()
    while part is not None:
        yield part, before
        if isinstance(part, Pipeline):
            steps = tuple(step for _, step in part.steps)
            # A pipeline writes a step that does nothing as a word or as None.
            before += tuple(s for s in steps[:-1] if hasattr(s, "transform"))
            part = steps[-1] if steps else None
        else:
            part = getattr(part, "best_estimator_", None)
