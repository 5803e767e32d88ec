"""The images of a study: loaded, and split into training and test images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

# Folders of images to test on, the first that is there.
HELD_OUT = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class StudyData:
    """Images and labels of one split; ``names[i]`` is how ``labels[i]`` is printed."""

    name: str
    X_train: Any
    y_train: np.ndarray
    X_test: Any
    y_test: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    @property
    def images(self) -> str:
        """What kind of images these are."""
        return _kind(self.X_train)


def _kind(X: np.ndarray) -> str:
    """Describe arrays (n, height, width[, channels]), or paths (n,) of files."""
    if X.ndim == 1:
        return "picture files"
    height, width, n_channels = (*X.shape[1:], 1)[:3]
    colours = {1: "grey", 3: "RGB"}.get(n_channels, f"{n_channels} channels")
    scale = "0 to 255" if X.dtype == np.uint8 else "0 to 1"
    return f"{height} x {width} pixels, {colours}, {X.dtype}, {scale}"


def stratified_sample(y: np.ndarray, n: int, name: str, seed: int = 0) -> np.ndarray:
    """Return `n` sorted indices into `y` (n_all,), each class by its share, none 0."""
    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if n < len(counts):
        raise ValueError(
            f"{name}={n} is fewer than one image for each of the {len(counts)} "
            f"classes; pass at least {len(counts)}."
        )
    if n > len(y):
        raise ValueError(
            f"{name}={n} is too large: {len(y)} images are there; pass at most "
            f"{len(y)}."
        )
    quota = n * counts / len(y)
    taken = np.maximum(1, np.floor(quota).astype(int))
    while taken.sum() < n:
        taken[np.argmax(np.where(taken < counts, quota - taken, -np.inf))] += 1
    while taken.sum() > n:
        taken[np.argmin(np.where(taken > 1, quota - taken, np.inf))] -= 1
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(codes == code))[:size]
        for code, size in enumerate(taken)
    ]
    return np.sort(np.concatenate(chosen))


def split(y: np.ndarray, n_train: int, n_test: int | None) -> tuple[Any, Any]:
    """Return disjoint stratified train and test indices into `y` of shape (n,).

    Every class is on both sides.
    """
    classes, first, counts = np.unique(y, return_index=True, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"class {str(classes[counts.argmin()])!r} has a single image; two are "
            "needed, one to train on and one to test."
        )
    most = len(y) - len(classes)
    if n_train > most:
        raise ValueError(
            f"n_train={n_train} is too large: {len(y)} images are there, of which one "
            f"of each class is kept to test; pass at most {most}."
        )
    others = np.setdiff1d(np.arange(len(y)), first)
    train = others[stratified_sample(y[others], n_train, "n_train")]
    rest = np.setdiff1d(np.arange(len(y)), train)
    if n_test is None:
        return train, rest
    return train, rest[stratified_sample(y[rest], n_test, "n_test")]


def load_data(name: str, n_train: int | None, n_test: int | None) -> StudyData:
    """Load "digits", "cifar10" or a folder of class folders; ValueError otherwise."""
    if name == "digits":
        return _digits(100 if n_train is None else n_train, n_test)
    if name == "cifar10":
        return _cifar10(n_train, n_test)
    if Path(name).is_dir():
        return _folder(name, n_train, n_test)
    raise ValueError(
        f"--data {name!r} is neither a known name nor a folder; pass digits, cifar10 "
        "or the path of a folder with one sub-folder a class."
    )


def _digits(n_train: int, n_test: int | None) -> StudyData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    return _one_set("digits", images, digits.target, n_train, n_test)


def _folder(path: str, n_train: int | None, n_test: int | None) -> StudyData:
    from sktransfer.datasets import load_image_folder

    parts = {p.name for p in Path(path).iterdir() if p.is_dir() and p.name[0] != "."}
    held = next((part for part in HELD_OUT if part in parts), None)
    if "train" in parts and parts <= {"train", *HELD_OUT}:
        if held is None:
            raise ValueError(
                f"{path} has a folder train but none of {', '.join(HELD_OUT)}; pass a "
                "folder with both, or the one that holds the classes."
            )
        train = load_image_folder(Path(path) / "train", as_arrays=False)
        test = load_image_folder(Path(path) / held, as_arrays=False)
        names = tuple(map(str, np.unique(train.target)))
        return _two_sets(path, train, test, n_train, n_test, names)
    bunch = load_image_folder(path, as_arrays=False)
    n = _most_of(bunch.target) if n_train is None else n_train
    return _one_set(path, np.asarray(bunch.data), bunch.target, n, n_test)


def _most_of(y: np.ndarray) -> int:
    """Four in five of the images, but so that one of each class is left to test."""
    return min(round(0.8 * len(y)), len(y) - len(np.unique(y)))


def _one_set(
    name: str, X: np.ndarray, y: np.ndarray, n_train: int, n_test: int | None
) -> StudyData:
    """Split images that come as one set."""
    train, test = split(y, n_train, n_test)
    labels = np.unique(y)
    names = tuple(map(str, labels))
    return StudyData(name, X[train], y[train], X[test], y[test], labels, names)


def _cifar10(n_train: int | None, n_test: int | None) -> StudyData:
    """Sample CIFAR-10's own training and test images."""
    from sktransfer.datasets import fetch_cifar10

    train, test = fetch_cifar10(subset="train"), fetch_cifar10(subset="test")
    names = tuple(train.target_names)
    return _two_sets("cifar10", train, test, n_train, n_test, names)


def _two_sets(
    name: str,
    train: Any,
    test: Any,
    n_train: int | None,
    n_test: int | None,
    names: tuple[str, ...],
) -> StudyData:
    """Sample images that come as a training and a test set."""
    labels = np.unique(train.target)
    unknown = np.setdiff1d(test.target, labels)
    if len(unknown):
        raise ValueError(
            f"the test images of {name} have classes that its training images have "
            f"not: {', '.join(map(str, unknown[:5]))}."
        )
    chosen, held = (
        stratified_sample(part.target, len(part.target) if n is None else n, word)
        for part, n, word in ((train, n_train, "n_train"), (test, n_test, "n_test"))
    )
    return StudyData(
        name,
        np.asarray(train.data)[chosen],
        train.target[chosen],
        np.asarray(test.data)[held],
        test.target[held],
        labels,
        names,
    )
