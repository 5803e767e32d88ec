"""Makes the archive of model files of one release; what is there stays as it is.

    python -m tests.archive.make

Run it once for each new format, and commit what it writes. The files of earlier ones
are never made again: they are there to show that they can still be read.
"""

import json
from pathlib import Path

import numpy as np
from torch import nn

from sktransfer import (
    Backbone,
    FeatureExtractor,
    ResNetFeatureExtractor,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
    TransferClassifier,
)

FOLDER = Path(__file__).parent / "format1"
HERE = {"device": "cpu", "precision": "float32", "random_state": 0}
SHORT = {"max_epochs": 1, "batch_size": 6, "augment": None, **HERE}


def images(n_channels=3):
    """Twelve images of 8 pixels, the same for ever: they come from arithmetic alone."""
    numbers = np.arange(12 * 8 * 8 * n_channels, dtype=np.int64)
    values = (numbers * numbers * 31 + numbers * 17) % 251
    return values.astype(np.uint8).reshape(12, 8, 8, n_channels)


def make_tiny():
    """A network of two convolutions."""
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 6, 3)
    )


TINY = Backbone(
    "tiny", make_tiny, {"stem": ["0", "1", "2"], "stage1": ["3"]}, image_size=16
)

TEXTS = np.array(["ant", "bee", "Käfer"])[np.arange(12) % 3]
NUMBERS = np.arange(12) % 2 * 5


def make_models():
    """Fit an estimator of each class, with parameters and labels of many kinds."""
    return {
        "scratch": ScratchCNNClassifier(width=4, class_weight="balanced", **SHORT).fit(
            images(), TEXTS
        ),
        "scratch_grey": ScratchCNNClassifier(
            width=(3, 4, 5), whiten=False, global_pool="max", tta="flip", **SHORT
        ).fit(images(1), TEXTS.astype(object), X_val=images(1), y_val=TEXTS),
        "transfer": TransferClassifier(
            "mini_resnet18",
            image_size=8,
            unfreeze_depth=0,
            class_weight={0: 1.0, 5: 2.5},
            **SHORT,
        ).fit(images(), NUMBERS),
        "transfer_own": TransferClassifier(
            TINY, weights=None, unfreeze_depth=1, resize="pad", **SHORT
        ).fit(images(), TEXTS),
        "resnet_transfer": ResNetTransferClassifier(
            "mini_resnet18", image_size=8, unfreeze_depth=0, **SHORT
        ).fit(images(), TEXTS == "bee"),
        "features": FeatureExtractor("mini_resnet18", image_size=8, **HERE).fit(
            images()
        ),
        "resnet_features": ResNetFeatureExtractor(
            "mini_resnet18", image_size=8, **HERE
        ).fit(images()),
    }


def predict(name, model):
    """Return what a model says of the images, as lists."""
    X = images(1) if name == "scratch_grey" else images()
    if hasattr(model, "predict_proba"):
        return {
            "proba": model.predict_proba(X).tolist(),
            "labels": model.predict(X).tolist(),
        }
    return {"features": model.transform(X)[:3].tolist()}


def main():
    """Write the models that are not there, and what they predict."""
    FOLDER.mkdir(exist_ok=True)
    known = FOLDER / "predictions.json"
    predictions = json.loads(known.read_text()) if known.exists() else {}
    for name, model in make_models().items():
        path = FOLDER / f"{name}.sktransfer"
        if path.exists():
            continue
        is_bundled = getattr(model, "backbone", None) == "mini_resnet18"
        model.save(
            path,
            backbone="reference" if is_bundled else "embed",
            description="Of the archive.",
        )
        predictions[name] = predict(name, model)
    known.write_text(json.dumps(predictions) + "\n")


if __name__ == "__main__":
    main()
