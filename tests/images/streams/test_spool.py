"""What a spool has read once comes from memory or from a file from then on."""

import numpy as np
import pytest

from sktransfer._images.streams import spool as module
from sktransfer._images.streams.spool import Spool


class Source:
    """Images that count how often they are read."""

    def __init__(self, n=20, dtype=np.uint8):
        self.whole = np.random.default_rng(0).integers(0, 256, (n, 3, 4, 1))
        self.whole = self.whole.astype(dtype)
        self.shape, self.dtype = self.whole.shape, self.whole.dtype
        self.read = []

    def __len__(self):
        return len(self.whole)

    def read_ahead(self, parts):
        for part in parts:
            self.read += np.arange(len(self))[part].tolist()
            yield self.whole[part]


@pytest.fixture(params=["memory", "file"])
def place(request, monkeypatch):
    if request.param == "file":
        monkeypatch.setattr(module, "BYTES_IN_MEMORY", 0)


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_what_is_read_for_the_second_time_is_kept(place, dtype):
    source = Source(dtype=dtype)
    spool = Spool(source)
    rng = np.random.default_rng(1)
    for _ in range(5):
        parts = np.array_split(rng.permutation(20), 4)
        for part, images in zip(parts, spool.read_ahead(parts), strict=True):
            np.testing.assert_array_equal(images, source.whole[part])
            assert images.dtype == dtype
    assert sorted(source.read) == sorted([*range(20), *range(20)])
    np.testing.assert_array_equal(spool[4], source.whole[4])


def test_a_row_that_occurs_twice_is_kept_once(place):
    source = Source()
    spool = Spool(source)
    for _ in range(3):
        rows = np.repeat(np.arange(20), 2)
        np.testing.assert_array_equal(spool[rows], source.whole[rows])
    assert len(source.read) == 80
    spool[:]
    assert len(source.read) == 80


def test_all_can_be_read_at_once(place):
    source, counts = Source(), []
    spool = Spool(source)
    spool.fill(counts.append)
    assert sum(counts) == len(source.read) == 20
    np.testing.assert_array_equal(spool[:], source.whole)
    assert len(source.read) == 20


def test_what_finds_no_room_is_read_again(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "BYTES_IN_MEMORY", 0)
    source, counts = Source(), []
    spool = Spool(source, tmp_path, max_bytes=5 * 12 + 11)
    spool.fill(counts.append)
    assert sum(counts) == 5
    for _ in range(2):
        np.testing.assert_array_equal(spool[:], source.whole)
    assert sorted(source.read) == sorted([*range(5), *range(5, 20), *range(5, 20)])


def test_a_full_disk_ends_keeping_but_not_reading(monkeypatch):
    monkeypatch.setattr(module, "BYTES_IN_MEMORY", 0)
    source = Source()
    spool = Spool(source)
    write = spool._write

    def fail_after_three(file, place, image):
        if place == 3:
            raise OSError(28, "No space left on device")
        write(file, place, image)

    monkeypatch.setattr(spool, "_write", fail_after_three)
    for _ in range(3):
        np.testing.assert_array_equal(spool[:], source.whole)
    assert len(source.read) == 20 + 20 + 17


def test_without_a_place_for_a_file_images_are_read_again(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "BYTES_IN_MEMORY", 0)
    source = Source()
    spool = Spool(source, tmp_path / "none")
    spool.fill(lambda n: None)
    np.testing.assert_array_equal(spool[:], source.whole)
    assert len(source.read) == 20


def test_the_file_is_in_the_folder_without_a_name(monkeypatch, tmp_path):
    monkeypatch.setattr(module, "BYTES_IN_MEMORY", 0)
    spool = Spool(Source(), tmp_path)
    spool.fill(lambda n: None)
    assert list(tmp_path.iterdir()) == []
    np.testing.assert_array_equal(spool[:], spool.stream.whole)
