"""Whether all ranks are about to train the same network on the same images."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from typing import Any, NoReturn

import torch

from sktransfer._networks.stages import Stages
from sktransfer._training.faults.resuming import fingerprint
from sktransfer._training.image_sets import ImageDataset
from sktransfer._training.ranks.group import Group, join_group, raise_together
from sktransfer._training.settings import TrainingSettings

# Images whose content is compared. Of files, each rank reads its own share alone.
MOST_COMPARED = 1000

# Differences that an error names.
MOST_NAMED = 5


def check_agreement(
    group: Group,
    stages: Stages,
    train_set: ImageDataset,
    valid_set: ImageDataset | None,
    settings: TrainingSettings,
) -> None:
    """Raise a ValueError, on every rank, unless all have the same before them.

    Parameters
    ----------
    group : Group
        The ranks.

    stages : Stages
        Before training; compared whole.

    train_set, valid_set : ImageDataset
        Labels and weights are compared whole, and the content of up to 1,000 images of
        each. `valid_set` may be None.

    settings : TrainingSettings
        Of the fit.
    """
    own = fingerprint(stages, train_set, valid_set, settings, MOST_COMPARED)
    own["checkpoint"] = str(settings.checkpoint)
    every = group.meet(own)
    differ = [
        f"rank {number} has another {name}"
        for number, other in enumerate(every)
        for name in sorted({*every[0], *other})
        if other.get(name) != every[0].get(name)
    ]
    if differ:
        _refuse(differ)
    if len(train_set) < group.n_ranks:
        error = ValueError(
            f"there are {group.n_ranks} ranks, but only {len(train_set)} images to "
            "train on, so that some ranks would have none; start fewer "
            "(--nproc-per-node)."
        )
        raise_together(error)


def share_seed(seed: int, random_state: Any, device: torch.device) -> int:
    """Return the seed of the first rank, or this one of a process that is alone.

    Raises
    ------
    ValueError
        On every rank, if they were given different numbers as `random_state`.
    """
    group = join_group(device)
    if group is None:
        return seed
    number = random_state if isinstance(random_state, numbers.Integral) else None
    every = group.meet((seed, number))
    if len({given for _, given in every}) > 1:
        _refuse(
            f"rank {rank} has another random_state"
            for rank, (_, given) in enumerate(every)
            if given != every[0][1]
        )
    first: int = every[0][0]
    return first


def _refuse(differences: Iterable[str]) -> NoReturn:
    """Raise the error that names what is different in some ranks."""
    error = ValueError(
        "the ranks of this job do not train the same: "
        f"{', '.join(list(differences)[:MOST_NAMED])} than rank 0. All ranks have to "
        "pass the same images in the same order, and the same parameters: each takes "
        "its share by itself. To train different networks, start their scripts without "
        "torchrun."
    )
    raise_together(error)
