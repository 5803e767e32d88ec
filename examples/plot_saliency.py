"""
What does the network look at?
==============================

A network may be right for the wrong reason. Here every cross that it learns from has a
white mark in a corner, such as a camera or a hospital may leave. Does the network learn
the cross or the mark?
"""

# %%
# Two training sets, which differ only in the mark.
from matplotlib import pyplot as plt
from sklearn.model_selection import train_test_split

from sktransfer import SaliencyDisplay, TransferClassifier
from sktransfer.datasets import make_shapes


def marked(images):
    """Return copies of images, with a white mark in the upper left corner."""
    images = images.copy()
    images[:, 1:6, 1:6] = 255
    return images


X, y = make_shapes(600, noise=0.2, random_state=0, return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    X, y, train_size=300, random_state=0, stratify=y
)
X_train_marked = X_train.copy()
X_train_marked[y_train == "cross"] = marked(X_train[y_train == "cross"])

# %%
# One network learns from images without marks, the other from those with them.
honest = TransferClassifier("mini_resnet18", random_state=0)
honest.fit(X_train, y_train)
misled = TransferClassifier("mini_resnet18", random_state=0)
misled.fit(X_train_marked, y_train)

# %%
# In the test images the mark is misleading: it is on everything except crosses.
others = y_test != "cross"
X_others = marked(X_test[others])
seen = {"without": honest.predict(X_others), "with": misled.predict(X_others)}
for training, labels in seen.items():
    print(f"trained {training} marks: {(labels == 'cross').mean():.0%} seen as crosses")

# %%
# Some images deceive only the network that has learnt from marks. First, where the
# other network finds the class that it predicts.
deceived = (seen["with"] == "cross") & (seen["without"] == y_test[others])
X_shown = X_others[deceived][:4]
SaliencyDisplay.from_estimator(honest, X_shown)

# %%
# Then, in the same images, where the deceived network sees a cross.
SaliencyDisplay.from_estimator(misled, X_shown)
plt.show()
