"""CIFAR-10, read from disk or downloaded."""

from __future__ import annotations

import os
from http.client import HTTPException
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer._images.pictures.reading import read_pictures
from sktransfer.datasets._folders import list_class_files

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
    "CIFAR-10: 60,000 colour photographs of 32x32 pixels in 10 classes, 50,000 for "
    "training and 10,000 for testing (Krizhevsky, 'Learning Multiple Layers of "
    "Features from Tiny Images', 2009)."
)
SUBSETS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}


def fetch_cifar10(
    data_home: str | os.PathLike[str] | None = None,
    *,
    subset: str = "train",
    download_if_missing: bool = True,
    return_X_y: bool = False,
) -> Any:
    """Load CIFAR-10 from disk, or download it.

    Folders of images, ``cifar10/train/<class>/*`` and ``cifar10/test/<class>/*``, are
    tried first, then the official files, which torchvision downloads and checks.
    Images from folders are sorted by class, so a slice such as ``data[:1000]`` may
    hold one class only: draw images at random instead, with
    :func:`sklearn.utils.shuffle` or a stratified split.

    Parameters
    ----------
    data_home : str or path-like, default=None
        Folder to search and to download to; by default the value of the environment
        variable ``SKTRANSFER_DATA``, or else that of
        :func:`sklearn.datasets.get_data_home`.

    subset : {"train", "test", "all"}, default="train"
        The official training images, the test images, or both, in this order.

    download_if_missing : bool, default=True
        Whether to download the official files if no images are found.

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
        If `subset` is unknown, or a folder is not named after a class of CIFAR-10.
    OSError
        If the images are not found and are not or cannot be downloaded.
    """
    if subset not in SUBSETS:
        raise ValueError(f"subset={subset!r} is unknown; pass one of {list(SUBSETS)}.")
    # Imported on first use because it is slow to import (benchmarks/imports.py).
    from sklearn.datasets import get_data_home

    home = Path(data_home or os.environ.get("SKTRANSFER_DATA") or get_data_home())
    home = home.expanduser()
    splits = [_load_split(home, s, download_if_missing) for s in SUBSETS[subset]]
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


def _load_split(
    home: Path, split: str, download: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Load the images (n, 32, 32, 3) and class indices (n,) of one official split."""
    folder = home / "cifar10" / split
    classes = list_class_files(folder)[0] if folder.is_dir() else {}
    files = [file for found in classes.values() for file in found]
    if files:
        labels = [_find_class(name, folder) for name in classes]
        counts = [len(found) for found in classes.values()]
        target = np.repeat(np.array(labels, dtype=np.int64), counts)
        return read_pictures(files, (32, 32, 3)), target
    from torchvision.datasets import CIFAR10

    try:
        official = CIFAR10(str(home), train=split == "train", download=download)
    except (OSError, RuntimeError, HTTPException) as error:
        reason = f"the download failed: {error}"
        remedy = "try again with a connection"
        if not download:
            reason = "`download_if_missing` is False"
            remedy = "with a connection, pass download_if_missing=True"
        raise OSError(
            f"CIFAR-10 not found, or damaged, and {reason}. Searched for images in "
            f"{folder} and for the official files in {home}. Ways out: {remedy}; or "
            f"download {CIFAR10.url} and unpack it in {home}; or set data_home or "
            "SKTRANSFER_DATA to a folder that holds cifar10/train/<class>/ and "
            "cifar10/test/<class>/ images."
        ) from None
    return np.asarray(official.data), np.asarray(official.targets, dtype=np.int64)


def _find_class(name: str, folder: Path) -> int:
    """Index of the class that a folder is named after."""
    if name not in CIFAR10_CLASSES:
        raise ValueError(
            f"{folder} holds the folder {name!r}, which is not a class of CIFAR-10. "
            f"Keep only folders named {', '.join(CIFAR10_CLASSES)}."
        )
    return CIFAR10_CLASSES.index(name)
