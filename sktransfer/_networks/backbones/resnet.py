"""ResNets: torchvision's, and a reduced one for 32-pixel images."""

from __future__ import annotations

from collections import OrderedDict
from functools import cache, partial
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.resnet import BasicBlock

from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.weights.sources import DownloadedFile

STEM = ("conv1", "bn1", "relu", "maxpool")
LAYERS = ("layer1", "layer2", "layer3", "layer4")

# Three eighths of ResNet-18's width: what two CPU cores pretrain in about an hour.
MINI_WIDTH = 24

BUNDLED_FOLDER = Path(__file__).parent / "bundled"


@cache  # equal descriptions share the weights that were read last
def describe_resnet(name: str) -> Backbone:
    """Describe one of torchvision's ResNets."""
    # torchvision's second ImageNet weights were trained with label smoothing as well,
    # which makes frozen features worse (Kornblith et al. 2019): the first come first.
    entries = sorted(get_model_weights(name), key=lambda entry: entry.name)
    return Backbone(
        name,
        partial(get_model, name, weights=None),
        {"stem": STEM, **{layer: (layer,) for layer in LAYERS}},
        weights={entry.name: DownloadedFile(name, entry) for entry in entries}
        | {"DEFAULT": DownloadedFile(name, get_model_weights(name).DEFAULT)},
        head="fc",
        # Trained on crops of 224 pixels, in which objects are larger than in the whole
        # image (Touvron et al. 2019).
        image_size=288,
        small_image_size=128,  # the rule of BiT (Kolesnikov et al. 2020)
        n_features=512 if name in ("resnet18", "resnet34") else 2048,
    )


def describe_mini_resnet18() -> Backbone:
    """Describe the network whose weights are part of this package."""
    return Backbone(
        "mini_resnet18",
        make_mini_resnet18,
        {"stem": STEM[:-1], **{layer: (layer,) for layer in LAYERS}},
        weights={"TINYIMAGENET32_V1": BUNDLED_FOLDER / "mini_resnet18.safetensors"},
        image_size=32,
        n_features=8 * MINI_WIDTH,
        # For images that are far from photographs: a higher rate than that of larger
        # networks, and never the probe alone (benchmarks/fine_tuning.py).
        lr=1e-3,
        max_probe_share=0.75,
    )


def make_mini_resnet18(width: int = MINI_WIDTH) -> nn.Module:
    """Build a ResNet-18 for 32 pixels: 3x3 stem, no max pooling, reduced width."""
    widths = (width, width, 2 * width, 4 * width, 8 * width)
    modules: dict[str, nn.Module] = {
        "conv1": nn.Conv2d(3, width, kernel_size=3, padding=1, bias=False),
        "bn1": nn.BatchNorm2d(width),
        "relu": nn.ReLU(inplace=True),
    }
    for layer, n_in, n_out in zip(LAYERS, widths[:-1], widths[1:], strict=True):
        modules[layer] = _make_mini_layer(n_in, n_out, 1 if layer == "layer1" else 2)
    network = nn.Sequential(OrderedDict(modules))
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _make_mini_layer(n_in: int, n_out: int, stride: int) -> nn.Sequential:
    """Build two basic blocks, the first of which changes width and resolution."""
    shortcut: Any = None
    if stride != 1 or n_in != n_out:
        shortcut = nn.Sequential(
            nn.Conv2d(n_in, n_out, kernel_size=1, stride=stride, bias=False),
            nn.BatchNorm2d(n_out),
        )
    return nn.Sequential(
        BasicBlock(n_in, n_out, stride, shortcut), BasicBlock(n_out, n_out)
    )
