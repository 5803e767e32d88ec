"""Images to learn from: CIFAR-10, folders with one sub-folder a class, drawn shapes."""

from __future__ import annotations

import os
from http.client import HTTPException
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from sklearn.utils import Bunch, check_random_state
from sklearn.utils._param_validation import Interval, validate_parameter_constraints

from sktransfer._images.pictures import common_shape, read_pictures

__all__ = ["fetch_cifar10", "load_image_folder", "make_shapes"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")

CIFAR10_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
CIFAR10_DESCRIPTION = (
    "CIFAR-10: 60,000 colour photographs of 32x32 pixels in 10 classes, 50,000 to "
    "train and 10,000 to test (Krizhevsky, 'Learning Multiple Layers of Features from "
    "Tiny Images', 2009)."
)
SPLIT_NAMES = {"train", "test", "val", "valid", "validation"}
SUBSETS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}

# Drawn this many times as large and then averaged, so that edges are smooth.
OVERSAMPLING = 4
SHAPES_CONSTRAINTS = {
    "n_samples": [Interval(Integral, 1, None, closed="left")],
    "image_size": [Interval(Integral, 8, None, closed="left")],
    "n_classes": [Interval(Integral, 2, 8, closed="both")],
    "noise": [Interval(Real, 0, 1, closed="both")],
    "random_state": ["random_state"],
    "return_X_y": ["boolean"],
}


