"""
Does pretraining on similar images help?
========================================

You often have few labels for the classes that matter, but many for similar classes.
Here the digits 0 to 4 have hundreds of labels, the digits 5 to 9 only a few.
"""

# %%
# The two sets share no class. Digits are not mirrored, hence ``augment=None``.
import numpy as np
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktransfer import TransferClassifier

digits = load_digits()
X, y = digits.images / 16, digits.target
similar, wanted = np.flatnonzero(y < 5)[:500], np.flatnonzero(y >= 5)

# %%
# Pretraining is an ordinary ``fit``. It starts from the bundled backbone, which has
# seen photographs only.
pretrained = TransferClassifier("mini_resnet18", augment=None, random_state=0)
pretrained.fit(X[similar], y[similar])

# %%
# The fitted classifier is then passed as ``weights``: the new classifier takes its
# backbone, but not its head. All three starts get the same labels, which are drawn anew
# for each of three seeds.
starts = {"random": None, "photographs": "auto", "photographs, then 0 to 4": pretrained}
n_labels = [25, 50]
accuracy = np.empty((len(starts), len(n_labels), 3))
for column, n in enumerate(n_labels):
    for seed in range(3):
        X_train, X_test, y_train, y_test = train_test_split(
            X[wanted], y[wanted], train_size=n, random_state=seed, stratify=y[wanted]
        )
        for row, weights in enumerate(starts.values()):
            clf = TransferClassifier(
                "mini_resnet18", weights=weights, augment=None, random_state=seed
            )
            clf.fit(X_train, y_train)
            accuracy[row, column, seed] = clf.score(X_test, y_test)

# %%
# Median over the seeds; the bars go from the minimum to the maximum.
middle = np.median(accuracy, axis=2)
spread = np.abs(np.stack([accuracy.min(axis=2), accuracy.max(axis=2)]) - middle)
figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for row, (name, marker) in enumerate(zip(starts, "osD", strict=True)):
    beside = np.array(n_labels) + row - 1  # so that bars do not overlap
    ax.errorbar(
        beside, middle[row], spread[:, row], marker=marker, capsize=4, label=name
    )
ax.set(
    xlabel="labelled images of the digits 5 to 9",
    ylabel="test accuracy",
    xticks=n_labels,
    ylim=(0, 1),
)
ax.legend(title="weights from", loc="lower right")
for name, row in zip(starts, middle, strict=True):
    print(f"{name}: {', '.join(f'{score:.3f}' for score in row)}")
plt.show()
