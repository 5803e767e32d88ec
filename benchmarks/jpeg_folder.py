"""A folder of any number of JPEG files to classify, for benchmarks of reading.

Each is smooth coloured noise of 320 x 240 pixels, of some 14 kB. Its hue tells its
class, up to a blur that makes some 5 % of them look like another. No two are alike, or
the activation cache would compute one of them only. A class folder has sub-folders of
1,000 files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

CLASSES = ("blue", "green", "red", "violet")
HUES = dict(zip(CLASSES, (240, 150, 0, 300), strict=True))
HEIGHT, WIDTH, QUALITY, PER_FOLDER = 240, 320, 85, 1000

# Levels, and degrees of hue.
TINT, CLOUDS, GRAIN, BLUR = 45, 40, 10, 16
COARSE, FINE = (8, 6), (160, 120)


class Files(NamedTuple):
    """Paths and labels of a part of the folder."""

    X: list[str]
    y: np.ndarray


def draw(seed: tuple[int, int], label: str) -> Image.Image:
    """Draw smooth noise with the hue of a class."""
    rng = np.random.default_rng(seed)
    hue = np.deg2rad(HUES[label] + rng.normal(0, BLUR) - np.array([0, 120, 240]))
    clouds = 128 + TINT * np.cos(hue) + rng.normal(0, CLOUDS, (*COARSE[::-1], 3))
    smooth = Image.fromarray(clouds.clip(0, 255).astype(np.uint8))
    grain = rng.integers(-GRAIN, GRAIN + 1, (*FINE[::-1], 1))
    pixels = np.asarray(smooth.resize(FINE, Image.Resampling.BICUBIC)) + grain
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)


def list_files(folder: Path, n: int) -> Files:
    """List the n files that a folder has, or will have: the classes take turns."""
    n_classes = len(CLASSES)
    labels = [CLASSES[i % n_classes] for i in range(n)]
    paths = [
        str(folder / label / f"{i // n_classes // PER_FOLDER:03}" / f"{i:07}.jpg")
        for i, label in enumerate(labels)
    ]
    return Files(paths, np.array(labels))


def make_folder(folder: Path, n: int, seed: int) -> Files:
    """Make the n files of a folder unless all are there; read them once if they are."""
    files, mark = list_files(folder, n), folder / "complete"
    if mark.exists():
        for path in files.X:  # so that no case waits for the disk
            Path(path).read_bytes()
        return files
    for number, (path, label) in enumerate(zip(*files, strict=True)):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        draw((seed, number), label).save(path, quality=QUALITY)
    mark.touch()
    return files


def list_through_links(
    files: Files, folder: Path, links: Path, n: int
) -> Iterator[str]:
    """List n different paths to some files of a folder, through links to it."""
    links.mkdir(parents=True, exist_ok=True)
    inside = [Path(path).relative_to(folder) for path in files.X]
    for number in range(math.ceil(n / len(inside))):
        link = links / f"{number:04}"
        if not link.is_symlink():
            link.symlink_to(folder.resolve(), target_is_directory=True)
        left = n - number * len(inside)
        yield from (str(link / path) for path in inside[:left])
