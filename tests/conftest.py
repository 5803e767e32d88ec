"""Settings every test needs before scipy and torch do any work, and what many share."""

import os
import sys

# scipy reads this once, on import; without it scikit-learn skips its array API checks.
os.environ["SCIPY_ARRAY_API"] = "1"

import numpy as np
import pytest
import torch
from sklearn.base import BaseEstimator, ClassifierMixin

# The networks here are too small to gain from threads, sums in a fixed order repeat
# bit for bit, and several test runs can then share a machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        pyplot.close("all")


class Counting(ClassifierMixin, BaseEstimator):
    """Returns probabilities that are known, and counts how often it is asked."""

    def __init__(self, proba):
        self.proba = proba

    def fit(self, X, y):
        self.classes_ = np.unique(y)
        self.n_calls_ = 0
        return self

    def predict_proba(self, X):
        self.n_calls_ += 1
        return self.proba

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]


class CountingNet(Counting):
    """The same, which looks like a classifier with a network."""

    net_, image_shape_ = None, (8, 8, 1)
