"""Slices of ``gpu.py``: backbones pretrained on 200 classes, probed and transferred."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gpu_slices import HAS_GPU, Data, Plan, Slice, draw
from safetensors.torch import save_file
from sets import score
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import Backbone, FeatureExtractor, TransferClassifier
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.backbones.resnet import make_mini_resnet18

# Half-precision weights of this width take 5.6 MB.
WIDE = 32
LARGE_SIZE = 64
N_PROBED, PENALTY = 10_000, 0.1
N_TRANSFERRED = 20_000
# Of SGD for such batches; a CPU rehearses with far fewer steps.
BATCH, LR = 512, 0.3 if HAS_GPU else 0.01


def list_slices(plan: Plan) -> list[Slice]:
    """List the small backbone, then the chain of the large one."""
    small = [{"width": WIDE, "augment": a} for a in ("flip_crop", "advanced")]
    return [
        Slice("small pretrained", small[0], pretrain_small),
        Slice("large pretrained", {"backbone": plan.large}, pretrain_large),
        Slice("small pretrained", small[1], pretrain_small),
    ]


def pretrain_small(data: Data, width: int, augment: str) -> dict[str, Any]:
    """Pretrain the bundled network, wider and for longer; probe it and the present one.

    The probe is logistic regression on the features of 10,000 images of CIFAR-10.
    """
    present = find_backbone("mini_resnet18")
    make = partial(make_mini_resnet18, width)
    backbone = replace(present, make=make, n_features=8 * width)
    file = data.out / f"mini_resnet18_{width}_{augment}.safetensors"
    found = pretrain(data, backbone, file, 32, data.plan.mini_epochs, augment)
    weights = {"new": (backbone, file), "present": (present, "auto")}
    for name, (network, source) in weights.items():
        found[f"{name}_probe_accuracy"] = probe(data, network, source)
    return {**found, "file_bytes": file.stat().st_size}


def pretrain_large(data: Data, backbone: str) -> dict[str, Any]:
    """Pretrain a ResNet with the estimator that then fine-tunes it on CIFAR-10."""
    file = data.kept / f"{backbone}.safetensors"
    network, epochs = find_backbone(backbone), data.plan.large_epochs
    found = pretrain(data, network, file, LARGE_SIZE, epochs, "flip_crop")
    clf = TransferClassifier(
        backbone,
        weights=str(file),
        image_size=LARGE_SIZE,
        early_stopping=False,
        random_state=0,
    ).fit(*draw(data.transferred, N_TRANSFERRED))
    proba = clf.predict_proba(data.test[0])
    return {
        **found,
        **score(proba, clf.classes_, data.test[1]),
        "transfer_seconds": clf.fit_time_,
    }


def pretrain(
    data: Data, backbone: Backbone, file: Path, size: int, epochs: int, augment: str
) -> dict[str, Any]:
    """Train a network from random weights, and save it without its head."""
    recipe = replace(
        backbone,
        optimizer="sgd",
        lr=LR,
        backbone_lr_factor=1.0,
        layer_decay=1.0,
        weight_decay=5e-4,
        clip_norm=None,
        batch_norm="train",
    )
    clf = TransferClassifier(
        recipe,
        weights=None,
        unfreeze_schedule="immediate",
        head_init="random",
        image_size=size,
        batch_size=BATCH,
        augment=augment,
        label_smoothing=0.1,
        dropout=0.0,
        max_epochs=epochs,
        early_stopping=False,
        activation_cache=None,
        random_state=0,
    ).fit(*data.tiny_train)
    state = {
        name.removeprefix("stem."): tensor.half().contiguous().cpu()
        for name, tensor in clf.net_.module_.state_dict().items()
        if name.split(".")[0] not in ("head", "preprocess")
        and not name.endswith("num_batches_tracked")
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, file)
    return {
        "val_top1": clf.score(*data.tiny_test),
        "fit_seconds": clf.fit_time_,
        "train_loss": [row["train_loss"] for row in clf.history_],
    }


def probe(data: Data, backbone: Backbone, weights: Any) -> float:
    """Return the accuracy of logistic regression on the features of CIFAR-10."""
    extractor = FeatureExtractor(backbone, weights=weights, random_state=0)
    X, y = draw(data.transferred, N_PROBED)
    linear = LogisticRegression(C=PENALTY, max_iter=1000)
    model = make_pipeline(StandardScaler(), linear).fit(extractor.fit_transform(X), y)
    return float(model.score(extractor.transform(data.test[0]), data.test[1]))
