"""Slices of ``gpu.py``: defaults of fine-tuning, changed one at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from gpu_slices import LITE, Data, Plan, Slice
from sets import score
from sklearn.model_selection import train_test_split

from sktransfer import ActivationCache, TransferClassifier
from sktransfer._networks.backbones.known import find_backbone


def list_changes(plan: Plan) -> dict[str, dict[str, Any]]:
    """Return the parameters that each change sets, by its name."""
    trained = replace(find_backbone(LITE), batch_norm="train")
    large = plan.sizes[1]
    return {
        "as it is": {},
        "batch norm of open stages trained": {"backbone": trained},
        f"{large} px": {"image_size": large},
        "immediate": {"unfreeze_schedule": "immediate"},
        # Opens both stages one epoch earlier, which takes about as long as an epoch.
        "immediate, 4 epochs": {"unfreeze_schedule": "immediate", "max_epochs": 4},
        "dropout 0": {"dropout": 0.0},
        "dropout 0.5": {"dropout": 0.5},
    }


def list_slices(plan: Plan) -> list[Slice]:
    """List every change with the first seed, then with the others."""
    keys = [
        {"change": change, "seed": seed}
        for seed in range(plan.n_seeds)
        for change in list_changes(plan)
    ]
    return [Slice("ablation", key, fine_tune) for key in keys]


def fine_tune(data: Data, change: str, seed: int) -> dict[str, Any]:
    """Fine-tune EfficientNet-Lite0, and score training images that were set aside."""
    X, X_test, y, y_test = train_test_split(
        *data.transferred,
        test_size=data.plan.n_set_aside,
        stratify=data.transferred[1],
        random_state=seed,
    )
    clf = TransferClassifier(
        LITE,
        unfreeze_depth=2,
        image_size=data.plan.sizes[0],
        early_stopping=False,
        activation_cache=ActivationCache(),
        random_state=seed,
    )
    clf.set_params(**list_changes(data.plan)[change]).fit(X, y)
    scores = score(clf.predict_proba(X_test), clf.classes_, y_test)
    return {**scores, "fit_seconds": clf.fit_time_}
