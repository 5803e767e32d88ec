"""Sphinx settings."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "sktransfer"
author = "sktransfer developers"
copyright = "2026, sktransfer developers"
version = release = installed_version("sktransfer")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.doctest",
    "myst_parser",
    "numpydoc",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "import_layers",
    "unfreeze_drawing",
]
exclude_patterns = ["_build", "_templates"]
templates_path = ["_templates"]

autodoc_member_order = "bysource"
# Types stand in the docstrings, with shape and range.
autodoc_typehints = "none"
autosummary_generate = True
numpydoc_show_class_members = False

doctest_global_setup = """
import matplotlib
matplotlib.use("Agg")
import numpy as np
"""

nitpicky = True
# Built without a network, so other projects' objects have no page to point to.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|sklearn|skorch|torch|torchvision|PIL|pandas)(\..*)?"),
    (r"py:.*", r"matplotlib(\..*)?|Axes|Figure|AxesImage"),
    (r"py:.*", r"[A-Z]\w*(Error|Warning)"),
    # Private, and so without a page.
    (r"py:.*", r"(.*\.)?_\w+(\..*)?"),
]

linkcheck_timeout = 20

# Prompts are not copied; nor is what the code prints.
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"/plot_",
    "within_subsection_order": "gallery.Order",
    "abort_on_example_error": True,
    # By name: Sphinx cannot keep a function among its settings.
    "reset_modules": ("matplotlib", "gallery.reset_warnings"),
    # The address of a display in memory means nothing to a reader.
    "ignore_repr_types": r"Display'|matplotlib\.",
    "doc_module": ("sktransfer",),
    "backreferences_dir": "generated/backreferences",
    "show_memory": False,
    "min_reported_time": 1,
    # The seconds are below each example, and in the log of the build.
    "write_computation_times": False,
    "download_all_examples": False,
}

html_theme = "furo"
pygments_dark_style = "a11y-high-contrast-dark"
html_title = "sktransfer"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
