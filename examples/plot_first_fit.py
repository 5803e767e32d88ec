"""
A first fit
===========

Ten digits, eight pixels wide, and a backbone that has never seen a digit. Nothing is
downloaded.
"""

# %%
# scikit-learn's digits are floats up to 16. Float images are taken as they are, so they
# are brought into [0, 1] first.
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from sktransfer import ResNetTransferClassifier

digits = load_digits()
X_train, X_test, y_train, y_test = train_test_split(
    digits.images / 16,  # (1797, 8, 8)
    digits.target,
    random_state=0,
    stratify=digits.target,
)

# %%
# The head learns first; the last stages of the backbone join it one by one.
# A mirrored digit is another sign, so nothing is mirrored.
clf = ResNetTransferClassifier("mini_resnet18", augment=None, random_state=0)
clf.fit(X_train, y_train)
for epoch in clf.history_:
    print(
        f"epoch {epoch['epoch']}: {epoch['unfreeze_depth']} stages besides the head "
        f"learn, training loss {epoch['train_loss']:.3f}"
    )

# %%
print(f"test accuracy {clf.score(X_test, y_test):.3f}")
