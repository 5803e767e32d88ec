"""A trained net, made again from what a model file holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from sktransfer._activations.cache import CacheInfo
from sktransfer._networks.device import move_to
from sktransfer._networks.stages import Stages
from sktransfer._training.net import StagesNet
from sktransfer._training.train import forget_training_state


def restore_net(
    stages: Stages,
    n_prefix: int,
    device: torch.device,
    precision: str,
    history: Sequence[Mapping[str, Any]],
    cache_info: CacheInfo,
) -> StagesNet:
    """Make the net that `train` returned, for prediction and for training that goes on.

    Parameters
    ----------
    stages : Stages
        With its weights; moved to the device.

    n_prefix : int
        Stages that stayed frozen throughout.

    device : torch.device
        Where to compute.

    precision : {"float32", "bfloat16"}
        Number format of matrix products.

    history : sequence of mapping
        Rows of the epochs.

    cache_info : CacheInfo
        What the cache did.

    Returns
    -------
    StagesNet
    """
    net = StagesNet(
        move_to(stages, device),
        precision=precision,
        n_prefix=n_prefix,
        criterion__reduction="none",
        train_split=None,
        device=str(device),
        verbose=0,
    )
    net.initialize()
    for row in history:
        net.history.new_epoch()
        for name, value in row.items():
            net.history.record(name, value)
    net.interrupt_, net.has_probe_, net.cache_info_ = None, False, cache_info
    forget_training_state(net, None)
    return net
