"""The report of a study as one self-contained HTML file."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

from sktransfer._study.pictures import (
    IMAGE_BY_IMAGE,
    Picture,
    history_name,
    is_large,
)

# Heading, key and kind (see below) of each quantity of a fit.
METRICS = (
    ("Accuracy", "accuracy", "percent"),
    ("Log loss", "log_loss", "share"),
    ("Calibration error", "calibration_error", "percent"),
    ("Precision", "precision", "share"),
    ("Recall", "recall", "share"),
    ("F1", "f1", "share"),
    ("Seconds per fit", "seconds", "seconds"),
    ("Parameters trained", "n_parameters", "count"),
    ("Epochs", "n_epochs", "count"),
    ("Peak memory", "peak_memory", "bytes"),
)
# Factor, format and unit of each kind of number.
KINDS = {
    "percent": (100, "{:.1f}", " %"),
    "share": (1, "{:.3f}", ""),
    "seconds": (1, "{:,.1f}", ""),
    "count": (1, "{:,.10g}", ""),
    "bytes": (2**-20, "{:,.0f}", " MiB"),
    "large_bytes": (2**-30, "{:,.1f}", " GiB"),
}
MEMORY_NOTES = {
    "gpu": "Peak memory is what torch allocated on the GPU during a fit, including the "
    "images that were there.",
    "process": "Peak memory is the most that the whole process held during a fit, "
    "including Python, the libraries, the images and activations cached by earlier "
    "fits.",
    None: "Peak memory could not be measured on this system.",
}


def check_drawing() -> None:
    """Raise ImportError if a package that the report needs is missing."""
    for name in ("matplotlib", "jinja2"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(
                f"The study's report needs {name}, which is not installed: "
                "pip install 'sktransfer[plot]'."
            ) from error


def format_number(value: float, kind: str, unit: str | None = None) -> str:
    """Format a number for people, with the unit of its kind unless another is given."""
    factor, text, own_unit = KINDS[kind]
    return f"{text.format(factor * value)}{own_unit if unit is None else unit}"


def shorten_path(name: str) -> str:
    """Return the last part of a path, or what is no path as it is."""
    return PurePath(name).name or name


def render(
    content: Mapping[str, Any],
    pictures: Mapping[str, Picture],
    left_out: Sequence[str],
    subject: str,
) -> str:
    """Render the report.

    Parameters
    ----------
    content : mapping
        The same as in results.json; every number of the report comes from it.

    pictures : mapping of str to Picture
        By name; missing ones are left out.

    left_out : sequence of str
        Which pictures are missing and why, one sentence each.

    subject : str
        The model whose predictions are shown image by image.

    Returns
    -------
    str
        HTML, with every text escaped.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sktransfer._study"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["format_number"] = format_number
    environment.filters["shorten_path"] = shorten_path
    runs = content["runs"]
    return environment.get_template("study.html").render(
        study=content,
        metrics=METRICS,
        n_seeds=len({run["seed"] for run in runs}),
        memory_note=MEMORY_NOTES[_find_measured_memory(content)],
        cached=_later_fits_reuse_activations(content),
        pictures=pictures,
        history_name=history_name,
        is_large=is_large,
        single_images=[name for name in IMAGE_BY_IMAGE if name in pictures],
        left_out=left_out,
        subject=subject,
    )


def _find_measured_memory(content: Mapping[str, Any]) -> str | None:
    """Return whose memory was measured, as a key of `MEMORY_NOTES`."""
    if all(run["peak_memory"] is None for run in content["runs"]):
        return None
    networks = [network for network in content["networks"].values() if network]
    on_gpu = any(network["device"].startswith("cuda") for network in networks)
    return "gpu" if on_gpu else "process"


def _later_fits_reuse_activations(content: Mapping[str, Any]) -> bool:
    """Whether the last fit of a model found most of its activations in the cache.

    It need not find all: with augmentation, each seed draws some new views.
    """
    return len({run["seed"] for run in content["runs"]}) > 1 and any(
        network and network["n_activations_found"] > 9 * network["n_activations_new"]
        for network in content["networks"].values()
    )
