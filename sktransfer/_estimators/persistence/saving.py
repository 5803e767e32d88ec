"""Saving: what a fitted estimator is, put into a model file."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted

from sktransfer._estimators.persistence.attributes import agrees, list_attributes
from sktransfer._estimators.persistence.card import write_card
from sktransfer._estimators.persistence.kinds import KIND, list_codecs
from sktransfer._files.encoding import Encoder, EncodingError
from sktransfer._files.model_file import take_bytes, write_model_file
from sktransfer._files.versions import list_versions
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.blueprints.building import check_blueprint
from sktransfer._networks.blueprints.checking import BlueprintError
from sktransfer._networks.blueprints.drawing import draw_blueprint
from sktransfer._networks.blueprints.outputs import check_outputs
from sktransfer._networks.blueprints.referring import load_referenced, name_weights
from sktransfer._networks.weights.checkpoints import has_weight_ending

if TYPE_CHECKING:
    from sktransfer._networks.stages import Stages

ESTIMATORS = (
    "FeatureExtractor",
    "ResNetFeatureExtractor",
    "ResNetTransferClassifier",
    "ScratchCNNClassifier",
    "TransferClassifier",
)

# Parameters that name places on one machine, and what they become in a file.
PLACES = {"activation_cache": "auto", "checkpoint": None}


def save_estimator(
    estimator: Any,
    path: str | os.PathLike[str],
    backbone: str,
    omit: Collection[str],
    description: str | None,
) -> None:
    """Write an estimator into a file; see :meth:`Saved.save`."""
    check_is_fitted(estimator)
    _check_class(estimator)
    estimator._validate_params()
    stages: Stages = find_stages(estimator)
    _refuse_broken(stages)
    if backbone not in ("embed", "reference"):
        raise ValueError(f"backbone={backbone!r}: pass 'embed' or 'reference'.")
    if not isinstance(description, str | None):
        raise TypeError(f"description={description!r:.80} must be a text.")
    params = _pack_params(estimator, omit)
    attributes = _pack_attributes(estimator)
    tensors = stages.state_dict()
    reference, versions = None, list_versions()
    blueprint = draw_blueprint(stages, estimator._fitted_network.get("backbone"))
    _check_network(estimator, blueprint, tensors)
    if backbone == "reference":
        reference = _refer(estimator, blueprint, tensors)
        for name in reference["names"]:
            del tensors[name]
    content = {
        "estimator": type(estimator).__name__,
        "params": params,
        "omitted": sorted(omit),
        "attributes": attributes,
        "network": blueprint,
        "n_prefix": estimator.net_.n_prefix if hasattr(estimator, "net_") else 0,
        "reference": reference,
        "check": check_outputs(stages, estimator.image_shape_),
        "versions": versions,
    }
    card = write_card(estimator, params, sorted(omit), reference, versions, description)
    try:
        write_model_file(Path(path), KIND, content, tensors, list_codecs(), card)
    except EncodingError as error:
        raise TypeError(
            f"this {type(estimator).__name__} cannot be saved: a model file holds no "
            f"{error}."
        ) from None


def _check_network(
    estimator: Any, blueprint: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Raise a ValueError if the network could not be loaded again."""
    if not agrees(estimator.image_shape, estimator.image_shape_):
        raise ValueError(
            f"image_shape={estimator.image_shape!r} was changed since the fit, whose "
            f"images had the shape {estimator.image_shape_}; set it back, or fit again."
        )
    backbone = estimator._fitted_network.get("backbone")
    own = backbone if isinstance(backbone, Backbone) else None
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    try:
        check_blueprint(blueprint, own, shapes, estimator.image_shape_)
    except BlueprintError as error:
        raise ValueError(
            f"this {type(estimator).__name__} cannot be saved, since it could not be "
            f"loaded again: {error}."
        ) from error


def find_stages(estimator: Any) -> Stages:
    """Return the network of a fitted estimator."""
    has_net = hasattr(estimator, "net_")
    stages: Stages = estimator.net_.module_ if has_net else estimator.stages_
    return stages


def find_broken(stages: Stages) -> str | None:
    """Return the name of weights with NaN or infinity, if there are some."""
    learned = dict(stages.named_parameters())
    for name, tensor in stages.state_dict().items():
        # Masks may be infinite.
        broken = ~tensor.isfinite() if name in learned else tensor.isnan()
        if name.endswith(".running_var"):
            broken = broken | (tensor < 0)
        if bool(broken.any()):
            return name
    return None


