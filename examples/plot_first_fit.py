"""
How do I fit a first classifier?
================================

The images are handwritten digits, eight pixels wide; the backbone has never seen a
digit. Nothing is downloaded.
"""

# %%
# scikit-learn's digits are floats up to 16. Float images are taken as they are, so they
# are scaled to [0, 1] first.
from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktransfer import (
    PredictionGridDisplay,
    TrainingHistoryDisplay,
    TransferClassifier,
)

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images / 16,  # (1797, 8, 8)
    digits.target,
    train_size=600,
    random_state=0,
    stratify=digits.target,
)

# %%
# A mirrored digit is another sign, so nothing is mirrored. A tenth of the images is set
# aside: the network does not learn from them, and their loss shows which epoch was
# best.
clf = TransferClassifier(
    "mini_resnet18", augment=None, early_stopping=True, random_state=0
)
clf.fit(X_train, y_train)

# %%
# The first epoch is the linear probe: the head is solved as logistic regression on the
# features of the frozen backbone. Then the last stages join it, and all of them learn.
TrainingHistoryDisplay.from_estimator(clf)

# %%
# How often is it right about images that it has never seen, and about which of them is
# it least sure?
print(f"test accuracy {clf.score(X_test, y_test):.3f}")
PredictionGridDisplay.from_estimator(
    clf, X_test, y_test, show="least_sure", n_images=16
)
plt.show()
