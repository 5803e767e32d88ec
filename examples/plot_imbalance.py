"""
Can the probabilities of a rare class be trusted?
=================================================

One image in eleven shows a star. If all classes get the same weight, a classifier finds
more of the stars, but it also expects more of them than there are. Calibration corrects
that.
"""

# %%
# Noisy shapes, so that stars are hard to recognise. Every other star is left out; all
# images of the other shapes are kept.
import numpy as np
from matplotlib import pyplot as plt
from sklearn.calibration import CalibratedClassifierCV, CalibrationDisplay
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import brier_score_loss, recall_score
from sklearn.model_selection import train_test_split

from sktransfer import TransferClassifier
from sktransfer.datasets import make_shapes

X, y = make_shapes(3000, n_classes=6, noise=0.2, random_state=0, return_X_y=True)
y = np.where(y == "star", "star", "other")
dropped = np.flatnonzero(y == "star")[::2]
X, y = np.delete(X, dropped, axis=0), np.delete(y, dropped)

# A third to train, a sixth to calibrate, half to test.
X_train, X_test, y_train, y_test = train_test_split(
    X, y, test_size=0.5, random_state=0, stratify=y
)
X_train, X_held_out, y_train, y_held_out = train_test_split(
    X_train, y_train, test_size=1 / 3, random_state=0, stratify=y_train
)

# %%
# Three models: the network as it is; the network with balanced class weights; and the
# latter, calibrated on images that it was not trained on. FrozenEstimator keeps the
# calibration from fitting the network again.
options = {"backbone": "mini_resnet18", "unfreeze_depth": 1, "random_state": 0}
plain = TransferClassifier(**options).fit(X_train, y_train)
balanced = TransferClassifier(**options, class_weight="balanced")
balanced.fit(X_train, y_train)
calibrated = CalibratedClassifierCV(FrozenEstimator(balanced), method="sigmoid")
calibrated.fit(X_held_out, y_held_out)
models = {"as it is": plain, "balanced": balanced, "balanced, calibrated": calibrated}

# %%
# The sum of the probabilities is the number of stars that a model expects. The Brier
# score is the mean squared error of the probabilities: smaller is better. You may
# choose the threshold above which an image counts as a star.
is_star = y_test == "star"
print(f"{is_star.sum()} stars among {len(y_test)} test images")
proba = {name: model.predict_proba(X_test)[:, 1] for name, model in models.items()}
for name, p in proba.items():
    recalls = [f"{recall_score(is_star, p >= t):.0%} above {t}" for t in (0.5, 0.1)]
    print(
        f"{name}: {p.sum():.0f} stars expected, Brier score "
        f"{brier_score_loss(is_star, p):.3f}, found {' and '.join(recalls)}"
    )

# %%
# Of the images with probabilities around 0.4, four in ten should be stars. The nearer a
# curve is to the diagonal, the more its probabilities can be trusted.
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
for (name, p), marker in zip(proba.items(), "osD", strict=True):
    CalibrationDisplay.from_predictions(
        is_star, p, n_bins=20, strategy="quantile", name=name, ax=left, marker=marker
    )
left.set(xlabel="mean probability of a star", ylabel="share of stars")
left.legend(loc="upper left")
bars = {"there are": is_star.sum()} | {name: p.sum() for name, p in proba.items()}
right.bar([name.replace(", ", ",\n") for name in bars], bars.values())
right.axhline(is_star.sum(), color="black", linestyle=":")
right.set(ylabel="stars among the test images")
plt.show()