def _refuse_broken(stages: Stages) -> None:
    """Raise a ValueError if nothing could be predicted with these weights."""
    broken = find_broken(stages)
    if broken is not None:
        raise ValueError(
            f"{broken} of the network holds NaN or infinity, with which nothing can be "
            "predicted; fit again, with a lower lr, before you save."
        )


def _check_class(estimator: Any) -> None:
    """Raise a TypeError unless the estimator is of a class that `load` makes."""
    kind = type(estimator)
    if kind.__name__ not in ESTIMATORS or kind.__module__ != "sktransfer":
        raise TypeError(
            f"{kind.__name__} is a class of your own, which a file without code cannot "
            "name; save an estimator of this package, or use pickle for files that "
            "nobody else can write."
        )


def _pack_params(estimator: Any, omit: Collection[str]) -> dict[str, Any]:
    """Return the parameters that can be saved; TypeError for others."""
    params = estimator.get_params(deep=False)
    unknown = [omit] if isinstance(omit, str) else sorted(set(omit) - set(params))
    if unknown:
        raise ValueError(
            f"omit={omit!r} must be a list of parameters of "
            f"{type(estimator).__name__}, and {unknown[0]!r} is none."
        )
    kept = {
        name: _leave_place(name, value)
        for name, value in params.items()
        if name not in omit
    }
    for name, value in kept.items():
        try:
            Encoder(list_codecs()).encode(value)
        except EncodingError as error:
            raise TypeError(
                f"{name}={value!r:.80} cannot be saved, since a file without code "
                f"holds no {error}. Ways out: save(path, omit=[{name!r}]), then "
                f"load(path, params={{{name!r}: ...}}); or set_params({name}=...) to a "
                "value that can be saved."
            ) from None
    return kept


def _leave_place(name: str, value: Any) -> Any:
    """Replace a folder or file of this machine by the default, or by its name."""
    is_path = isinstance(value, (str, os.PathLike))
    if name == "weights" and is_path and has_weight_ending(value):
        return Path(value).name
    if name not in PLACES or value in (None, "auto"):
        return value
    return PLACES[name] if is_path or getattr(value, "path", None) else value


def _pack_attributes(estimator: Any) -> dict[str, Any]:
    """Return the fitted attributes; TypeError for one that cannot be saved."""
    checks = list_attributes(
        hasattr(estimator, "classes_"), hasattr(estimator, "backbone")
    )
    attributes = {n: v for n, v in vars(estimator).items() if n in checks}
    for name, value in attributes.items():
        try:
            Encoder(list_codecs()).encode(value)
        except EncodingError as error:
            raise TypeError(
                f"{name} cannot be saved: a file without code holds no {error}. If it "
                "is not needed, delete it from the attribute."
            ) from None
    return attributes


def _refer(
    estimator: Any, blueprint: Mapping[str, Any], tensors: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """Name the tensors that are still those of the pretrained backbone."""
    weights = getattr(estimator, "weights", None)
    if not isinstance(weights, str):
        raise ValueError(
            f"backbone='reference' needs a backbone and weights with a name, and not "
            f"weights={weights!r:.80}; pass backbone='embed'."
        )
    own = estimator._fitted_network["backbone"]
    try:
        weights = name_weights(own, weights)
        pretrained = load_referenced(blueprint, own, weights, estimator.image_shape_)
    except ValueError as error:
        raise ValueError(
            f"backbone='reference' is impossible here: {error}; pass backbone='embed'."
        ) from None
    names = [
        name
        for name in sorted(tensors)
        if name in pretrained and is_same(tensors[name], pretrained[name])
    ]
    return {
        "weights": weights,
        "names": names,
        "sha256": hash_tensors({name: pretrained[name] for name in names}),
    }


def is_same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors are equal in every bit."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    return np.array_equal(take_bytes(one), take_bytes(other))


def hash_tensors(tensors: Mapping[str, torch.Tensor]) -> str:
    """Compute the SHA-256 of tensors with their names, in the order of these."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}:".encode())
        digest.update(take_bytes(tensor))
    return digest.hexdigest()
