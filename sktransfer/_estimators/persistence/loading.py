"""Loading: an estimator made from a model file, which may hold anything."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.exceptions import InconsistentVersionWarning

from sktransfer._estimators.features import FeatureExtractor, ResNetFeatureExtractor
from sktransfer._estimators.persistence.attributes import (
    agrees,
    find_fault,
    list_attributes,
)
from sktransfer._estimators.persistence.inspecting import list_omitted
from sktransfer._estimators.persistence.kinds import KIND, OwnBackbone, list_codecs
from sktransfer._estimators.persistence.reusing import load_once
from sktransfer._estimators.persistence.saving import (
    ESTIMATORS,
    PLACES,
    find_broken,
    hash_tensors,
)
from sktransfer._estimators.scratch import ScratchCNNClassifier
from sktransfer._estimators.transfer import (
    ResNetTransferClassifier,
    TransferClassifier,
)
from sktransfer._feedback import warn
from sktransfer._files.model_file import ModelFile, ModelFileError, open_model_file
from sktransfer._files.versions import compare_versions
from sktransfer._images.shapes import Shape
from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.blueprints.building import build_network
from sktransfer._networks.blueprints.checking import BlueprintError
from sktransfer._networks.blueprints.outputs import check_outputs, is_close
from sktransfer._networks.blueprints.referring import load_referenced
from sktransfer._networks.device import (
    move_to,
    recheck_precision,
    resolve_device,
    resolve_precision,
)
from sktransfer._networks.stages import Stages
from sktransfer._training.restoring import restore_net

CLASSES = {
    kind.__name__: kind
    for kind in (
        FeatureExtractor,
        ResNetFeatureExtractor,
        ResNetTransferClassifier,
        ScratchCNNClassifier,
        TransferClassifier,
    )
}
assert tuple(CLASSES) == ESTIMATORS


class ModelVersionWarning(InconsistentVersionWarning):
    """A model was saved with other releases of the packages that compute."""

    def __init__(self, message: str) -> None:
        self.message = message

    def __str__(self) -> str:
        return self.message


def load(
    path: str | os.PathLike[str],
    *,
    params: Mapping[str, Any] | None = None,
    sha256: str | None = None,
    reuse: bool = False,
) -> Any:
    """Read an estimator that its ``save`` has written.

    Nothing in the file is run as code, no module is imported because the file names
    it, and nothing is downloaded. Time and memory are bounded by the size of the file
    and by the network that it names.

    Parameters
    ----------
    path : str or path-like
        Of the file.

    params : mapping of str to object, default=None
        Parameters to set instead of those in the file, such as ``{"device": "cpu"}``;
        among them those that were left out when it was saved, and the
        :class:`Backbone` of a network of your own.

    sha256 : str, default=None
        The SHA-256 of the file, as ``sha256sum`` prints it, if you have it from a
        source that you trust. The hash within the file only shows damage: whoever
        writes a file writes its hash as well.

    reuse : bool, default=False
        Whether to return the same object again if this process has loaded the same
        content from this path, with the same `params` and ``reuse=True``, before; so a
        worker that scores many chunks loads the model once. Whoever asks for it shares
        it, also with other threads: do not fit it, and do not set its parameters. The
        file is hashed each time, so that one that was replaced is loaded anew. A
        process keeps the eight models that it was asked for last.

    Returns
    -------
    TransferClassifier, ScratchCNNClassifier, FeatureExtractor or one of their variants
        Fitted. Its predictions are those of the estimator that was saved, bit for bit
        on the same kind of machine with the same releases.

    Raises
    ------
    ModelFileError
        If the file is damaged, of another origin, or of a newer format, or if a
        parameter is needed that it does not hold. It is a ValueError.
    OSError
        If the file cannot be read, or weights that it refers to are not on this
        machine.
    TypeError
        With ``reuse=True``, if a value in `params` can be neither hashed nor pickled.

    Warns
    -----
    UserWarning
        If parameters had been left out and are not given.
    InconsistentVersionWarning
        If it was saved with another release of sktransfer, torch, torchvision, timm or
        Pillow.

    See Also
    --------
    inspect : Shows what is in a file.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from sklearn.datasets import load_digits
    >>> import sktransfer
    >>> X, y = load_digits(n_class=2, return_X_y=True)
    >>> clf = sktransfer.ScratchCNNClassifier(width=8, max_epochs=1, random_state=0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "digits.sktransfer"
    ...     clf.fit(X / 16, y).save(path)
    ...     loaded = sktransfer.load(path)
    >>> (loaded.predict_proba(X / 16) == clf.predict_proba(X / 16)).all()
    np.True_
    """
    path, given = Path(path), dict(params or {})
    if reuse:
        return load_once(path, given, sha256, _load)
    return _load(path, given, sha256)


load.__module__ = "sktransfer"


def _load(path: Path, given: dict[str, Any], sha256: str | None) -> Any:
    """Read an estimator, with other parameters than those in its file."""
    with open_model_file(path, KIND, list_codecs(), sha256) as opened:
        try:
            estimator = _build(opened, given)
        except ModelFileError:
            raise
        except (BlueprintError, _ContentError) as error:
            why = str(error).rstrip(".")
            raise ModelFileError(f"{str(path)!r} cannot be loaded: {why}.") from error
        versions = opened.content.get("versions")
        omitted = [n for n in list_omitted(opened.content) if n not in given]
    if omitted:
        warn(
            f"{', '.join(omitted)} had been left out of {str(path)!r}, and the default "
            "is used; pass load(path, params={...}) for what it was."
        )
    differing = compare_versions(versions if isinstance(versions, dict) else {})
    if differing:
        warn(
            ModelVersionWarning(
                f"{str(path)!r} was saved with {differing}; its predictions may differ "
                "a little from those before."
            )
        )
    return estimator


def _check_outputs(
    stages: Stages, image_shape: Shape, content: Mapping[str, Any], is_own: bool
) -> None:
    """Raise a _ContentError if a network computes something else than it did.

    Names and shapes of weights do not tell: a stride may have changed.
    """
    saved = content.get("check")
    if not isinstance(saved, np.ndarray) or saved.dtype != np.float32:
        return
    found = check_outputs(stages, image_shape)
    if found is None or is_close(found, saved):
        return
    which = "the Backbone that was passed" if is_own else "this release"
    raise _ContentError(
        f"the network of {which} computes something else than the one that was saved, "
        "although its weights have the same names and shapes"
    )


class _ContentError(ValueError):
    """A description that is none of an estimator."""


def _build(opened: ModelFile, given: dict[str, Any]) -> Any:
    """Make the estimator that a file describes."""
    content = opened.content
    name = content.get("estimator")
    if not isinstance(name, str) or name not in CLASSES:
        raise _ContentError(f"the estimator {name!r:.40} is unknown")
    estimator = _make_estimator(CLASSES[name], content, given)
    attributes = _check_attributes(estimator, content)
    is_given = "image_shape" in given
    if not is_given and not agrees(estimator.image_shape, attributes["image_shape_"]):
        raise _ContentError("its image_shape is not that of its images")
    network = content.get("network")
    if not isinstance(network, dict):
        raise _ContentError("it describes no network")
    own = _find_own_backbone(attributes, given)
    image_shape = attributes["image_shape_"]
    referenced = _load_referenced(content, own, image_shape)
    shapes = {
        **{name: form.shape for name, form in opened.forms.items()},
        **{name: tuple(tensor.shape) for name, tensor in referenced.items()},
    }
    _check_backbone(estimator, attributes, network, own)
    stages = build_network(network, own, shapes, image_shape)
    _check_fit(estimator, attributes, stages)
    _check_dtypes(opened, stages)
    stages.load_state_dict({**opened.read_tensors(), **referenced})
    broken = find_broken(stages)
    if broken is not None:
        raise _ContentError(f"{broken} holds NaN or infinity")
    _check_outputs(stages, image_shape, content, own is not None)
    vars(estimator).update(attributes)
    _set_network(estimator, stages, content, is_chosen="precision" in given)
    return estimator


def _make_estimator(
    kind: type[Any], content: Mapping[str, Any], given: dict[str, Any]
) -> Any:
    """Make an estimator with the parameters of a file and those given."""
    params = content.get("params")
    known = kind().get_params(deep=False)
    unknown = set(given) - set(known)
    if unknown:
        raise ValueError(
            f"params holds {', '.join(sorted(map(repr, unknown)))}, which "
            f"{kind.__name__} does not have."
        )
    if not isinstance(params, dict) or not set(params) <= set(known):
        raise _ContentError(f"its parameters are not those of {kind.__name__}")
    places = [name for name, value in params.items() if _is_place(name, value)]
    if places:
        raise _ContentError(f"its {places[0]} is a place on some machine")
    merged = {**params, **given}
    if isinstance(merged.get("backbone"), OwnBackbone):
        raise _ContentError(_ask_for_backbone(merged["backbone"]))
    try:
        estimator = kind(**merged)
        estimator._validate_params()
    except Exception as error:
        raise _ContentError(f"its parameters are wrong: {error!s:.500}") from None
    return estimator


def _is_place(name: str, value: Any) -> bool:
    """Return whether a parameter names a folder, or a file in some folder."""
    if not isinstance(value, (str, os.PathLike)):
        return False
    if name == "weights":
        return bool(os.path.dirname(value))
    return name in PLACES and value != PLACES[name]


def _ask_for_backbone(backbone: OwnBackbone) -> str:
    return (
        f"its network was built from the Backbone {backbone.name[:80]!r}, which is "
        "code and not in the file; pass load(path, params={'backbone': ...})"
    )


def _check_attributes(estimator: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fitted attributes, if they can be those of such an estimator."""
    attributes = content.get("attributes")
    is_classifier = hasattr(estimator, "predict")
    checks = list_attributes(is_classifier, hasattr(estimator, "backbone"))
    if not isinstance(attributes, dict):
        raise _ContentError("it holds no fitted attributes")
    fault = find_fault(attributes, checks)
    if fault:
        raise _ContentError(fault)
    return attributes


def _find_own_backbone(
    attributes: dict[str, Any], given: Mapping[str, Any]
) -> Backbone | None:
    """Return the user's Backbone that the network was built from, if it was."""
    network = attributes["_fitted_network"]
    if not isinstance(network.get("backbone"), OwnBackbone):
        return None
    own = given.get("backbone")
    if not isinstance(own, Backbone):
        raise _ContentError(_ask_for_backbone(network["backbone"]))
    name = network["backbone"].name
    if own.name != name:
        raise _ContentError(
            f"its network was built from the Backbone {name!r:.80}, and not from "
            f"{own.name!r:.80}"
        )
    network["backbone"] = own
    return own


def _check_backbone(
    estimator: Any,
    attributes: Mapping[str, Any],
    network: Mapping[str, Any],
    own: Backbone | None,
) -> None:
    """Raise a _ContentError if a network was built from another backbone than noted."""
    noted, named = (
        attributes["_fitted_network"].get("backbone"),
        network.get("backbone"),
    )
    is_cnn = not hasattr(estimator, "backbone")
    is_name = named is None or isinstance(named, str)
    if not is_name or noted != (own or named) or is_cnn != ("widths" in network):
        raise _ContentError("its network is not that of its backbone")


def _load_referenced(
    content: Mapping[str, Any],
    own: Backbone | None,
    image_shape: Shape,
) -> dict[str, torch.Tensor]:
    """Take the weights that a file refers to from where they are on this machine."""
    reference = content.get("reference")
    if reference is None:
        return {}
    if not isinstance(reference, dict) or own is not None:
        raise _ContentError("its reference to weights cannot be read")
    weights, names = reference.get("weights"), reference.get("names")
    if not isinstance(weights, str) or not isinstance(names, list):
        raise _ContentError("its reference to weights cannot be read")
    backbone = content["network"].get("backbone")
    pretrained = load_referenced(content["network"], backbone, weights, image_shape)
    if not all(isinstance(name, str) and name in pretrained for name in names):
        raise _ContentError("it refers to weights that its backbone does not have")
    found = {name: pretrained[name] for name in names}
    if hash_tensors(found) != reference.get("sha256"):
        raise _ContentError(
            f"the weights {weights[:80]!r} of {backbone!r} on this machine are not "
            "those that it was saved with"
        )
    return found


def _check_fit(estimator: Any, attributes: Mapping[str, Any], stages: Stages) -> None:
    """Raise a _ContentError if classes and outputs are not as many."""
    if not hasattr(estimator, "predict"):
        return
    n_classes = len(attributes["classes_"])
    n_counted = len(attributes["_trained_on"]["n_per_class"])
    n_outputs = stages.get_submodule("head.linear").out_features
    if not n_classes == n_counted == n_outputs:
        raise _ContentError(f"it has {n_classes} classes for {n_outputs} outputs")
    if len(set(attributes["classes_"].tolist())) < n_classes:
        raise _ContentError("it has a class twice")
    if attributes["n_iter_"] != len(attributes["history_"]):
        raise _ContentError("its history has another number of epochs")
    if not 1 <= attributes["best_epoch_"] <= len(attributes["history_"]):
        raise _ContentError("its best epoch is not in its history")


def _check_dtypes(opened: ModelFile, stages: Stages) -> None:
    """Raise a _ContentError if weights are other numbers than the network has."""
    own = stages.state_dict()
    wrong = [n for n, form in opened.forms.items() if form.dtype != own[n].dtype]
    if wrong:
        raise _ContentError(f"{wrong[0]} holds {opened.forms[wrong[0]].dtype} numbers")


def _find_device(name: str) -> torch.device:
    """Find the device that a parameter names, or the CPU if it is not here."""
    try:
        device = resolve_device(name)
    except RuntimeError:  # trained on a GPU that is not here
        return torch.device("cpu")
    except ValueError as error:
        raise _ContentError(f"{error!s:.200}") from None
    n_devices = torch.cuda.device_count() if device.type == "cuda" else 1
    is_here = device.index is None or device.index < n_devices
    return device if is_here else torch.device("cpu")


def _set_network(
    estimator: Any, stages: Stages, content: Mapping[str, Any], is_chosen: bool
) -> None:
    """Put the network on a device of this machine, and into the estimator.

    `is_chosen` tells whether the number format is one that the user asks for now.
    """
    device, asked = _find_device(estimator.device), estimator.precision
    precision = (
        resolve_precision(asked, device)
        if is_chosen
        else recheck_precision(estimator.precision_, asked, device)
    )
    estimator.device_, estimator.precision_ = str(device), precision
    if not hasattr(estimator, "predict"):
        estimator.stages_ = move_to(stages, device)
        return
    n_prefix = content.get("n_prefix")
    if type(n_prefix) is not int or not 0 <= n_prefix < len(stages.names):
        raise _ContentError(f"its n_prefix is {n_prefix!r:.40}")
    estimator.net_ = restore_net(
        stages, n_prefix, device, precision, estimator.history_, estimator.cache_info_
    )
