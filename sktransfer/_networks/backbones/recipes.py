"""How backbones are fine-tuned: optimizer, rates and batch norm, by kind of network."""

from __future__ import annotations

from typing import Any

# Convolutional networks with batch norm. The statistics of small batches are not those
# that the weights were trained with, and a rate that suits a new head is too high for a
# solved one. benchmarks/fine_tuning.py compares other values.
CONVOLUTIONAL: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 1e-4,
    "backbone_lr_factor": 1.0,
    "weight_decay": 0.01,
    "clip_norm": 1.0,
    "batch_norm": "eval",
}

# Transformers and networks like them. Rates, decay and layer-wise decay (0.75 per
# block, and a stage is about three) as BEiT and MAE are fine-tuned.
TRANSFORMER: dict[str, Any] = {
    "optimizer": "adamw",
    "lr": 1e-3,
    "backbone_lr_factor": 0.1,
    "weight_decay": 0.05,
    "layer_decay": 0.5,
    "clip_norm": 1.0,
}
