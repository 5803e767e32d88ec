"""The link from an estimator's HTML representation to its page of documentation."""

from __future__ import annotations

from functools import cache
from importlib.metadata import PackageNotFoundError, metadata

from sklearn.base import BaseEstimator


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
