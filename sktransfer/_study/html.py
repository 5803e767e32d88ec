"""The report of a study as one HTML file that needs nothing beside it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from typing import Any

from sktransfer._study.figures import IMAGE_BY_IMAGE, Picture, history_of

# Heading, key and kind, as below, of what is told of each fit.
METRICS = (
    ("Accuracy", "accuracy", "percent"),
    ("Precision", "precision", "share"),
    ("Recall", "recall", "share"),
    ("F1", "f1", "share"),
    ("Seconds a fit", "seconds", "seconds"),
    ("Parameters trained", "n_parameters", "count"),
    ("Epochs", "n_epochs", "count"),
    ("Peak memory", "peak_memory", "bytes"),
)
# What a number is multiplied by, how it is written, and its unit.
KINDS = {
    "percent": (100, "{:.1f}", " %"),
    "share": (1, "{:.3f}", ""),
    "seconds": (1, "{:,.1f}", ""),
    "count": (1, "{:,.10g}", ""),
    "bytes": (2**-20, "{:,.0f}", " MiB"),
    "large_bytes": (2**-30, "{:,.1f}", " GiB"),
}
MEMORY_NOTES = {
    "gpu": "Peak memory is what torch allocated on the GPU during a fit, the images on "
    "it included.",
    "process": "Peak memory is the most that the whole process held during a fit: "
    "Python, the libraries, the images and activations kept from earlier fits "
    "included.",
    None: "Peak memory could not be measured on this system.",
}


def check_drawing() -> None:
    """Raise ImportError, naming the remedy, where the report cannot be made."""
    for name in ("matplotlib", "jinja2"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(
                f"The study's report needs {name}, which is not installed: "
                "pip install 'sktransfer[plot]'."
            ) from error


def shown(value: float, kind: str, unit: str | None = None) -> str:
    """A number as people read it, with the unit of its kind or another."""
    factor, text, own_unit = KINDS[kind]
    return f"{text.format(factor * value)}{own_unit if unit is None else unit}"


def render(
    content: Mapping[str, Any],
    pictures: Mapping[str, Picture],
    left_out: Sequence[str],
    subject: str,
) -> str:
    """Return the report.

    Parameters
    ----------
    content : mapping
        As in results.json; every number of the report is taken from it.

    pictures : mapping of str to Picture
        By name; those that are not there are left out.

    left_out : sequence of str
        Why pictures are not there, a sentence each.

    subject : str
        The model whose predictions are shown image by image.

    Returns
    -------
    str
        HTML, every text in it escaped.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("sktransfer._study"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
    )
    environment.filters["shown"] = shown
    runs = content["runs"]
    return environment.get_template("study.html").render(
        study=content,
        metrics=METRICS,
        n_seeds=len({run["seed"] for run in runs}),
        memory_note=MEMORY_NOTES[_memory_of(content)],
        cached=_later_fits_found_activations(content),
        pictures=pictures,
        history_of=history_of,
        seen=[name for name in IMAGE_BY_IMAGE if name in pictures],
        left_out=left_out,
        subject=subject,
    )


def _memory_of(content: Mapping[str, Any]) -> str | None:
    """Whose memory was measured."""
    if all(run["peak_memory"] is None for run in content["runs"]):
        return None
    networks = [network for network in content["networks"].values() if network]
    on_gpu = any(network["device"].startswith("cuda") for network in networks)
    return "gpu" if on_gpu else "process"


def _later_fits_found_activations(content: Mapping[str, Any]) -> bool:
    """Whether the last fit of a model had little to compute, so was cheaper.

    With augmentation, each seed draws some views that none before it has drawn.
    """
    return len({run["seed"] for run in content["runs"]}) > 1 and any(
        network and network["n_activations_found"] > 9 * network["n_activations_new"]
        for network in content["networks"].values()
    )
