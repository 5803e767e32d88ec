"""
What is transfer worth as labels grow?
======================================

A pretrained network knows edges and textures before it sees the first label; a network
trained from scratch has to learn them too. How long does that head start last?
"""

# %%
# Drawn shapes of four classes. The training set has 15 images, then 60, then 240. Each
# of three seeds draws a set of each size and trains both models on it, with their
# default settings.
import numpy as np
from matplotlib import pyplot as plt
from sklearn.metrics import accuracy_score
from sklearn.model_selection import train_test_split

from sktransfer import (
    ModelComparisonDisplay,
    ScratchCNNClassifier,
    TransferClassifier,
)
from sktransfer.datasets import make_shapes

X, y = make_shapes(700, image_size=24, random_state=0, return_X_y=True)
X, X_test, y, y_test = train_test_split(X, y, test_size=400, random_state=0, stratify=y)
n_labels = [15, 60, 240]
names = ["transfer", "scratch"]
predictions = {n: {name: [] for name in names} for n in n_labels}
seconds = {n: {name: [] for name in names} for n in n_labels}

for n in n_labels:
    for seed in range(3):
        X_train, _, y_train, _ = train_test_split(
            X, y, train_size=n, random_state=seed, stratify=y
        )
        for name, clf in zip(
            names,
            [
                TransferClassifier("mini_resnet18", random_state=seed),
                ScratchCNNClassifier(random_state=seed),
            ],
            strict=True,
        ):
            clf.fit(X_train, y_train)
            predictions[n][name].append(clf.predict(X_test))
            seconds[n][name].append(clf.fit_time_)

# %%
# Median over the seeds; the bars go from the minimum to the maximum.
accuracy = {
    name: np.array(
        [[accuracy_score(y_test, p) for p in predictions[n][name]] for n in n_labels]
    )
    for name in names
}
figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
for name, marker in zip(names, "os", strict=True):
    middle = np.median(accuracy[name], axis=1)
    ends = np.stack([accuracy[name].min(axis=1), accuracy[name].max(axis=1)])
    ax.errorbar(
        n_labels, middle, np.abs(ends - middle), marker=marker, capsize=4, label=name
    )
    print(f"{name}: {', '.join(f'{score:.3f}' for score in middle)}")
ax.set(xlabel="labelled images", ylabel="test accuracy", xscale="log", ylim=(0, 1.03))
ax.set_xticks(n_labels, n_labels)
ax.minorticks_off()
ax.legend(loc="lower right")

# %%
# Accuracy is not everything: this is what both cost with the most labels.
ModelComparisonDisplay.from_predictions(
    y_test, predictions[n_labels[-1]], seconds=seconds[n_labels[-1]]
)
plt.show()
