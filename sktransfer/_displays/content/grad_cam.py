"""Grad-CAM: where in an image the output of a stage has evidence for a class.

This is written by hand because stages already encode and decode, so that the gradient
at a stage's output takes two calls. Packages for Grad-CAM hook the modules of a whole
network, and depend on OpenCV and more.
"""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional as F

from sktransfer._feedback import warn
from sktransfer._images.preprocessing import Preprocess, to_batch
from sktransfer._networks.device import autocast
from sktransfer._networks.stages import Stages

# Smaller than for prediction: gradients need the activations of every later stage.
BATCH_SIZE = 16


def check_stage(stages: Stages, stage: str | None) -> str:
    """Return the name of the stage to explain, by default the last before the head.

    Raises
    ------
    ValueError
        If there is no such stage, or it is the head, whose output has no locations.
    """
    before_head = stages.names[:-1]
    if stage is None:
        return before_head[-1]
    if stage not in before_head:
        raise ValueError(
            f"stage={stage!r} is not a stage before the head; choose one of "
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
    """Compute maps of the evidence for a class, after Selvaraju et al. (2017).

    The network is left unchanged: only the gradient of the activation is computed.

    Parameters
    ----------
    stages : Stages
        The network, in eval mode.

    stage : str
        Name of the stage whose output is weighted.

    images : ndarray of shape (n_images, height, width, n_channels)
        The images as the user passed them.

    targets : ndarray of shape (n_images,), int
        Position in the logits of the class of each image.

    device : torch.device
        Device of the stages.

    Returns
    -------
    ndarray of shape (n_images, height, width), float32 in [0, 1]
        Each map is divided by its maximum, or all zeros if there is no evidence.
    """
    maps = []
    # The caller may have turned gradients off.
    with torch.inference_mode(False), autocast("float32", device):
        _warn_if_single_location(stages, stage, images[:1], device)
        for start in range(0, len(images), BATCH_SIZE):
            some = slice(start, start + BATCH_SIZE)
            batch = to_batch(images[some], device)
            classes = torch.from_numpy(targets[some]).to(device)
            maps.append(_compute_maps(stages, stage, batch, classes).cpu())
    return torch.cat(maps).numpy()


def _compute_maps(
    stages: Stages, stage: str, batch: torch.Tensor, targets: torch.Tensor
) -> torch.Tensor:
    """Compute the maps of a batch of images, (n, height, width) in [0, 1]."""
    n_stages = stages.names.index(stage) + 1
    with torch.no_grad():
        # encode(batch, n_stages) would pool the activation before the head.
        activation = stages.encode(batch, n_stages - 1)
        activation = stages.get_submodule(stage)(activation).float()
    with torch.enable_grad():
        activation.requires_grad_()
        logits = stages.decode(activation, n_stages)
        # Each logit depends on its own image only, so the sum has all gradients.
        total = logits.gather(1, targets[:, None]).sum()
        # Unlike backward(), this does not touch the gradients of parameters.
        (gradient,) = torch.autograd.grad(total, activation)
    with torch.no_grad():
        weights = gradient.mean(dim=(2, 3), keepdim=True)
        maps = (weights * activation).sum(dim=1, keepdim=True).relu()
        maps = _spread_maps(stages, maps, (batch.shape[1], batch.shape[2]))[:, 0]
        highest = maps.amax(dim=(1, 2), keepdim=True)
        return torch.where(highest > 0, maps / highest, torch.zeros_like(maps))


def _spread_maps(
    stages: Stages, maps: torch.Tensor, size: tuple[int, int]
) -> torch.Tensor:
    """Bring maps to the size of the images, of which the network may see a part."""
    if isinstance(stages.preprocess, Preprocess):
        return stages.preprocess.spread(maps, size)
    return F.interpolate(maps, size, mode="bilinear", antialias=True)


def _warn_if_single_location(
    stages: Stages, stage: str, image: np.ndarray, device: torch.device
) -> None:
    """Warn if the output of a stage has a single location, and name one with more."""
    sizes = _measure_maps(stages, image, device)
    if sizes[stage] != (1, 1):
        return
    larger = [name for name, size in sizes.items() if size != (1, 1)]
    remedy = "fit with a larger image_size"
    if larger:
        height, width = sizes[larger[-1]]
        remedy = f"pass stage={larger[-1]!r}, whose maps have {height} x {width}"
    warn(
        f"stage={stage!r} outputs maps of 1 x 1 for images of {image.shape[1]} x "
        f"{image.shape[2]} pixels, so the map of an image is the same everywhere; "
        f"{remedy}."
    )


@torch.no_grad()
def _measure_maps(
    stages: Stages, image: np.ndarray, device: torch.device
) -> dict[str, tuple[int, int]]:
    """Measure the height and width of the output of each stage before the head."""
    sizes = {}
    activation = stages.encode(to_batch(image, device), 0)
    for name, module in list(stages.items())[:-1]:
        activation = module(activation)
        height, width = activation.shape[2:]
        sizes[name] = (height, width)
    return sizes
