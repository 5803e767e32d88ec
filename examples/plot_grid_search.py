"""
How deep to unfreeze, and how much dropout?
===========================================

Three depths, three dropouts and three folds make 27 fits. The stages that stay frozen
see each image once per depth; without the activation cache they would see it in every
epoch of every fit.
"""

# %%
# The images: handwritten digits, so nothing is mirrored. By default the head is solved,
# and dropout would change nothing at depth 0; here it is trained instead.
import time

from matplotlib import pyplot as plt
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sktransfer import ActivationCache, TransferClassifier

X, y = load_digits(return_X_y=True)
X, y = X[:150] / 16, y[:150]
grid = {"unfreeze_depth": [0, 1, 2], "dropout": [0.0, 0.2, 0.5]}


def search(activation_cache):
    """Return the fitted search, and the seconds it took."""
    clf = TransferClassifier(
        "mini_resnet18",
        head_init="random",
        augment=None,
        max_epochs=3,
        activation_cache=activation_cache,
        random_state=0,
    )
    started = time.perf_counter()
    found = GridSearchCV(clf, grid, cv=3, refit=False).fit(X, y)
    return found, time.perf_counter() - started


# %%
# The same search twice: first with a cache of its own, then without.
cache = ActivationCache()
cached, cached_seconds = search(cache)
uncached, uncached_seconds = search(None)

# %%
# ``misses`` counts the images that passed frozen stages: once for each of the three
# depths, because each cuts the network in another place. Every score is the same with
# and without the cache.
info = cache.info()
scores = cached.cv_results_["mean_test_score"]
print(f"{info.misses} activations computed, {info.hits} found")
print(f"equal scores: {(scores == uncached.cv_results_['mean_test_score']).all()}")
print(f"best: {cached.best_params_}, accuracy {cached.best_score_:.3f}")

# %%
# On the left, the mean accuracy over the folds; on the right, the time of each search.
depths, dropouts = grid["unfreeze_depth"], grid["dropout"]
table = [
    [
        scores[cached.cv_results_["params"].index({"dropout": p, "unfreeze_depth": d})]
        for p in dropouts
    ]
    for d in depths
]
figure, (left, right) = plt.subplots(
    1, 2, figsize=(9, 4), layout="constrained", width_ratios=[3, 2]
)
picture = left.imshow(table, cmap="cividis", vmin=0, vmax=1)
for row, line in enumerate(table):
    for column, score in enumerate(line):
        color = "white" if score < 0.5 else "black"
        left.text(column, row, f"{score:.2f}", color=color, ha="center", va="center")
left.set(xlabel="dropout", ylabel="unfreeze_depth")
left.set_xticks(range(len(dropouts)), dropouts)
left.set_yticks(range(len(depths)), depths)
figure.colorbar(picture, ax=left, label="accuracy")
bars = right.bar(["with the cache", "without"], [cached_seconds, uncached_seconds])
right.bar_label(bars, fmt="%.1f s")
right.margins(y=0.1)
right.set(
    ylabel="seconds", title=f"{uncached_seconds / cached_seconds:.1f} times as fast"
)
plt.show()
