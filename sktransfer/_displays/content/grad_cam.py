"""Grad-CAM: where in an image the output of a stage has evidence for a class.

This is written by hand because stages already encode and decode, so that the gradient
at a stage's output takes two calls. Packages for Grad-CAM hook the modules of a whole
network, and depend on OpenCV and more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch.nn import functional as F

from sktransfer._feedback import warn
from sktransfer._images.preprocessing import Preprocess, to_batch
from sktransfer._networks.device import autocast
from sktransfer._networks.stages import Stages

# Smaller than for prediction: gradients need the activations of every later stage.
BATCH_SIZE = 16
# Of the maps of an image: channels, height and width.
N_MAP_AXES = 3


def check_stage(stages: Stages, stage: str | None) -> None:
    """Raise a ValueError if there is no such stage before the head.

    The output of the head has no locations. ``None`` is any stage.
    """
    before_head = stages.names[:-1]
    if stage is not None and stage not in before_head:
        raise ValueError(
            f"stage={stage!r} is not a stage before the head; choose one of "
            f"{', '.join(before_head)}."
        )


def choose_stage(shapes: Mapping[str, tuple[int, ...]], stage: str | None) -> str:
    """Return the stage to explain, by default the last one that outputs maps.

    Parameters
    ----------
    shapes : mapping of str to tuple of int
        Shape of the output of each stage for one image.

    stage : str or None
        The one that was asked for.

    Raises
    ------
    ValueError
        If its output, or that of every stage, has no locations, such as pooled features
        and the tokens of a transformer.
    """
    with_maps = [name for name, shape in shapes.items() if len(shape) == N_MAP_AXES]
    if stage is None and with_maps:
        return with_maps[-1]
    if stage in with_maps:
        return str(stage)
    outputs = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    remedy = f"choose one of {', '.join(with_maps)}"
    if not with_maps:
        remedy = "no stage of this backbone has any; use one that convolves, such as"
        remedy += " 'efficientnet_lite0'"
    raise ValueError(
        "Grad-CAM needs a stage that outputs maps, of shape (n_channels, height, "
        f"width) for an image; got stage={stage!r}, and the stages output {outputs}; "
        f"{remedy}."
    )


def has_maps(stages: Stages, image_shape: Sequence[int]) -> bool:
    """Whether any stage outputs maps for images of shape (height, width, channels)."""
    device = next(stages.parameters()).device
    shapes = measure_outputs(stages, np.zeros((1, *image_shape), np.uint8), device)
    return any(len(shape) == N_MAP_AXES for shape in shapes.values())


def grad_cam(
    stages: Stages,
    stage: str | None,
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

    stage : str or None
        Name of the stage whose output is weighted; None takes the last one that outputs
        maps.

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

    Raises
    ------
    ValueError
        If the output of the stage has no locations.
    """
    maps = []
    # The caller may have turned gradients off.
    with torch.inference_mode(False), autocast("float32", device):
        shapes = measure_outputs(stages, images[:1], device)
        stage = choose_stage(shapes, stage)
        _warn_if_single_location(shapes, stage, images[:1])
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
    shapes: Mapping[str, tuple[int, ...]], stage: str, image: np.ndarray
) -> None:
    """Warn if the output of a stage has a single location, and name one with more."""
    if shapes[stage][1:] != (1, 1):
        return
    maps = {name: s[1:] for name, s in shapes.items() if len(s) == N_MAP_AXES}
    larger = [name for name, size in maps.items() if size != (1, 1)]
    remedy = "fit with a larger image_size"
    if larger:
        height, width = maps[larger[-1]]
        remedy = f"pass stage={larger[-1]!r}, whose maps have {height} x {width}"
    warn(
        f"stage={stage!r} outputs maps of 1 x 1 for images of {image.shape[1]} x "
        f"{image.shape[2]} pixels, so the map of an image is the same everywhere; "
        f"{remedy}."
    )


@torch.no_grad()
def measure_outputs(
    stages: Stages, image: np.ndarray, device: torch.device
) -> dict[str, tuple[int, ...]]:
    """Measure the shape of what each stage before the head outputs for an image.

    `image` has shape (1, height, width, n_channels).
    """
    shapes = {}
    activation = stages.encode(to_batch(image, device), 0)
    for name, module in list(stages.items())[:-1]:
        activation = module(activation)
        shapes[name] = tuple(activation.shape[1:])
    return shapes
