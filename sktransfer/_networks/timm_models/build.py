"""timm's models, built without a classifier for a size, and run to their features."""

from __future__ import annotations

from functools import cache
from typing import Any

import timm
import torch
from timm.data import resolve_model_data_config
from torch import nn

from sktransfer._networks.device import fork_rng

CPU, META = torch.device("cpu"), torch.device("meta")

# Sizes at which a model may be run just to see how it is made.
SMALL_SIZES = (48, 56, 64, 112, 128)


def build(
    name: str, image_size: int | None = None, device: torch.device = CPU
) -> nn.Module:
    """Build a timm model without a classifier, in eval mode.

    Parameters
    ----------
    name : str
        As timm knows it.

    image_size : int or None, default=None
        Height and width of images in pixels, if the model has to know. ``None``: its
        own, or any.

    device : torch.device, default=CPU
        On the meta device it has shapes and no numbers.

    Returns
    -------
    torch.nn.Module
        With random weights.
    """
    size: dict[str, Any] = {}
    if image_size not in (None, read_size(name)):
        size["img_size"] = image_size
    # Not the default device: tables that the model computes are lost on meta.
    with device:
        model: nn.Module = timm.create_model(name, num_classes=0, **size)
    return model.eval()


def run_pooled(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Map images to pooled features."""
    features = model.forward_features(images)
    pooled: torch.Tensor = model.forward_head(features, pre_logits=True)
    return pooled


def run_map(model: Any, images: torch.Tensor) -> torch.Tensor:
    """Map images to features before pooling, channels first."""
    return put_channels_first(model, model.forward_features(images))


def put_channels_first(model: Any, features: torch.Tensor) -> torch.Tensor:
    """Bring a model's features before pooling into the usual order."""
    if getattr(model, "output_fmt", "NCHW") == "NHWC":
        return features.permute(0, 3, 1, 2)
    return features


def is_fixed(name: str) -> bool:
    """Return whether a model has to know the size of its images."""
    return bool(timm.get_pretrained_cfg(name).fixed_input_size)


def read_config(name: str) -> dict[str, Any]:
    """Read how timm prepares images for a model."""
    cfg = timm.get_pretrained_cfg(name).to_dict()
    config: dict[str, Any] = resolve_model_data_config(None, pretrained_cfg=cfg)
    return config


def read_size(name: str) -> int:
    """Return the height and width in pixels that a model is made for."""
    return int(read_config(name)["input_size"][-1])


def read_best_size(name: str) -> int:
    """Return the height and width in pixels at which a model is best used.

    Of many convolutional networks that is more than they were trained at: training
    shows them crops, in which objects are larger (Touvron et al. 2019).
    """
    larger = timm.get_pretrained_cfg(name).test_input_size
    if not larger or is_fixed(name) or not takes_size(name, int(larger[-1])):
        return read_size(name)
    return int(larger[-1])


@cache
def find_trial_device(name: str) -> torch.device:
    """Find out where a model can be tried: without numbers, on meta, if possible.

    Raises
    ------
    ValueError
        If the model does not give one vector of features an image.
    """
    size, why = read_size(name), "not one vector an image"
    for device in (META, CPU):
        try:
            with fork_rng(0, CPU):
                model = build(name, device=device)
            with device, torch.no_grad():
                pooled = run_pooled(model, torch.empty(2, 3, size, size))
            if isinstance(pooled, torch.Tensor) and pooled.ndim == 2:
                return device
            break
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            # Older releases of timm ask for numbers while they build some models.
            if "meta" not in why.lower():
                break
    raise ValueError(
        f"backbone='timm/{name}' gives no features of images ({why}); choose a model "
        "that timm offers for classification."
    )


def build_trial(name: str, image_size: int | None = None) -> nn.Module:
    """Build a model of which only shapes and names are asked."""
    with fork_rng(0, CPU):
        return build(name, image_size, find_trial_device(name))


@cache
def takes_size(name: str, image_size: int) -> bool:
    """Return whether a model takes images of a size, by trying."""
    try:
        model: Any = build_trial(name, image_size if is_fixed(name) else None)
        with find_trial_device(name), torch.no_grad():
            run_pooled(model, torch.empty(1, 3, image_size, image_size))
    except Exception:
        return False
    # Some models drop what is left over at the border, without a word.
    grid = getattr(getattr(model, "patch_embed", None), "grid_size", None)
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    whole = not grid or not patch or grid[0] * patch[0] == image_size
    return bool(whole or image_size == read_size(name))


def check_size(name: str, image_size: int) -> None:
    """Raise a ValueError, with sizes that can be had, unless a model takes a size."""
    if takes_size(name, image_size):
        return
    near = []
    for direction in (-1, 1):
        # All sizes met so far are multiples of 2; most of 14, 16 or 32.
        tried = (image_size // 2 * 2 + direction * i for i in range(0, 130, 2))
        near += [next((s for s in tried if s > 0 and takes_size(name, s)), None)]
    sizes = sorted({size for size in (*near, read_size(name)) if size})
    raise ValueError(
        f"image_size={image_size} does not fit backbone='timm/{name}', which takes "
        f"only some sizes, such as {', '.join(map(str, sizes))}."
    )


def list_test_sizes(name: str) -> list[int]:
    """List image sizes at which a model can be tried, from small to its own."""
    size, fixed = read_size(name), is_fixed(name)
    small = SMALL_SIZES if fixed else SMALL_SIZES[-1:]
    return [s for s in small if s < size and takes_size(name, s)] + [size]
