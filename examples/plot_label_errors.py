"""
Which labels are wrong?
=======================

People make mistakes when they label images. A model that has not been trained on an
image can point at them: if it is sure that the class is another one, either the model
or the label is wrong.
"""

# %%
# 600 digits, one in twenty of which gets the label of another digit.
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_predict
from sklearn.utils import shuffle

from sktransfer import TopLossesDisplay, TransferClassifier

digits = load_digits()
X, y_right = shuffle(digits.images / 16, digits.target, n_samples=600, random_state=0)
rng = np.random.default_rng(0)
flipped = rng.choice(len(y_right), 30, replace=False)
y = y_right.copy()
y[flipped] = (y[flipped] + rng.integers(1, 10, len(flipped))) % 10

# %%
# Each image is predicted by a network that was trained on the other folds, and on
# their wrong labels too.
clf = TransferClassifier("mini_resnet18", augment=None, random_state=0)
proba = cross_val_predict(clf, X, y, cv=3, method="predict_proba")

# %%
# Look again at the images with the greatest losses. ``True`` is the label that was
# given, right or wrong.
classes = np.unique(y)
TopLossesDisplay.from_predictions(X, y, proba, classes=classes, n_images=18)

# %%
# How many of the wrong labels have you found after looking at so many images? The
# dashed line is the best possible result, the dotted line that of a random order.
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
