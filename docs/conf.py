"""Sphinx settings."""

from importlib.metadata import version as installed_version

project = "sktransfer"
author = "sktransfer developers"
copyright = "2026, sktransfer developers"
version = release = installed_version("sktransfer")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build"]

autodoc_member_order = "bysource"
# Types stand in the docstrings, with shape and range.
autodoc_typehints = "none"
autosummary_generate = False
numpydoc_show_class_members = False

nitpicky = True
# Built without a network, so other projects' objects have no page to point to.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|sklearn|skorch|torch|torchvision|PIL|pandas)(\..*)?"),
    (r"py:.*", r"[A-Z]\w*(Error|Warning)"),
    # Private, and so without a page.
    (r"py:.*", r"Stages|(.*\.)?_\w+(\..*)?"),
]

html_theme = "alabaster"
html_theme_options = {
    "description": "Transfer learning for images as scikit-learn estimators",
    "fixed_sidebar": True,
}
