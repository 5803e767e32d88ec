"""Linear probe on CIFAR-10: the bundled weights against random weights.

    SKTRANSFER_DATA=FOLDER python benchmarks/linear_probe.py

The claim: with all 50,000 training images, logistic regression on the pooled features
of the bundled backbone beats the same network with random weights by at least 20
points. Features are standardised, and the penalty is chosen by cross-validation with
three folds of the training images. Accuracy is measured on the official test split.
"""

from __future__ import annotations

import time

from record import Record, bundled_weights
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktransfer import ResNetFeatureExtractor, datasets

SIZES = (1000, 10000, 50000)
PENALTIES = (0.01, 0.1, 1.0)


def main() -> None:
    """Encode once per network, then fit the probes."""
    record = Record("linear_probe")
    X, y = datasets.fetch_cifar10(subset="train", return_X_y=True)
    X_test, y_test = datasets.fetch_cifar10(subset="test", return_X_y=True)
    for name, weights in {"bundled": "auto", "random": None}.items():
        key = {"weights": bundled_weights() if name == "bundled" else "random"}
        if all(record.find(**key, n=n) for n in SIZES):
            continue
        extractor = ResNetFeatureExtractor(
            "mini_resnet18", weights=weights, random_state=0
        )
        started = time.perf_counter()
        features = extractor.fit_transform(X)
        seconds = time.perf_counter() - started
        features_test = extractor.transform(X_test)
        for n in SIZES:
            if record.find(**key, n=n):
                continue
            few, labels = features, y
            if n < len(y):
                few, _, labels, _ = train_test_split(
                    features, y, train_size=n, stratify=y, random_state=0
                )
            probe = GridSearchCV(
                make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
                {"logisticregression__C": PENALTIES},
                cv=3,
            )
            record.add(
                **key,
                network=name,
                n=n,
                accuracy=probe.fit(few, labels).score(features_test, y_test),
                encode_images_per_second=len(X) / seconds,
            )


if __name__ == "__main__":
    main()
