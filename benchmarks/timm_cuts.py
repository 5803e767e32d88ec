"""Stages of timm's models: whether they are the whole network, and how fast they are.

    python benchmarks/timm_cuts.py [NAME ...]

For every cut of every architecture, with random weights: whether the frozen prefix and
the stages after it give the bits of the whole network, and images per second, forward
in eval mode, of both and of the whole. The rates say what keeping the activations of a
prefix saves: of 100 % of the whole network, the share that the suffix takes.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import timm
import torch
from record import Record, spread, time_in_turn
from torch import nn

from sktransfer._networks.backbones.record import Backbone
from sktransfer._networks.timm_models.build import run_map, run_pooled
from sktransfer._networks.timm_models.describe import describe_timm

# DINOv2 was trained on 518 pixels and is mostly used at 224.
SIZES = {
    "resnet18": 224,
    "convnextv2_atto": 224,
    "mobilenetv4_conv_small": 224,
    "densenet121": 224,
    "tf_efficientnet_lite0": 224,
    "efficientnetv2_rw_t": 224,
    "regnety_002": 224,
    "vit_tiny_patch16_224": 224,
    "vit_small_patch14_dinov2": 224,
    "vit_small_patch16_dinov3": 256,
    "eva02_tiny_patch14_224": 224,
    "swin_tiny_patch4_window7_224": 224,
    "caformer_s18": 224,
    "fastvit_t8": 256,
}
N_IMAGES = 8
N_ROUNDS = 7


def build(backbone: Backbone, size: int) -> tuple[nn.ModuleList, nn.Module]:
    """Return the stages, and timm's own network with the same weights."""
    sized = {"img_size": size} if backbone.takes_image_size else {}
    network = backbone.make(*sized.values()).eval()
    name = backbone.name.removeprefix("timm/")
    model = timm.create_model(name, num_classes=0, **sized).eval()
    state = {key.partition(".")[2]: v for key, v in network.state_dict().items()}
    model.load_state_dict(state)
    return nn.ModuleList(network.children()), model


def run(stages: nn.ModuleList, activation: torch.Tensor) -> torch.Tensor:
    """Run stages one after another."""
    for stage in stages:
        activation = stage(activation)
    return activation


def rates(calls: dict[str, Callable[[], object]]) -> dict[str, list[float]]:
    """Return images per second of every call, in turn, in every round."""
    seconds = time_in_turn(calls, N_ROUNDS)
    return {name: [N_IMAGES / s for s in some] for name, some in seconds.items()}


@torch.no_grad()
def measure(name: str, size: int, record: Record) -> None:
    """Measure every cut of one architecture."""
    started = time.perf_counter()
    backbone = describe_timm(name)
    described = time.perf_counter() - started
    stages, model = build(backbone, size)
    images = torch.randn(N_IMAGES, 3, size, size)
    maps = run(stages, images).ndim == 4
    expected = (run_map if maps else run_pooled)(model, images)
    calls: dict[str, Callable[[], object]] = {
        "whole": lambda: run_pooled(model, images)
    }
    cuts = []
    for depth in range(1, len(stages)):
        prefix, suffix = stages[:-depth], stages[-depth:]
        activation = run(prefix, images)
        cuts.append((depth, activation, run(suffix, activation)))
        calls[f"prefix {depth}"] = lambda prefix=prefix: run(prefix, images)
        calls[f"suffix {depth}"] = lambda s=suffix, a=activation: run(s, a)
    found = rates(calls)
    for depth, activation, features in cuts:
        record.add(
            name=name,
            size=size,
            depth=depth,
            stages=list(backbone.stages),
            equal=torch.equal(features, expected),
            largest_difference=float((features - expected).abs().max()),
            kilobytes=round(activation[0].nbytes / 1000),
            seconds_to_describe=round(described, 2),
            images_per_second={
                part: spread(found[key], ".1f")
                for part, key in (
                    ("whole", "whole"),
                    ("prefix", f"prefix {depth}"),
                    ("suffix", f"suffix {depth}"),
                )
            },
            suffix_share=round(
                np.median(found["whole"]) / float(np.median(found[f"suffix {depth}"])),
                3,
            ),
        )


def print_table(record: Record) -> None:
    """Print a line for each cut."""
    print(f"{'network':<30} depth equal  kB/image  images/s: whole, prefix, suffix")
    for row in record.rows:
        rates_of = row["images_per_second"].values()
        parts = "  ".join(rate.split()[0] for rate in rates_of)
        print(
            f"{row['name']:<30} {row['depth']:>5} {row['equal']!s:>5} "
            f"{row['kilobytes']:>9}  {parts}"
        )


def main() -> None:
    """Measure the architectures that are missing, or those that are named."""
    record = Record("timm_cuts")
    for name in sys.argv[1:] or SIZES:
        if not record.find(name=name):
            measure(name, SIZES.get(name, 224), record)
    print_table(record)


if __name__ == "__main__":
    main()
