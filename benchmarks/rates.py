"""Which ``lr`` and ``backbone_lr_factor`` suit SGD and a random head.

    SKTRANSFER_DATA=FOLDER python benchmarks/rates.py

Uses 1,000 training and 2,000 validation images, all from the official training split of
CIFAR-10, and the bundled backbone as ``sets.describe_sgd`` has it; two seeds.
"""

from __future__ import annotations

from batch_norm import cifar10
from record import Record, bundled_weights
from sets import describe_sgd

from sktransfer import ResNetTransferClassifier

RATES = (0.01, 0.02, 0.05, 0.1)
FACTORS = (0.1, 0.3)
N_SEEDS = 2


def main() -> None:
    """Run what the record lacks."""
    record = Record("rates")
    X, X_test, y, y_test = cifar10()
    for lr in RATES:
        for factor in FACTORS:
            for seed in range(N_SEEDS):
                key = {"lr": lr, "backbone_lr_factor": factor, "seed": seed}
                key["weights"] = bundled_weights()
                if record.find(**key):
                    continue
                clf = ResNetTransferClassifier(
                    describe_sgd(),
                    head_init="random",
                    unfreeze_depth=2,
                    lr=lr,
                    backbone_lr_factor=factor,
                    random_state=seed,
                )
                record.add(**key, accuracy=clf.fit(X, y).score(X_test, y_test))


if __name__ == "__main__":
    main()
