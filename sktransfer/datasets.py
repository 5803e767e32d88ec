"""Images to learn from: CIFAR-10, and folders with one sub-folder a class."""

from __future__ import annotations

import os
from http.client import HTTPException
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer._images import common_shape, read_pictures

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
