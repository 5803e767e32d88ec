"""A path takes little memory besides its own, however many there are."""

import tracemalloc

import numpy as np
import torch

from sktransfer import ActivationCache
from sktransfer._activations.rows import ActivationRows
from sktransfer._images.pictures.reading import Reading
from sktransfer._images.streams.pictures import PictureStream
from sktransfer._images.streams.spool import Spool
from sktransfer._images.views import AS_IT_IS, MIRRORED

N_PATHS, MOST_BYTES = 100_000, 300


class NoPrefix:
    """Stages whose activations nobody computes."""

    device = torch.device("cpu")

    def batch_size(self, image_shape):
        return 16

    def namespace(self, image_shape):
        return "none"


def hash_numbers(stream, rows):
    """Give each row another hash, without a file."""
    digests = np.zeros((len(rows), 32), np.uint8)
    digests[:, :8] = rows.astype(np.int64).view(np.uint8).reshape(-1, 8)
    return digests, np.ones(len(rows), bool)


def test_a_path_takes_less_than_300_bytes_besides_its_own(monkeypatch):
    monkeypatch.setattr(PictureStream, "hash_files", hash_numbers)
    monkeypatch.setattr(ActivationRows, "_compute", lambda *args: 0)
    paths = [f"/a/folder/of/{i:08}.jpg" for i in range(N_PATHS)]
    tracemalloc.start()
    try:
        images = Spool(PictureStream(paths, Reading((288, 288, 3))))
        views, cache = (AS_IT_IS, MIRRORED), ActivationCache(max_bytes=0)
        ActivationRows(NoPrefix(), images, views, cache).ensure_all()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak / N_PATHS < MOST_BYTES
