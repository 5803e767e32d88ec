"""What is in a folder of activations, and the sets that the tests here encode."""

import multiprocessing
import os
import time

import numpy as np
from PIL import Image

from sktransfer import FeatureExtractor
from sktransfer._activations.storage.segments import read_rows, read_segment
from tests.helpers import SHORT, files, transfer

FEATURES = {k: v for k, v in SHORT.items() if k != "max_epochs"}


def read_folder(path):
    """Return the bytes of each row by namespace and key; no row may be there twice."""
    rows = {}
    for file in files(path):
        segment = read_segment(file)
        values, is_right = read_rows(file, segment, range(len(segment.keys)))
        assert is_right.all()
        for key, row in zip(segment.keys, values, strict=True):
            place = file.parent.name, key
            assert place not in rows, f"{place} was computed twice"
            rows[place] = row.numpy().tobytes()
    return rows


def extractor(**changes):
    """An extractor on the bundled backbone, for images of 8 pixels."""
    settings = {"image_size": 8, **FEATURES, **changes}
    return FeatureExtractor("mini_resnet18", **settings)


def write_pictures(folder, n=70, sizes=((20, 20), (160, 120))):
    """Write noisy pictures, the first 40 of one size; return their paths."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(n):
        width, height = sizes[0 if i < 40 else 1]
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        paths.append(str(folder / f"{i:03}.png"))
        Image.fromarray(pixels).save(paths[-1])
    return paths


def of_every_kind():
    """Estimators whose activations lie in one, or in two, places of the network."""
    return {
        "features": extractor(),
        "probe and two views": transfer(),
        "all by themselves": transfer(unfreeze_depth="auto", image_size="auto"),
    }


class Deadly:
    """A set of pictures; a worker that reads the 40th of them is killed.

    It waits until another worker has published something. It dies once, or until there
    is a file named mercy in the folder.
    """

    def __init__(self, X, folder, dies_once=False):
        self.X, self.folder, self.dies_once = X, folder, dies_once

    def __len__(self):
        return len(self.X)

    def __getitem__(self, index):
        is_worker = multiprocessing.parent_process() is not None
        mercy = self.folder / "mercy"
        if index == 40 and is_worker and not mercy.exists():
            while not list(self.folder.rglob("*.safetensors")):
                time.sleep(0.01)
            if self.dies_once:
                mercy.touch()
            os.kill(os.getpid(), 9)
        return Image.fromarray(self.X[index])
