"""Whether the number of threads changes a fit: two counts, bit by bit.

    python benchmarks/threads.py

Workers of Dask and Ray compute with one thread unless told otherwise, and the process
that starts a search with as many as there are cores. For each backbone and depth this
fits and predicts with one thread and with two, in float32 on a CPU, and once more with
each count, and compares the probabilities. Images are noisy pictures of three colours.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch
from record import Record

from sktransfer import TransferClassifier

IMAGES = {"mini_resnet18": 32, "efficientnet_lite0": 96}


def draw_images(n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return noisy red, green and blue pictures of `size` pixels, and their colours."""
    rng, y = np.random.default_rng(0), np.arange(n) % 3
    X = rng.integers(0, 150, (n, size, size, 3))
    X[np.arange(n), :, :, y] += 100
    return X.astype(np.uint8), y


def fit(backbone: str, depth: int, n_threads: int, n_images: int) -> np.ndarray:
    """Fit with a number of threads; return probabilities of new images."""
    torch.set_num_threads(n_threads)
    X, y = draw_images(2 * n_images, IMAGES[backbone])
    clf = TransferClassifier(
        backbone,
        image_size=IMAGES[backbone],
        unfreeze_depth=depth,
        probe_share=0,
        max_epochs=3,
        device="cpu",
        precision="float32",
        activation_cache=None,
        random_state=0,
    )
    proba: np.ndarray = clf.fit(X[::2], y[::2]).predict_proba(X[1::2])
    return proba


def main() -> None:
    """Compare what the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n-images", type=int, default=60)
    args = parser.parse_args()
    record = Record("threads")
    for backbone in IMAGES:
        for depth in range(3):
            key = {"backbone": backbone, "depth": depth, "n_images": args.n_images}
            if record.find(**key):
                continue
            one, two, again, twice = (
                fit(backbone, depth, n, args.n_images) for n in (1, 2, 1, 2)
            )
            record.add(
                **key,
                one_thread_repeats=bool(np.array_equal(one, again)),
                two_threads_repeat=bool(np.array_equal(two, twice)),
                one_equals_two=bool(np.array_equal(one, two)),
                largest_difference=float(np.abs(one - two).max()),
                labels_that_differ=int((one.argmax(1) != two.argmax(1)).sum()),
            )


if __name__ == "__main__":
    main()
