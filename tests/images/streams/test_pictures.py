"""Pictures are decoded when asked for, in any order, and all bad ones are named."""

import os
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sktransfer._images.pictures import budget as budgets
from sktransfer._images.pictures.opening import BadImageError
from sktransfer._images.pictures.reading import Reading, read_pictures
from sktransfer._images.streams.pictures import PictureStream

SHAPE = (6, 8, 3)


@pytest.fixture
def paths(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(20):
        pixels = rng.integers(0, 256, (9, 12, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{i:02}.png")
    return [str(path) for path in sorted(tmp_path.glob("*.png"))]


def stream(paths, **options):
    return PictureStream(paths, Reading(SHAPE, **options))


def test_any_rows_are_the_pixels_of_the_whole(paths):
    images, whole = stream(paths), read_pictures(paths, SHAPE)
    assert images.shape == (20, *SHAPE)
    assert len(images) == 20
    np.testing.assert_array_equal(images[:], whole)
    np.testing.assert_array_equal(images[3], whole[3])
    np.testing.assert_array_equal(images[[7, 2, 7]], whole[[7, 2, 7]])
    np.testing.assert_array_equal(images[5:9], whole[5:9])


def test_nothing_is_decoded_before_it_is_asked_for(paths, decoded):
    images = stream(paths)
    assert decoded == []
    images[4:6]
    assert sorted(decoded) == [4, 5]


def test_parts_come_in_order_and_only_a_few_are_read_ahead(paths, decoded, monkeypatch):
    monkeypatch.setattr("sktransfer._images.streams.ahead.BYTES_AHEAD", 0)
    whole = read_pictures(paths, SHAPE)
    parts = [np.arange(i, i + 2) for i in range(0, 20, 2)]
    read = stream(paths).read_ahead(parts)
    np.testing.assert_array_equal(next(read), whole[:2])
    read.close()
    assert max(decoded) < 8
    for part, images in zip(parts, stream(paths).read_ahead(parts), strict=True):
        np.testing.assert_array_equal(images, whole[part])


def test_a_row_that_occurs_twice_is_decoded_once(paths, decoded):
    parts = [np.array([3, 1, 3, 3]), np.array([3, 4]), np.array([3])]
    read = list(stream(paths).read_ahead(parts))
    assert sorted(decoded) == [1, 3, 4]
    whole = read_pictures(paths, SHAPE)
    for part, images in zip(parts, read, strict=True):
        np.testing.assert_array_equal(images, whole[part])


def test_all_bad_pictures_are_named(paths):
    for i in (3, 11):
        path = Path(paths[i])
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(BadImageError) as caught:
        stream(paths)[0:5]
    assert caught.value.indices == [3, 11]
    assert "2 of 20 images could not be read" in str(caught.value)
    assert all(repr(paths[i]) in str(caught.value) for i in (3, 11))


def test_of_very_many_bad_pictures_a_hundred_are_named(tmp_path):
    for i in range(130):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(BadImageError, match="at least 100 of 130") as caught:
        stream([tmp_path / f"{i}.png" for i in range(130)])[:]
    assert len(caught.value.indices) == 100


def test_files_are_hashed_by_content_and_reading(paths, tmp_path):
    copy = tmp_path / "copy.png"
    copy.write_bytes(Path(paths[0]).read_bytes())
    mixed = [paths[0], paths[1], str(copy), copy.read_bytes(), Image.open(paths[0])]
    digests, is_file = stream(mixed).hash_files(np.arange(5))
    assert is_file.tolist() == [True, True, True, True, False]
    assert digests[0].tolist() == digests[2].tolist() != digests[1].tolist()
    for other in ({"resize": "pad"}, {"fill": (0, 0, 0)}, {"max_value": 3.0}):
        changed, _ = stream(mixed, **other).hash_files(np.arange(1))
        assert changed[0].tolist() != digests[0].tolist()


def test_a_file_that_changes_after_it_was_hashed_is_an_error(paths):
    images = stream(paths)
    images.hash_files(np.arange(20))
    images[:]
    os.utime(paths[4], ns=(1, 1))
    with pytest.raises(BadImageError, match=r"image 4 .*has changed in the meantime"):
        images[:]


def test_large_pictures_wait_for_each_other(monkeypatch):
    budget = budgets.Budget(100)
    most, inside, lock = [0], [0], threading.Lock()

    def hold(n):
        with budget.hold(n):
            with lock:
                inside[0] += n
                most[0] = max(most[0], inside[0])
            threading.Event().wait(0.001)
            with lock:
                inside[0] -= n

    sizes = [30, 60, 20, 99, 10, 70] * 5
    threads = [threading.Thread(target=hold, args=(n,)) for n in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] <= 100


def test_a_picture_above_the_budget_is_decoded_alone():
    budget = budgets.Budget(100)
    with budget.hold(1_000):
        other = threading.Thread(target=lambda: budget.hold(1).__enter__())
        other.start()
        other.join(0.05)
        assert other.is_alive()
    other.join(10)
    assert not other.is_alive()
