"""Images in a folder that has one sub-folder per class."""

from __future__ import annotations

import os
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer._images.pictures import read_pictures, read_shape

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm")
SPLIT_NAMES = {"train", "test", "val", "valid", "validation"}


def load_image_folder(
    path: str | os.PathLike[str],
    *,
    as_arrays: bool = False,
    image_size: int | None = None,
    return_X_y: bool = False,
) -> Any:
    """Load a folder whose sub-folders hold the images of one class each.

    Files are found at any depth below a class folder. Names that start with a dot,
    such as ``.ipynb_checkpoints``, are ignored.

    Parameters
    ----------
    path : str or path-like
        The folder; the names of its sub-folders are the labels.

    as_arrays : bool, default=False
        Whether to read the images now. Otherwise their paths are returned, which
        every estimator of this package accepts as ``X``.

    image_size : int, default=None
        Height and width in pixels to which images are scaled and cropped, with
        `as_arrays`; needed if they differ in size.

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
        If `path` holds no class folders, folders named after a split, or no images;
        if images of different sizes are read without `image_size`; or if `image_size`
        is not a positive integer.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise FileNotFoundError(
            f"path={str(path)!r} is not a folder; pass one with a sub-folder per class."
        )
    classes = list_class_files(folder)
    if not classes:
        raise ValueError(
            f"path={str(path)!r} holds no class folders: expected <class>/<image>."
        )
    if set(classes) <= SPLIT_NAMES:
        part = "train" if "train" in classes else max(classes)
        raise ValueError(
            f"path={str(path)!r} holds the folders {sorted(classes)}, which look like "
            f"a split rather than classes; pass {str(folder / part)!r}."
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


def list_class_files(folder: Path) -> dict[str, list[str]]:
    """List the image files of each sub-folder.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    dict of str to list of str
        Files by the name of their sub-folder, both sorted, without hidden names.
    """
    names = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
    return {n: _list_images(folder / n) for n in names if not n.startswith(".")}


def _list_images(folder: Path) -> list[str]:
    """List the image files below a folder, sorted."""
    found = []
    # os.walk tells files from folders without one system call per file.
    for parent, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.join(parent, name)
            for name in files
            if name.lower().endswith(SUFFIXES) and not name.startswith(".")
        ]
    return sorted(found)


def _read_all(filenames: list[str], image_size: int | None) -> np.ndarray:
    """Read all images into one uint8 array of shape (n, height, width, 3)."""
    if image_size is not None:
        if not isinstance(image_size, Integral) or image_size < 1:
            raise ValueError(f"image_size={image_size!r} must be a positive integer.")
        return read_pictures(filenames, (image_size, image_size, 3))
    shape = read_shape(filenames)
    if shape is None:
        raise ValueError(
            "image_size=None, but the images differ in size: pass image_size, such as "
            "image_size=224, or as_arrays=False for their paths."
        )
    # Grey images become RGB too, as they do with an image_size.
    return read_pictures(filenames, (shape[0], shape[1], 3))
