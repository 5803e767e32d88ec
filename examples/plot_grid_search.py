"""
A grid search that computes frozen stages once
==============================================

How deep to unfreeze, and how much dropout? Three depths, three dropouts and three folds
are 27 fits. The stages that stay frozen see each image once for each depth; without the
cache they would see it in every epoch of every fit.
"""

# %%
# The images: handwritten digits, so nothing is mirrored.
import time

from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV

from sktransfer import ActivationCache, ResNetTransferClassifier

X, y = load_digits(return_X_y=True)
X, y = X[:150] / 16, y[:150]
grid = {"unfreeze_depth": [0, 1, 2], "dropout": [0.0, 0.2, 0.5]}


def search(activation_cache):
    """Search with or without a cache: the search, and its seconds."""
    clf = ResNetTransferClassifier(
        "mini_resnet18",
        augment=None,
        max_epochs=3,
        activation_cache=activation_cache,
        random_state=0,
    )
    started = time.perf_counter()
    found = GridSearchCV(clf, grid, cv=3, refit=False).fit(X, y)
    return found, time.perf_counter() - started


# %%
# The same search, first with a cache of its own, then without.
cache = ActivationCache()
cached, cached_seconds = search(cache)
uncached, uncached_seconds = search(None)

# %%
# ``misses`` counts the images that passed frozen stages: one pass for each of the three
# depths, at which the stages are cut.
info = cache.info()
print(
    f"with the cache {cached_seconds:.1f} s, without {uncached_seconds:.1f} s: "
    f"{uncached_seconds / cached_seconds:.1f} times as fast"
)
print(f"{info.misses} activations computed, {info.hits} found")

# %%
# Nothing else differs: every score is the same.
same = (
    cached.cv_results_["mean_test_score"] == uncached.cv_results_["mean_test_score"]
).all()
print(f"best: {cached.best_params_}, {cached.best_score_:.3f}; equal scores: {same}")
