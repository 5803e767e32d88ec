"""The attributes of fitted estimators that a model file holds, and how each must be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from sktransfer._images.geometry import RESIZE

Check = Callable[[Any], bool]

# No image has more channels, and none that is decoded here more pixels on a side.
MOST_SIDE = 1_000_000


def _is_count(value: Any) -> bool:
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    return is_integer and int(value) >= 0


def _is_number(value: Any) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_shape(value: Any) -> bool:
    return (
        isinstance(value, tuple)
        and len(value) == 3
        and all(_is_count(n) and 0 < n <= MOST_SIDE for n in value)
    )


def _is_vector(kinds: str) -> Check:
    def check(value: Any) -> bool:
        is_one = isinstance(value, np.ndarray) and value.ndim == 1
        return is_one and (not kinds or value.dtype.kind in kinds)

    return check


def _is_of(kind: type) -> Check:
    return lambda value: isinstance(value, kind)


def _is_history(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(row, dict) and _is_count(row.get("epoch")) for row in value
    )


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
        value["resize"] in RESIZE
        and value["interpolation"] in ("bilinear", "bicubic")
        and isinstance(fill, tuple)
        and all(_is_number(part) for part in fill)
        and (max_value == "auto" or (_is_number(max_value) and max_value > 0))
    )


_OF_ALL: dict[str, Check] = {
    "n_features_in_": _is_count,
    "feature_names_in_": _is_vector("O"),
    "image_shape_": _is_shape,
    "device_": _is_of(str),
    "precision_": lambda value: value in ("float32", "bfloat16"),
    "_own_shape": _is_shape,
    "_brightness": _is_number,
    "_had_pictures": _is_of(bool),
    "_reading": _is_reading,
    "_fitted_network": _is_of(dict),
}

_OF_CLASSIFIERS: dict[str, Check] = {
    "classes_": _is_vector(""),
    "history_": _is_history,
    "n_iter_": _is_count,
    "best_epoch_": _is_count,
    "cache_info_": _is_of(tuple),
    "fit_time_": _is_number,
    "bad_images_": _is_vector("iu"),
    "_trained_on": _is_of(dict),
}

_OF_TRANSFER: dict[str, Check] = {
    "probe_share_": _is_number,
    "unfreeze_depth_": _is_count,
    "depth_reason_": _is_of(str),
}

# Some fits have no such attributes.
OPTIONAL = {"feature_names_in_", "bad_images_"}

# What is saved in another way: as tensors.
NETWORKS = {"net_", "stages_"}


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
    return ""
