"""The model card: what a model is, as text for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

# Classes listed by name; of more, only how many.
MOST_CLASSES = 50


def write_card(
    estimator: Any,
    params: Mapping[str, Any],
    omitted: Sequence[str],
    reference: Mapping[str, Any] | None,
    versions: Mapping[str, str],
    description: str | None,
) -> str:
    """Write the card of a fitted estimator, as Markdown.

    Parameters
    ----------
    estimator : object
        Fitted.

    params : mapping of str to object
        Its parameters as the file has them, without places on this machine.

    omitted : sequence of str
        Names of parameters that were left out.

    reference : mapping or None
        The weights that the file refers to.

    versions : mapping of str to str
        Releases by name.

    description : str or None
        The user's own words.

    Returns
    -------
    str
    """
    sections = [
        ("", [description] if description else []),
        ("Model", [*_describe_model(estimator), *_describe_reference(reference)]),
        ("Data", _describe_data(estimator)),
        ("Recipe", _describe_recipe(estimator, params, omitted)),
        ("Scores", _describe_scores(estimator)),
        ("Made with", [f"{name} {number}" for name, number in versions.items()]),
    ]
    lines = [f"# {type(estimator).__name__}", ""]
    for title, items in sections:
        if items:
            lines += [f"## {title}", ""] if title else []
            lines += [f"- {item}" if title else item for item in items]
            lines.append("")
    # Labels may be texts that no file can hold.
    return "\n".join(lines).encode("utf-8", "replace").decode()


def _describe_model(estimator: Any) -> list[str]:
    height, width, n_channels = estimator.image_shape_
    size = estimator._size_seen(estimator.image_shape_)
    network = estimator._fitted_network.get("backbone", "a small CNN")
    seen = "their own size" if size is None else f"{size} x {size} pixels"
    day = datetime.now(UTC).date().isoformat()
    return [
        f"Network: {getattr(network, 'name', network)}.",
        f"Input: images of {height} x {width} pixels, {n_channels} channels; the "
        f"network sees them at {seen}.",
        f"Saved on {day}.",
    ]


def _describe_reference(reference: Mapping[str, Any] | None) -> list[str]:
    """Say which weights a file needs that it does not hold."""
    if reference is None:
        return []
    return [
        f"{len(reference['names'])} tensors are not in the file, but are those of the "
        f"pretrained weights {reference['weights']!r}, SHA-256 {reference['sha256']}."
    ]


def _describe_data(estimator: Any) -> list[str]:
    """Say on how many images of which classes an estimator was trained."""
    if not hasattr(estimator, "classes_"):
        return []
    trained_on = estimator._trained_on
    counts = np.asarray(trained_on["n_per_class"]).tolist()
    n_validation = trained_on["n_validation"]
    chosen = f"{n_validation:,} other images chose the best epoch"
    items = [
        f"Trained on {sum(counts):,} images of {len(counts)} classes; "
        f"{chosen if n_validation else 'no others were set aside'}."
    ]
    if len(counts) <= MOST_CLASSES:
        pairs = zip(estimator.classes_.tolist(), counts, strict=True)
        items.append(
            "Images per class: "
            # A label with lines of its own would look like another section.
            + ", ".join(f"{' '.join(str(c).split())}: {n:,}" for c, n in pairs)
        )
    return items


def _describe_recipe(
    estimator: Any, params: Mapping[str, Any], omitted: Sequence[str]
) -> list[str]:
    """List the parameters that are not the defaults, and what became of the rest."""
    defaults = type(estimator)().get_params(deep=False)
    changed = [
        f"{name}={_show(value)}"
        for name, value in params.items()
        if not _is_same(value, defaults[name])
    ]
    items = ["Parameters: " + (", ".join(changed) or "the defaults") + "."]
    if omitted:
        items.append(f"Left out of the file: {', '.join(omitted)}.")
    if hasattr(estimator, "n_iter_"):
        items.append(
            f"Epochs: {estimator.n_iter_}; the weights are those of epoch "
            f"{estimator.best_epoch_}. Device: {estimator.device_}, "
            f"{estimator.precision_}."
        )
    if hasattr(estimator, "depth_reason_"):
        items.append(estimator.depth_reason_)
    return items


def _describe_scores(estimator: Any) -> list[str]:
    """Show loss and accuracy of the epoch whose weights were kept."""
    if not getattr(estimator, "history_", None):
        return []
    row = estimator.history_[estimator.best_epoch_ - 1]
    names = {"valid": "Validation images", "train": "Training images"}
    items = [
        f"{called}: accuracy {row[f'{name}_accuracy']:.4f}, log loss "
        f"{row[f'{name}_loss']:.4f} in epoch {row['epoch']}."
        for name, called in names.items()
        if f"{name}_accuracy" in row
    ]
    if "valid_accuracy" in row:
        items.append(
            "The validation images chose the epoch, which favours it a little."
        )
    if "valid_accuracy" not in row:
        items.append("Scores of training images say little about new ones.")
    return items


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _is_same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and bool(np.all(value == default))
