"""The attributes of fitted estimators that a model file holds, and how each must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from sktransfer._estimators.persistence.kinds import OwnBackbone
from sktransfer._images.geometry import RESIZE
from sktransfer._images.shapes import check_shape

Check = Callable[[Any], bool]

# No image has more channels, and none that is decoded here more pixels on a side.
MOST_SIDE = 1_000_000

# More than any network sees of a picture.
MOST_PICTURE_PIXELS = 2**26

# What scikit-learn's `set_output` sets.
OUTPUTS = [{"transform": form} for form in ("default", "pandas", "polars")]

# Of a number that is shown, or multiplied by a small one.
MOST = 1e300

# What the rows of a history hold as numbers, as far as they have them.
SETS = ("train", "valid")
IN_HISTORY = (
    *(f"{name}_{what}" for name in SETS for what in ("loss", "accuracy")),
    "dur",
    "unfreeze_depth",
)


def _is_count(value: Any) -> bool:
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    return is_integer and 0 <= int(value) < 2**63


def _is_number(value: Any) -> bool:
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    # numpy would bring the bound to its own type, beyond which it may be.
    number: Any = value.item() if isinstance(value, np.generic) else value
    return bool(-MOST <= number <= MOST)


def _is_share(value: Any) -> bool:
    return _is_number(value) and 0 <= value <= 1


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(_is_count(n) and 0 < n <= MOST_SIDE for n in value)
    )


def _is_one_of(*known: str) -> Check:
    # Arrays compare with anything, number by number.
    return lambda value: isinstance(value, str) and value in known


def _is_vector(kinds: str) -> Check:
    def check(value: Any) -> bool:
        is_one = isinstance(value, np.ndarray) and value.ndim == 1
        return is_one and (not kinds or value.dtype.kind in kinds)

    return check


def _are_names(value: Any) -> bool:
    return _is_vector("O")(value) and all(isinstance(name, str) for name in value)


def _is_of(kind: type) -> Check:
    return lambda value: type(value) is kind


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_row, value))


def _is_row(row: Any) -> bool:
    """Return whether this is a row of a history; callbacks may have added to it."""
    if not isinstance(row, dict) or not _is_count(row.get("epoch")):
        return False
    are_texts = all(isinstance(name, str) and name != "batches" for name in row)
    are_numbers = all(_is_number(row[name]) for name in IN_HISTORY if name in row)
    are_pairs = all((f"{n}_accuracy" in row) <= (f"{n}_loss" in row) for n in SETS)
    return are_texts and are_numbers and are_pairs


def _is_reading(value: Any) -> bool:
    """Return whether these are options of reading pictures, and no others."""
    if not isinstance(value, dict) or set(value) != {
        "resize",
        "interpolation",
        "fill",
        "max_value",
    }:
        return False
    fill, max_value = value["fill"], value["max_value"]
    return (
        _is_one_of(*RESIZE)(value["resize"])
        and _is_one_of("bilinear", "bicubic")(value["interpolation"])
        and isinstance(fill, tuple)
        and all(_is_number(part) for part in fill)
        and (_is_one_of("auto")(max_value) or (_is_number(max_value) and max_value > 0))
    )


def _is_network(value: Any) -> bool:
    """Return whether these are parameters that decide what a network is."""
    if not isinstance(value, dict):
        return False
    kinds = (str, bool, int, float, np.bool_, np.integer, np.floating, OwnBackbone)
    parts = [
        part
        for item in value.values()
        for part in (item if isinstance(item, (list, tuple)) else [item])
    ]
    return all(part is None or isinstance(part, kinds) for part in parts)


def _is_trained_on(value: Any) -> bool:
    """Return whether this says how many images there were."""
    return (
        isinstance(value, dict)
        and set(value) == {"n_per_class", "n_validation"}
        and _is_vector("iu")(value["n_per_class"])
        and _is_count(value["n_validation"])
    )


_OF_ALL: dict[str, Check] = {
    "n_features_in_": _is_count,
    "feature_names_in_": _are_names,
    "image_shape_": _is_shape,
    "device_": _is_of(str),
    "precision_": _is_one_of("float32", "bfloat16"),
    "_own_shape": _is_shape,
    "_brightness": _is_number,
    "_had_pictures": _is_of(bool),
    "_reading": _is_reading,
    "_fitted_network": _is_network,
    "_sklearn_output_config": lambda value: value in OUTPUTS,
}

_OF_CLASSIFIERS: dict[str, Check] = {
    "classes_": _is_vector(""),
    "history_": _is_history,
    "n_iter_": _is_count,
    "best_epoch_": _is_count,
    "interrupted_": _is_of(bool),
    "cache_info_": lambda value: isinstance(value, tuple) and hasattr(value, "hits"),
    "fit_time_": _is_number,
    "bad_images_": _is_vector("iu"),
    "_trained_on": _is_trained_on,
}

_OF_TRANSFER: dict[str, Check] = {
    "probe_share_": _is_share,
    "unfreeze_depth_": _is_count,
    "depth_reason_": _is_of(str),
}

# Some fits have no such attributes.
OPTIONAL = {"feature_names_in_", "bad_images_", "_sklearn_output_config"}


def list_attributes(is_classifier: bool, is_transfer: bool) -> Mapping[str, Check]:
    """List the attributes that an estimator of a kind has after `fit`."""
    return {
        **_OF_ALL,
        **(_OF_CLASSIFIERS if is_classifier else {}),
        **(_OF_TRANSFER if is_classifier and is_transfer else {}),
    }


def find_fault(attributes: Mapping[str, Any], checks: Mapping[str, Check]) -> str:
    """Say what is wrong with attributes from a file; an empty text if nothing is."""
    unknown = set(attributes) - set(checks)
    missing = set(checks) - set(attributes) - OPTIONAL
    if unknown or missing:
        names = ", ".join(sorted(map(repr, unknown | missing)))
        return f"the attributes {names[:80]} are unknown or missing"
    for name, value in attributes.items():
        if not checks[name](value):
            return f"{name} is {value!r:.40}"
    return _find_disagreement(attributes)


def _find_disagreement(attributes: Mapping[str, Any]) -> str:
    """Say which attributes, each of which may be right, do not fit each other."""
    height, width, n_channels = attributes["image_shape_"]
    n_features = attributes["n_features_in_"]
    if n_features != height * width * n_channels:
        return f"n_features_in_ is {n_features} for images of other sizes"
    names = attributes.get("feature_names_in_")
    if names is not None and len(names) != n_features:
        return f"feature_names_in_ are {len(names)} for {n_features} features"
    if not attributes["_had_pictures"]:
        return ""
    # Pictures of any size are brought to this one.
    if height * width > MOST_PICTURE_PIXELS or n_channels not in (1, 3):
        return f"image_shape_ is {attributes['image_shape_']}"
    if len(attributes["_reading"]["fill"]) not in (1, 3):
        return f"fill is {attributes['_reading']['fill']!r:.40}"
    return ""


def agrees(image_shape: Any, found: tuple[int, int, int]) -> bool:
    """Return whether the parameter of this name allows images of the shape found."""
    if image_shape is None:
        return True
    try:
        wanted = check_shape(image_shape)
    except Exception:  # it may hold anything
        return False
    return all(n in (-1, m) for n, m in zip(wanted, found, strict=True))
