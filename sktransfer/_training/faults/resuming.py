"""What a fit depends on, so that it is resumed from its own checkpoint only."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from skorch.callbacks import Callback

from sktransfer._activations.keys import hash_images
from sktransfer._files.versions import THAT_COMPUTE, list_versions
from sktransfer._networks.read_once import hash_tensor
from sktransfer._networks.stages import Stages
from sktransfer._training.callbacks.averaging import draw_rows
from sktransfer._training.callbacks.checkpoint import ENDING, Checkpoint, has_progress
from sktransfer._training.faults.describing import describe
from sktransfer._training.image_sets import ImageDataset
from sktransfer._training.ranks.group import Group
from sktransfer._training.settings import TrainingSettings

# Settings that change nothing in the result, or are told apart by other names.
WITHOUT_EFFECT = {
    "activation_cache",
    "callbacks",
    "checkpoint",
    "depth_reason",
    "device",
    "network_params",
    "verbose",
}


# What users call it that decides these.
NAMES = {
    "plan": "max_epochs, unfreeze_depth or unfreeze_schedule",
    "seed": "random_state",
    "solve_head": "head_init or warm_start",
    "patience": "early_stopping or n_iter_no_change",
}

# Names of files of other kinds, with which somebody means a file and not a folder.
OF_FILES = {
    ".ckpt",
    ".pt",
    ".pth",
    ".bin",
    ".h5",
    ".pkl",
    ".safetensors",
    ".sktransfer",
}


def make_checkpoint(
    stages: Stages,
    train_set: ImageDataset,
    valid_set: ImageDataset | None,
    settings: TrainingSettings,
    group: Group | None = None,
) -> Checkpoint | None:
    """Make the callback that writes checkpoints, and resumes from one that is there.

    Parameters
    ----------
    stages : Stages
        Before training.

    train_set, valid_set : ImageDataset
        `valid_set` may be None.

    settings : TrainingSettings
        Of the fit.

    group : Group or None, default=None
        The ranks that train together. The first one writes, and looks at the images.

    Returns
    -------
    Checkpoint or None
        None if no checkpoints are wanted.

    Raises
    ------
    ValueError
        If a callback of the user's cannot be resumed.
    OSError
        If the folder does not exist and cannot be made.
    """
    if settings.checkpoint is None:
        return None
    for callback in settings.callbacks:
        _refuse_without_state(callback)
    found: dict[str, str] = {}
    if group is None or group.is_first:
        found = fingerprint(stages, train_set, valid_set, settings)
    if group is not None:
        found = group.share(found)
    path = settings.checkpoint
    if path.suffix != ENDING:  # a folder, for several fits
        name = hashlib.sha256(repr(sorted(found.items())).encode()).hexdigest()[:32]
        path = path / f"{name}{ENDING}"
    path.parent.mkdir(parents=True, exist_ok=True)
    is_named_here = settings.checkpoint != path
    return Checkpoint(path, found, is_named_here, group)


def _take_callback(item: Any) -> Callback:
    """Return a callback that has a name or none."""
    return item[1] if isinstance(item, tuple) else item


def _refuse_without_state(item: Any) -> None:
    callback = _take_callback(item)
    if not has_progress(callback):
        raise ValueError(
            f"callbacks holds a {type(callback).__name__}, whose state a checkpoint "
            "cannot hold; give it the methods state_dict() and load_state_dict(state), "
            "or pass checkpoint=None."
        )


def fingerprint(
    stages: Stages,
    train_set: ImageDataset,
    valid_set: ImageDataset | None,
    settings: TrainingSettings,
    most_images: int | None = None,
) -> dict[str, str]:
    """List what the result of a fit depends on, by name, as texts or hashes.

    With `most_images`, no more of the images are looked at, and what cannot be told
    from others of its type counts as the same: enough for processes that run one
    script.
    """
    of = _describe if most_images is None else _describe_roughly
    found = {
        NAMES.get(field.name, field.name): of(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
        if field.name not in WITHOUT_EFFECT
    }
    for name, value in settings.network_params.items():
        found[name] = of(value)
    found["callbacks"] = ", ".join(of(item) for item in settings.callbacks)
    found["device"] = settings.device.type
    versions = list_versions()
    found.update({name: versions[name] for name in THAT_COMPUTE})
    tensors = stages.state_dict().items()
    hashes = [hash_tensor(name, tensor) for name, tensor in tensors]
    found["network"] = hash_all([repr(stages).encode(), *hashes])
    for suffix, dataset in {"": train_set, "_val": valid_set}.items():
        if dataset is not None:
            rows = dataset.rows
            some = rows if most_images is None else draw_rows(rows, most_images)
            digests = hash_images(dataset.images, some)
            found[f"X{suffix}"] = hash_all([np.ascontiguousarray(digests).data])
            found[f"y{suffix}"] = hash_all([dataset.labels[rows].data])
            found[f"sample_weight{suffix}"] = hash_all([dataset.weights[rows].data])
    return found


def hash_all(parts: Iterable[bytes | memoryview]) -> str:
    """Compute one SHA-256 of several parts, each with its length."""
    digest = hashlib.sha256()
    for part in parts:
        view = memoryview(part)
        digest.update(f"{view.nbytes}:".encode())
        digest.update(view)
    return digest.hexdigest()


def _describe(value: Any) -> str:
    """Describe a setting in a way that is the same in every process.

    Raises
    ------
    ValueError
        If it has no such description.
    """
    try:
        return describe(value)
    except TypeError as error:
        raise ValueError(
            f"checkpoint=: a later process could not tell whether it has the same "
            f"{value!r:.80}, which holds {error}; pass checkpoint=None."
        ) from None


def _describe_roughly(value: Any) -> str:
    """Describe a setting, by its type if there is no other way."""
    try:
        return describe(value)
    except TypeError:
        return type(value).__qualname__


def check_checkpoint(checkpoint: Any, random_state: Any) -> Path | None:
    """Return the path of checkpoints; ValueError if a fit could not be resumed.

    Parameters
    ----------
    checkpoint, random_state
        As users pass them.

    Returns
    -------
    Path or None
    """
    if checkpoint is None:
        return None
    path = Path(checkpoint)
    if not isinstance(random_state, (int, np.integer)):
        raise ValueError(
            f"checkpoint={str(path)!r} needs an integer as random_state, not "
            f"{random_state!r}: what was drawn before must be drawn again."
        )
    if path.suffix == ENDING and path.is_dir():
        raise ValueError(
            f"checkpoint={str(path)!r} is a folder, although its name ends in {ENDING}."
        )
    is_file = path.exists() and not path.is_dir()
    if path.suffix != ENDING and (is_file or path.suffix in OF_FILES):
        raise ValueError(
            f"checkpoint={str(path)!r} is a file whose name does not end in {ENDING}; "
            f"pass a name that does, or a folder."
        )
    return path
