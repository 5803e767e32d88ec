"""
How do I score more images than one process can?
================================================

A trained classifier is one file. Every worker of a cluster loads it once, and scores
chunk after chunk of paths. What comes back is written to a file chunk by chunk, so that
neither a worker nor this process ever holds more than a few chunks.
"""

# %%
# A small classifier, trained on drawings of six shapes and saved. In real life, its
# file and the images are in a folder that all workers can read.
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from dask.distributed import Client, LocalCluster
from joblib import Parallel, delayed, parallel_config
from matplotlib import pyplot as plt
from PIL import Image

import sktransfer
from sktransfer.datasets import make_shapes


def train_and_save(X, y, path):
    """Train a classifier and write it to a file."""
    clf = sktransfer.TransferClassifier("mini_resnet18", random_state=0)
    clf.fit(X, y).save(path)


# %%
# What a worker does with a chunk. With ``reuse=True``, a process that has loaded the
# same file before gets the same classifier again. No image is seen twice, so what its
# frozen stages compute is not kept.
def score(model, chunk):
    """Return the probabilities of a chunk of paths."""
    params = {"activation_cache": None}
    clf = sktransfer.load(model, params=params, reuse=True)
    return clf.predict_proba(chunk)


# %%
# Chunks are sent when a worker has time for them. Results come in the order of the
# chunks, whichever worker is faster, and go to an array on disk. Here joblib sends them
# to Dask; without ``parallel_config``, and with ``n_jobs=2``, it starts workers itself.
def score_all(model, paths, n_classes, out, n_at_a_time=100):
    """Score all paths over workers; return an array on disk."""
    proba = np.lib.format.open_memmap(out, "w+", np.float32, (len(paths), n_classes))
    starts = range(0, len(paths), n_at_a_time)
    tasks = (delayed(score)(model, paths[at : at + n_at_a_time]) for at in starts)
    with parallel_config("dask"):
        results = Parallel(return_as="generator", batch_size=1)(tasks)
        for at, result in zip(starts, results, strict=True):
            proba[at : at + len(result)] = result
    return proba


# %%
# How sure the classifier is, for images that it gets right and for others.
def plot_certainty(proba, is_right):
    """Draw two histograms."""
    _, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    bins = np.linspace(0, 1, 41)
    for label, chosen in {"right": is_right, "wrong": ~is_right}.items():
        ax.hist(proba[chosen].max(axis=1), bins, alpha=0.6, label=label)
    ax.set(
        title=f"{len(proba):,} images, {is_right.mean():.0%} of them right",
        xlabel="probability of the predicted class",
        ylabel="number of images",
    )
    ax.legend()


# %%
# Now all of it, with two worker processes on this machine;
# ``Client("tcp://scheduler:8786")`` connects to a cluster that is there already. New
# processes import the script that starts them: without the first line here, each of
# them would start workers of its own.
if __name__ == "__main__":
    temporary = TemporaryDirectory()
    folder = Path(temporary.name)
    drawn = make_shapes(1400, n_classes=6, noise=0.3, random_state=0)
    X, y = drawn.data, drawn.target
    train_and_save(X[:200], y[:200], folder / "shapes.sktransfer")

    paths = [str(folder / f"{number:04}.png") for number in range(1200)]
    for path, image in zip(paths, X[200:], strict=True):
        Image.fromarray(image).save(path)

    model, out = str(folder / "shapes.sktransfer"), folder / "proba.npy"
    classes = sktransfer.load(model).classes_
    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
        "silence_logs": "ERROR",
    }
    with LocalCluster(**options) as cluster, Client(cluster):
        proba = np.array(score_all(model, paths, len(classes), out))

    alone = sktransfer.load(model).predict_proba(X[200:])
    print("the same as in one process:", (proba == alone).all())
    plot_certainty(proba, classes[proba.argmax(axis=1)] == y[200:])
    temporary.cleanup()
    plt.show()
