"""The images of a study: loaded, and split into training and test images."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

# Names of folders of test images; the first one found is used.
HELD_OUT = ("test", "val", "valid", "validation")


@dataclass(frozen=True)
class StudyData:
    """Images and labels of one split; ``names[i]`` is the printed ``labels[i]``."""

    name: str
    X_train: Any
    y_train: np.ndarray
    X_test: Any
    y_test: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def image_size(self) -> tuple[int, int]:
        """Height and width of the training images; of files the median of each."""
        if self.X_train.ndim == 1:
            from sktransfer._images.pictures.reading import read_shapes

            return read_shapes(self.X_train.tolist()).typical[:2]
        height, width = self.X_train.shape[1:3]
        return int(height), int(width)

    @property
    def images(self) -> str:
        """Kind, channels and type of the images, in words."""
        return _describe_images(self.X_train)


def _describe_images(X: np.ndarray) -> str:
    """Describe arrays (n, height, width[, channels]) or paths of files (n,)."""
    if X.ndim == 1:
        return "files"
    n_channels = 1 if X.ndim == 3 else X.shape[3]
    colours = {1: "grey", 3: "RGB"}.get(n_channels, f"{n_channels} channels")
    scale = "0 to 255" if X.dtype == np.uint8 else "0 to 1"
    return f"an array, {colours}, {X.dtype}, {scale}"


def draw_stratified(y: np.ndarray, n: int, name: str, seed: int = 0) -> np.ndarray:
    """Draw `n` sorted indices into `y` (n_all,): each class by its share, at least one.

    Errors call `n` by the name of its option, `name`.
    """
    # scikit-learn's train_test_split(train_size=n, stratify=y) drops rare classes when
    # n is small, and refuses to take nearly all images or a class of one.
    _, codes, counts = np.unique(y, return_inverse=True, return_counts=True)
    if n < len(counts):
        raise ValueError(
            f"{name}={n} is fewer than one image for each of the {len(counts)} "
            f"classes; pass at least {len(counts)}."
        )
    if n > len(y):
        raise ValueError(
            f"{name}={n} is too large: there are only {len(y)} images; pass at most "
            f"{len(y)}."
        )
    quota = n * counts / len(y)
    sizes = np.maximum(1, np.floor(quota).astype(int))
    while sizes.sum() < n:
        sizes[np.argmax(np.where(sizes < counts, quota - sizes, -np.inf))] += 1
    while sizes.sum() > n:
        sizes[np.argmin(np.where(sizes > 1, quota - sizes, np.inf))] -= 1
    rng = np.random.default_rng(seed)
    chosen = [
        rng.permutation(np.flatnonzero(codes == code))[:size]
        for code, size in enumerate(sizes)
    ]
    return np.sort(np.concatenate(chosen))


def split_indices(y: np.ndarray, n_train: int, n_test: int | None) -> tuple[Any, Any]:
    """Split `y` (n,) into training and test indices, stratified and disjoint.

    Every class is on both sides.
    """
    classes, first, counts = np.unique(y, return_index=True, return_counts=True)
    if counts.min() < 2:
        raise ValueError(
            f"class {str(classes[counts.argmin()])!r} has a single image; add one, "
            "so that there is one to train on and one to test."
        )
    most = len(y) - len(classes)
    if n_train > most:
        raise ValueError(
            f"n_train={n_train} is too large: there are {len(y)} images, and one of "
            f"each class is kept for testing; pass at most {most}."
        )
    others = np.setdiff1d(np.arange(len(y)), first)
    train = others[draw_stratified(y[others], n_train, "n_train")]
    rest = np.setdiff1d(np.arange(len(y)), train)
    if n_test is None:
        return train, rest
    return train, rest[draw_stratified(y[rest], n_test, "n_test")]


def load_data(name: str, n_train: int | None, n_test: int | None) -> StudyData:
    """Load "digits", "cifar10" or a folder; raise ValueError for any other name."""
    if name == "digits":
        return _load_digits(100 if n_train is None else n_train, n_test)
    if name == "cifar10":
        return _load_cifar10(n_train, n_test)
    if Path(name).is_dir():
        return _load_folder(name, n_train, n_test)
    raise ValueError(
        f"--data {name!r} is neither a known name nor a folder; pass digits, cifar10 "
        "or the path of a folder with one subfolder per class."
    )


def _load_digits(n_train: int, n_test: int | None) -> StudyData:
    from sklearn.datasets import load_digits

    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)
    return _split_one_set("digits", images, digits.target, n_train, n_test)


def _load_folder(path: str, n_train: int | None, n_test: int | None) -> StudyData:
    from sktransfer.datasets import load_image_folder

    parts = {p.name for p in Path(path).iterdir() if p.is_dir() and p.name[0] != "."}
    held = next((part for part in HELD_OUT if part in parts), None)
    if "train" in parts and parts <= {"train", *HELD_OUT}:
        if held is None:
            raise ValueError(
                f"{path} has a folder train but none of {', '.join(HELD_OUT)}; pass a "
                "folder with both, or the one that contains the classes."
            )
        train = load_image_folder(Path(path) / "train", as_arrays=False)
        test = load_image_folder(Path(path) / held, as_arrays=False)
        names = tuple(map(str, np.unique(train.target)))
        return _sample_two_sets(path, train, test, n_train, n_test, names)
    bunch = load_image_folder(path, as_arrays=False)
    n = _default_n_train(bunch.target) if n_train is None else n_train
    return _split_one_set(path, np.asarray(bunch.data), bunch.target, n, n_test)


def _default_n_train(y: np.ndarray) -> int:
    """80 % of the images, or fewer so that one of each class is left for testing."""
    return min(round(0.8 * len(y)), len(y) - len(np.unique(y)))


def _split_one_set(
    name: str, X: np.ndarray, y: np.ndarray, n_train: int, n_test: int | None
) -> StudyData:
    """Split images that are given as one set."""
    train, test = split_indices(y, n_train, n_test)
    labels = np.unique(y)
    names = tuple(map(str, labels))
    return StudyData(name, X[train], y[train], X[test], y[test], labels, names)


def _load_cifar10(n_train: int | None, n_test: int | None) -> StudyData:
    """Sample from CIFAR-10's own training and test images."""
    from sktransfer.datasets import fetch_cifar10

    train, test = fetch_cifar10(subset="train"), fetch_cifar10(subset="test")
    names = tuple(train.target_names)
    return _sample_two_sets("cifar10", train, test, n_train, n_test, names)


def _sample_two_sets(
    name: str,
    train: Any,
    test: Any,
    n_train: int | None,
    n_test: int | None,
    names: tuple[str, ...],
) -> StudyData:
    """Sample images that are given as a training set and a test set."""
    labels = np.unique(train.target)
    unknown = np.setdiff1d(test.target, labels)
    if len(unknown):
        raise ValueError(
            f"the test images of {name} contain classes that are missing from the "
            f"training images: {', '.join(map(str, unknown[:5]))}; add training "
            "images of these classes or remove the test images."
        )
    chosen, held = (
        draw_stratified(part.target, len(part.target) if n is None else n, word)
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
