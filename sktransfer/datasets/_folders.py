"""Images in a folder that has one sub-folder per class."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.utils import Bunch

from sktransfer._feedback import warn
from sktransfer._images.pictures.formats import SUFFIXES, is_picture_file, list_formats
from sktransfer._images.pictures.reading import read_pictures, read_shape

TRAINING_NAMES = ("train", "training")
SPLIT_NAMES = {*TRAINING_NAMES, "test", "testing", "val", "valid", "validation", "dev"}
# Files of file managers, beside those whose names start with a dot.
IGNORED = ("thumbs.db", "desktop.ini")
N_NAMED = 5


def load_image_folder(
    path: str | os.PathLike[str],
    *,
    as_arrays: bool = False,
    image_size: int | None = None,
    return_X_y: bool = False,
) -> Any:
    """Load a folder whose sub-folders hold the images of one class each.

    Files are found at any depth below a class folder, through links, too. What a file
    holds decides whether it is an image, not its ending. Names that start with a dot,
    such as ``.ipynb_checkpoints``, are ignored.

    Parameters
    ----------
    path : str or path-like
        The folder; ``~`` is the home folder. The names of its sub-folders are the
        labels, in Unicode's composed form (NFC).

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
        ``data``: array of str of shape (n,) and dtype object, or uint8 array of shape
        (n, height, width, 3) with values in [0, 255]; ``target``: array of str of
        shape (n,); ``target_names``: sorted list of str, the classes with at least one
        image; ``filenames``: array of str of shape (n,), sorted within their class;
        ``DESCR``: str.

    Raises
    ------
    FileNotFoundError
        If `path` is not a folder.
    ValueError
        If `path` holds no class folders, folders named after a split, or no images;
        if images of different sizes are read without `image_size`; or if `image_size`
        is not a positive integer.

    Warns
    -----
    UserWarning
        If there is one class only; with the names of files that are no images and of
        class folders without any.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(
            f"path={str(path)!r} is not a folder; pass one with a sub-folder per class."
        )
    classes, skipped = list_class_files(folder)
    if not classes:
        raise ValueError(
            f"path={str(path)!r} holds no class folders: expected <class>/<image>."
        )
    part = _find_split(classes)
    if part is not None:
        raise ValueError(
            f"path={str(path)!r} holds the folders {sorted(classes)}, which look like "
            f"a split rather than classes; pass {str(folder / part)!r}."
        )
    files = [(file, name) for name, found in classes.items() for file in found]
    if not files:
        raise ValueError(
            f"path={str(path)!r} holds no images in class folders: expected "
            f"<class>/<image> in one of the formats {', '.join(list_formats())}."
        )
    _warn_of_what_is_missing(folder, classes, skipped)
    names = [name for name, found in classes.items() if found]
    # Not of numpy's own kind of strings, all of which are as long as the longest.
    filenames = np.array([file for file, _ in files], dtype=object)
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


def _find_split(names: Iterable[str]) -> str | None:
    """Return which of some folders to train on, if all are parts of a split."""
    parts = {name for name in names if name.lower() in SPLIT_NAMES}
    if parts != set(names):
        return None
    training = (name for name in sorted(parts) if name.lower() in TRAINING_NAMES)
    return next(training, max(parts))


def list_class_files(folder: Path) -> tuple[dict[str, list[str]], list[str]]:
    """List the image files of each sub-folder, and the files that are no images.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    classes : dict of str to list of str
        Files by the name of their sub-folder, both sorted, without hidden names. Names
        that look the same are one.

    skipped : list of str
        Other files in the sub-folders.
    """
    classes: dict[str, list[str]] = {}
    skipped: list[str] = []
    entries = sorted(n for n in os.listdir(folder) if os.path.isdir(folder / n))
    own = folder.resolve()
    above = {str(path) for path in (own, *own.parents)}
    for entry in entries:
        if entry.startswith("."):
            continue
        images, others = _list_files(folder / entry, above)
        classes.setdefault(unicodedata.normalize("NFC", entry), []).extend(images)
        skipped += others
    return {name: sorted(classes[name]) for name in sorted(classes)}, skipped


def _list_files(folder: Path, above: set[str]) -> tuple[list[str], list[str]]:
    """List the image files and other files below a folder; links never lead above."""
    images: list[str] = []
    others: list[str] = []
    seen = set(above)
    # os.walk tells files from folders without one system call per file.
    for parent, folders, files in os.walk(folder, followlinks=True):
        own = os.path.realpath(parent)
        if own in seen:  # a link to a folder above it, or to one that was listed
            folders.clear()
            continue
        seen.add(own)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in files:
            if name.startswith(".") or name.lower() in IGNORED:
                continue
            file = os.path.join(parent, name)
            is_image = name.lower().endswith(SUFFIXES) or is_picture_file(file)
            (images if is_image else others).append(file)
    return images, others


def _warn_of_what_is_missing(
    folder: Path, classes: dict[str, list[str]], skipped: list[str]
) -> None:
    """Warn of files and folders that are left out, and if only one class remains."""
    if skipped:
        names = _name_some(os.path.relpath(file, folder) for file in sorted(skipped))
        warn(f"{len(skipped)} file(s) in {folder} are not images: {names}.")
    empty = [name for name, found in classes.items() if not found]
    if empty:
        warn(
            f"{len(empty)} class folder(s) in {folder} hold no images: "
            f"{_name_some(empty)}."
        )
    found = [name for name in classes if name not in empty]
    if len(found) == 1:
        warn(
            f"all images in {folder} are of one class, {found[0]!r}; pass a folder "
            "with one sub-folder per class."
        )


def _name_some(names: Iterable[str]) -> str:
    """List the first few names."""
    listed = list(names)
    more = f" and {len(listed) - N_NAMED} more" if len(listed) > N_NAMED else ""
    return ", ".join(map(repr, listed[:N_NAMED])) + more


def _read_all(filenames: np.ndarray, image_size: int | None) -> np.ndarray:
    """Read all images into one uint8 array of shape (n, height, width, 3)."""
    files = filenames.tolist()
    if image_size is not None:
        if not isinstance(image_size, Integral) or image_size < 1:
            raise ValueError(f"image_size={image_size!r} must be a positive integer.")
        return read_pictures(files, (image_size, image_size, 3))
    shape = read_shape(files)
    if shape is None:
        raise ValueError(
            "image_size=None, but the images differ in size: pass image_size, such as "
            "image_size=224, or as_arrays=False for their paths."
        )
    # Grey images become RGB too, as they do with an image_size.
    return read_pictures(files, (shape[0], shape[1], 3))
