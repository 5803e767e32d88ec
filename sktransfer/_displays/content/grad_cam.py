"""Grad-CAM: which places of an image speak for a class, at the output of a stage.

Packages for this hook modules of a whole network, and bring OpenCV or more of their
own, where stages encode and decode: the gradient at a stage's output is two calls.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from sktransfer._feedback import warn
from sktransfer._images.preprocessing import to_batch
from sktransfer._networks.device import autocast
from sktransfer._networks.stages import Stages

# Gradients keep what every later stage computes, as training does: fewer images pass
# at a time than where logits alone are wanted.
BATCH_SIZE = 16


def check_stage(stages: Stages, stage: str | None) -> str:
    """The stage of this name, or the last before the head.

    Raises
    ------
    ValueError
        If there is no such stage, or it is the head, whose output has no places.
    """
    before_head = stages.names[:-1]
    if stage is None:
        return before_head[-1]
    if stage not in before_head:
        raise ValueError(
            f"stage={stage!r} is no stage before the head; choose one of "
            f"{', '.join(before_head)}."
        )
    return stage


def grad_cam(
    stages: Stages,
    stage: str,
    images: np.ndarray,
    targets: np.ndarray,
    device: torch.device,
) -> np.ndarray:
    """Maps of what speaks for a class, after Selvaraju et al. (2017), in float32.

    The network is left as it was: gradients are taken of the activation alone.

    Parameters
    ----------
    stages : Stages
        In eval mode.

    stage : str
        Whose output is weighted.

    images : ndarray of shape (n_images, height, width, n_channels)
        As the user has them.

    targets : ndarray of shape (n_images,), int
        Position of each image's class in the logits.

    device : torch.device
        Where the stages are.

    Returns
    -------
    ndarray of shape (n_images, height, width), float32 in [0, 1]
        Each divided by its own maximum; zeros where nothing speaks for the class.
    """
    maps = []
    # Gradients are wanted even where the caller has turned them off.
    with torch.inference_mode(False), autocast("float32", device):
        _warn_of_one_place(stages, stage, images[:1], device)
        for start in range(0, len(images), BATCH_SIZE):
            some = slice(start, start + BATCH_SIZE)
            batch = to_batch(images[some], device)
            chosen = torch.from_numpy(targets[some]).to(device)
            maps.append(_compute_maps(stages, stage, batch, chosen).cpu())
    return torch.cat(maps).numpy()


def _compute_maps(
    stages: Stages, stage: str, batch: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Maps in [0, 1] of a batch of images, (n, height, width)."""
    n_stages = stages.names.index(stage) + 1
    with torch.no_grad():
        # Not encode(batch, n_stages), which pools what reaches the head.
        activation = stages.encode(batch, n_stages - 1)
        activation = stages.get_submodule(stage)(activation).float()
    with torch.enable_grad():
        activation.requires_grad_()
        logits = stages.decode(activation, n_stages)
        # Logits depend on their own image alone: the sum has the gradient of each.
        total = logits.gather(1, targets[:, None]).sum()
        # Unlike backward(), this leaves the gradients of parameters alone.
        (gradient,) = torch.autograd.grad(total, activation)
    with torch.no_grad():
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        maps = (weights * activation).sum(dim=1, keepdim=True).relu()
        size = tuple(batch.shape[1:3])
        maps = F.interpolate(maps, size, mode="bilinear", antialias=True)[:, 0]
        highest = maps.amax(dim=(1, 2), keepdim=True)
        return torch.where(highest > 0, maps / highest, torch.zeros_like(maps))


def _warn_of_one_place(
    stages: Stages, stage: str, image: np.ndarray, device: torch.device
) -> None:
    """Warn where the output of a stage has a single place, and say which has more."""
    sizes = _measure_maps(stages, image, device)
    if sizes[stage] != (1, 1):
        return
    larger = [name for name, size in sizes.items() if size != (1, 1)]
    remedy = "fit with a larger image_size"
    if larger:
        height, width = sizes[larger[-1]]
        remedy = f"pass stage={larger[-1]!r}, whose maps have {height} x {width}"
    warn(
        f"stage={stage!r} puts out maps of 1 x 1 for images of {image.shape[1]} x "
        f"{image.shape[2]} pixels, so that every place looks the same; {remedy}."
    )


@torch.no_grad()
def _measure_maps(
    stages: Stages, image: np.ndarray, device: torch.device
) -> dict[str, tuple[int, int]]:
    """Height and width of what each stage before the head puts out."""
    sizes = {}
    activation = stages.encode(to_batch(image, device), 0)
    for name, module in list(stages.items())[:-1]:
        activation = module(activation)
        height, width = activation.shape[2:]
        sizes[name] = (height, width)
    return sizes