def load_image_folder(
    path: str | os.PathLike[str],
    *,
    as_arrays: bool = False,
    image_size: int | None = None,
    return_X_y: bool = False,
) -> Any:
    """Load a folder whose sub-folders hold the images of one class each.

    Files are found at any depth below a class folder. Names that start with a dot,
    such as ``.ipynb_checkpoints``, are passed over.

    Parameters
    ----------
    path : str or path-like
        The folder; the names of its sub-folders are the labels.

    as_arrays : bool, default=False
        Whether to read the images now; otherwise their paths are returned, which
        every estimator of this package takes as ``X``.

    image_size : int, default=None
        With `as_arrays`, height and width in pixels to which images are cut; needed
        where they differ in size.

    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        ``data``: list of str, or uint8 array of shape (n, height, width, 3) with
        values in [0, 255]; ``target``: array of str of shape (n,); ``target_names``:
        sorted list of str, the classes with at least one image; ``filenames``: list
        of str, sorted within their class; ``DESCR``: str.

    Raises
    ------
    FileNotFoundError
        If `path` is not a folder.
    ValueError
        If it holds no class folders, a split instead of them, or no images, or images
        of different sizes are to become one array without `image_size`, or
        `image_size` is not positive.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(f"path={str(path)!r} is not a folder.")
    classes = _class_files(folder)
    if not classes:
        raise ValueError(
            f"path={str(path)!r} holds no class folders: expected <class>/<image>."
        )
    if set(classes) <= SPLIT_NAMES:
        raise ValueError(
            f"path={str(path)!r} holds the folders {sorted(classes)}, which look like "
            f"a split rather than classes; pass {str(folder / sorted(classes)[-1])!r}."
        )
    files = [(file, name) for name, found in classes.items() for file in found]
    if not files:
        raise ValueError(
            f"path={str(path)!r} holds no images in class folders: expected "
            f"<class>/<image> with one of the endings {', '.join(SUFFIXES)}."
        )
    names = [name for name, found in classes.items() if found]
    filenames = [file for file, _ in files]
    target = np.array([name for _, name in files])
    data: Any = _read_all(filenames, image_size) if as_arrays else filenames
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=names,
        filenames=filenames,
        DESCR=f"{len(files)} images of {len(names)} classes in {folder}.",
    )


def fetch_cifar10(
    data_home: str | os.PathLike[str] | None = None,
    *,
    subset: str = "train",
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Any:
    """Load CIFAR-10, from this machine or else from its site.

    Looked for first as folders of images, ``cifar10/train/<class>/*`` and
    ``cifar10/test/<class>/*``; then as the official files, which torchvision
    downloads and checks. Folders of images come sorted by class, so that a slice such
    as ``data[:1000]`` holds one class: draw rows at random, with
    :func:`sklearn.utils.shuffle` or a stratified split.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder to look in and download to; by default the environment variable
        ``SKTRANSFER_DATA``, else :func:`sklearn.datasets.get_data_home`.

    subset : {"train", "test", "all"}, default="train"
        The official training images, the test images, or both in this order.

    download_if_missing : bool, default=True
        Whether to download what is not there.

    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        ``data``: uint8 array of shape (n, 32, 32, 3) with values in [0, 255];
        ``target``: int64 array of shape (n,), indices into ``target_names``;
        ``target_names``: list of str; ``DESCR``: str.

    Raises
    ------
    ValueError
        If `subset` is unknown, or a folder of images has a class CIFAR-10 has not.
    OSError
        If the data is not there and not downloaded.
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset={subset!r} is unknown; pass one of {list(SUBSETS)}.")
    # On first use, since it imports much (benchmarks/imports.py).
    from sklearn.datasets import get_data_home

    home = Path(data_home or os.environ.get("SKTRANSFER_DATA") or get_data_home())
    home = home.expanduser()
    splits = [_cifar10_split(home, s, download_if_missing) for s in SUBSETS[subset]]
    data = np.concatenate([images for images, _ in splits])
    target = np.concatenate([labels for _, labels in splits])
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=list(CIFAR10_CLASSES),
        DESCR=CIFAR10_DESCRIPTION,
    )


def make_shapes(
    n_samples: int = 200,
    *,
    image_size: int = 32,
    n_classes: int = 4,
    noise: float = 0.1,
    random_state: Any = None,
    return_X_y: bool = False,
) -> Any:
    """Draw coloured shapes of random size and place, one in each image.

    An image set for examples and tests that needs no download. Colours say nothing of
    the class: shape and background have random ones, at least a quarter of full
    brightness apart in each channel.

    Parameters
    ----------
    n_samples : int, default=200
        Number of images, at least `n_classes`.

    image_size : int, default=32
        Height and width in pixels, at least 8.

    n_classes : int, default=4
        How many shapes, in [2, 8], the first of: circle, square, triangle, cross, ring,
        star, diamond, bar. They are equally frequent, give or take one image.

    noise : float, default=0.1
        Standard deviation of the Gaussian noise added to every pixel and channel, as a
        share of full brightness, in [0, 1].

    random_state : int, RandomState instance or None, default=None
        Seeds sizes, places, colours, noise and the order of the images.

    return_X_y : bool, default=False
        Whether to return ``(data, target)`` instead of a Bunch.

    Returns
    -------
    Bunch
        ``data``: uint8 array of shape (n_samples, image_size, image_size, 3) with
        values in [0, 255]; ``target``: array of str of shape (n_samples,), the names of
        the shapes; ``target_names``: sorted list of str; ``DESCR``: str.

    Raises
    ------
    ValueError
        If a parameter is out of its range.

    See Also
    --------
    load_image_folder : Images of one's own.

    Examples
    --------
    >>> from sktransfer.datasets import make_shapes
    >>> shapes = make_shapes(100, random_state=0)
    >>> shapes.data.shape
    (100, 32, 32, 3)
    >>> shapes.target_names
    ['circle', 'cross', 'square', 'triangle']
    """
    given = {
        "n_samples": n_samples,
        "image_size": image_size,
        "n_classes": n_classes,
        "noise": noise,
        "random_state": random_state,
        "return_X_y": return_X_y,
    }
    validate_parameter_constraints(SHAPES_CONSTRAINTS, given, "make_shapes")
    if n_samples < n_classes:
        raise ValueError(
            f"n_samples={n_samples} must be at least n_classes={n_classes}, so that "
            "each class has an image."
        )
    rng = check_random_state(random_state)
    corners = _corners_of_shapes()
    names = np.array(list(corners)[:n_classes])
    target = rng.permutation(names[np.arange(n_samples) % n_classes])
    data = np.stack([_drawn(corners[name], image_size, noise, rng) for name in target])
    if return_X_y:
        return data, target
    return Bunch(
        data=data,
        target=target,
        target_names=sorted(names.tolist()),
        DESCR=f"{n_samples} drawn images of {n_classes} coloured shapes.",
    )


def _drawn(
    corners: np.ndarray, image_size: int, noise: float, rng: np.random.RandomState
) -> np.ndarray:
    """One image of the shape with these corners, uint8 (image_size, image_size, 3)."""
    radius = image_size * rng.uniform(0.22, 0.45)
    centre = rng.uniform(radius, image_size - radius, 2)
    background = rng.randint(0, 256, 3)
    # Around the circle of 256 values, so that each channel differs by 64 at least.
    colour = (background + rng.randint(64, 193, 3)) % 256
    outline = (centre + radius * corners) * OVERSAMPLING
    large = Image.new("L", (image_size * OVERSAMPLING,) * 2)
    ImageDraw.Draw(large).polygon([(x, y) for x, y in outline.tolist()], fill=255)
    covered = np.asarray(large.reduce(OVERSAMPLING))[:, :, None] / 255
    clean = background + covered * (colour - background)
    noisy = clean + rng.normal(0, 255 * noise, clean.shape)
    return noisy.round().clip(0, 255).astype(np.uint8)


def _corners_of_shapes() -> dict[str, np.ndarray]:
    """Corners (n, 2) of every shape, x to the right and y down, at most 1 from 0."""
    circle = _around(48)
    ring = np.concatenate([circle, circle[:1], 0.55 * circle[::-1], 0.55 * circle[-1:]])
    arm = np.array([[-0.3, -0.95], [0.3, -0.95], [0.3, -0.3]])
    quarter_turn = np.array([[0, 1], [-1, 0]])
    turns = [np.linalg.matrix_power(quarter_turn, k) for k in range(4)]
    return {
        "circle": circle,
        "square": _around(4, start=1 / 8),
        "triangle": _around(3),
        "cross": np.concatenate([arm @ turn for turn in turns]),
        "ring": ring,
        "star": _around(10, distances=(1, 0.4)),
        "diamond": _around(4, distances=(1, 0.6)),
        "bar": np.array([[-0.95, -0.3], [0.95, -0.3], [0.95, 0.3], [-0.95, 0.3]]),
    }


def _around(
    n: int, *, start: float = 0.0, distances: tuple[float, ...] = (1.0,)
) -> np.ndarray:
    """`n` corners (n, 2) around 0, from the top, at distances that take turns."""
    angles = 2 * np.pi * (np.arange(n) / n + start)
    reach = np.resize(distances, n)
    return np.column_stack([reach * np.sin(angles), -reach * np.cos(angles)])


def _cifar10_split(
    home: Path, split: str, download: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) and class indices (n,) of one official split."""
    folder = home / "cifar10" / split
    classes = _class_files(folder) if folder.is_dir() else {}
    files = [file for found in classes.values() for file in found]
    if files:
        labels = [_cifar10_index(name, folder) for name in classes]
        counts = [len(found) for found in classes.values()]
        target = np.repeat(np.array(labels, dtype=np.int64), counts)
        return read_pictures(files, (32, 32, 3)), target
    from torchvision.datasets import CIFAR10

    try:
        official = CIFAR10(str(home), train=split == "train", download=download)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = f"the download failed: {error}"
        way_out = "try again with a connection"
        if not download:
            reason = "`download_if_missing` is False"
            way_out = "with a connection, pass download_if_missing=True"
        raise OSError(
            f"CIFAR-10 not found, or damaged, and {reason}. Looked for images in "
            f"{folder} and for the official files in {home}. Ways out: {way_out}; or "
            f"download {CIFAR10.url} and unpack it in {home}; or set data_home or "
            "SKTRANSFER_DATA to a folder that holds cifar10/train/<class>/ and "
            "cifar10/test/<class>/ images."
        ) from None
    return np.asarray(official.data), np.asarray(official.targets, dtype=np.int64)


def _cifar10_index(name: str, folder: Path) -> int:
    """Index of a class folder's name."""
    if name not in CIFAR10_CLASSES:
        raise ValueError(
            f"{folder} holds the folder {name!r}, which is no class of CIFAR-10: its "
            f"folders must be among {', '.join(CIFAR10_CLASSES)}."
        )
    return CIFAR10_CLASSES.index(name)


def _class_files(folder: Path) -> dict[str, list[str]]:
    """Image files of each sub-folder, both sorted and without hidden names."""
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return {n: _images_in(folder / n) for n in names if not n.startswith(".")}


def _images_in(folder: Path) -> list[str]:
    """Image files below a folder, sorted."""
    found = []
    # os.walk knows files from folders without asking about each of them again.
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def _read_all(filenames: list[str], image_size: int | None) -> np.ndarray:
    """All images as one uint8 array of shape (n, height, width, 3)."""
    if image_size is not None:
        if not isinstance(image_size, Integral) or image_size < 1:
            raise ValueError(f"image_size={image_size!r} must be a positive integer.")
        return read_pictures(filenames, (image_size, image_size, 3))
    shape = common_shape(filenames)
    if shape is None:
        raise ValueError(
            "image_size=None, but the images differ in size: pass image_size=224, "
            "say, or as_arrays=False for their paths."
        )
    # Grey images too become RGB, as they do with an image_size.
    return read_pictures(filenames, (shape[0], shape[1], 3))
