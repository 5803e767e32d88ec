"""
Which labels are wrong?
=======================

Labels given by people have errors. A model that has not seen an image can point at
them: where it is sure of another class than the label says, one of the two is wrong.
"""

# %%
# 600 digits, of which one in twenty gets the label of another digit.
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.utils import shuffle

from sktransfer import ResNetTransferClassifier, TopLossesDisplay

digits = load_digits()
X, y_right = shuffle(digits.images / 16, digits.target, n_samples=600, random_state=0)
rng = np.random.default_rng(0)
flipped = rng.choice(len(y_right), 30, replace=False)
y = y_right.copy()
y[flipped] = (y[flipped] + rng.integers(1, 10, len(flipped))) % 10

# %%
# Each image is predicted by a network that was trained on the other folds, and on
# their wrong labels too.
clf = ResNetTransferClassifier("mini_resnet18", augment=None, random_state=0)
proba = cross_val_predict(clf, X, y, cv=3, method="predict_proba")

# %%
# The images with the greatest losses are the ones to look at again. ``True`` is the
# label that was given, right or wrong.
classes = np.unique(y)
TopLossesDisplay.from_predictions(X, y, proba, classes=classes, n_images=18)

# %%
# How many of the wrong labels have been found after so many looks? The dashed line is
# the best that is possible, the dotted one what looking in random order gives.
losses = -np.log(proba[np.arange(len(y)), np.searchsorted(classes, y)])
is_flipped = np.isin(np.argsort(-losses), flipped)
found = np.cumsum(is_flipped)
n_looks = np.arange(1, len(y) + 1)
figure, ax = plt.subplots(figsize=(6.4, 4), layout="constrained")
ax.plot(n_looks, found, label="greatest loss first")
ax.plot(n_looks, np.minimum(n_looks, len(flipped)), "--", label="the best possible")
ax.plot(n_looks, n_looks * len(flipped) / len(y), ":", label="random order")
ax.set(xlabel="images looked at", ylabel="wrong labels found", xlim=(0, 150))
ax.legend()
print(
    f"of {len(flipped)} wrong labels, {found[29]} are among the 30 greatest losses and "
    f"{found[59]} among the 60 greatest"
)
plt.show()
