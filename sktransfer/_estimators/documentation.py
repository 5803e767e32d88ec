"""Docstrings of estimators that differ by a default, and links to their pages."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from functools import cache, wraps
from importlib.metadata import PackageNotFoundError, metadata
from typing import Any, TypeVar

from sklearn.base import BaseEstimator

Estimator = TypeVar("Estimator", bound=type)

# A section of a numpydoc docstring: its title, underlined.
_TITLE = re.compile(r"^(\w[\w ]*)\n-{3,}\n", re.MULTILINE)
# Where the description of a parameter or an attribute begins.
_ENTRY = re.compile(r"^(?=\w[\w, ]* : )", re.MULTILINE)


class Documented(BaseEstimator):
    """An estimator whose HTML links to its own page, as scikit-learn's do."""

    _doc_link_module = "sktransfer"

    @property
    def _doc_link_template(self) -> str:
        return link_template(find_documentation())


def link_template(documentation: str | None) -> str:
    """Return where the pages of estimators are, for scikit-learn to fill in."""
    # An empty link is left out.
    if documentation is None:
        return ""
    page = "generated/{estimator_module}.{estimator_name}.html"
    return f"{documentation.rstrip('/')}/{page}"


@cache
def find_documentation() -> str | None:
    """Return the address of the documentation, None if the package is not installed.

    It is in the package's metadata, so that it stands in one place: pyproject.toml.
    """
    try:
        urls = metadata("sktransfer").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    addresses = dict(url.split(", ", 1) for url in urls)
    return addresses.get("Documentation")


def like(base: type, **defaults: Any) -> Callable[[Estimator], Estimator]:
    """Give a subclass the parameters of its base, some of them with other defaults.

    Its docstring need only hold what differs; the rest is taken from the base.
    """

    def decorate(cls: Estimator) -> Estimator:
        base_init = base.__init__  # type: ignore[misc]
        signature = inspect.signature(base_init)
        signature = signature.replace(
            parameters=[
                p.replace(default=defaults.get(p.name, p.default))
                for p in signature.parameters.values()
            ]
        )

        @wraps(base_init)
        def init(*args: Any, **kwargs: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            bound.apply_defaults()
            base_init(*bound.args, **bound.kwargs)

        # scikit-learn reads the names and defaults of parameters from here.
        init.__signature__ = signature  # type: ignore[attr-defined]
        cls.__init__ = init  # type: ignore[misc]
        cls.__doc__ = complete_docstring(cls.__doc__ or "", base.__doc__ or "")
        return cls

    return decorate


def complete_docstring(own: str, base: str) -> str:
    """Add the sections and parameters of another docstring that this one lacks."""
    head, mine = _split(_TITLE, inspect.cleandoc(own) + "\n")
    _, theirs = _split(_TITLE, inspect.cleandoc(base) + "\n")
    if "Parameters" in mine:
        mine["Parameters"] = _complete_entries(mine["Parameters"], theirs["Parameters"])
    sections = {**theirs, **mine}
    parts = [f"{title}\n{'-' * len(title)}\n{body}" for title, body in sections.items()]
    return head + "".join(parts)


def _complete_entries(own: str, base: str) -> str:
    """Replace the entries of a section that are described anew."""
    mine = {_name(entry): entry for entry in _ENTRY.split(own) if entry.strip()}
    theirs = [entry for entry in _ENTRY.split(base) if entry.strip()]
    return "".join(mine.get(_name(entry), entry).rstrip() + "\n\n" for entry in theirs)


def _name(entry: str) -> str:
    """Return the name of a described parameter."""
    return entry.partition(" : ")[0]


def _split(title: re.Pattern[str], text: str) -> tuple[str, dict[str, str]]:
    """Split a docstring into what comes before its sections, and these by title."""
    head, *rest = title.split(text)
    return head, dict(zip(rest[::2], rest[1::2], strict=True))
