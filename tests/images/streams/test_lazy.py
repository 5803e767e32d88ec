"""Lazy images are indexed without being read, and read in any order."""

import threading

import numpy as np
import pandas
import pytest
from PIL import Image

from sktransfer._images.containers import list_pictures
from sktransfer._images.levels import rescale
from sktransfer._images.pictures.reading import Reading
from sktransfer._images.streams.lazy import ArrayStream
from sktransfer._images.streams.pictures import PictureStream
from sktransfer.datasets import LazyImages


class Store:
    """An array that takes slices alone, as the strictest files do."""

    def __init__(self, values):
        self.values, self.n_read = values, 0
        self.shape, self.dtype = values.shape, values.dtype

    def __len__(self):
        return len(self.values)

    def __getitem__(self, key):
        assert isinstance(key, slice)
        read = self.values[key]
        self.n_read += len(read)
        return read


@pytest.fixture
def values():
    return np.random.default_rng(0).integers(0, 256, (12, 3, 4, 3), dtype=np.uint8)


def test_indexing_reads_nothing(values):
    store = Store(values)
    images = LazyImages(store)
    some = images[np.array([5, 3, 9])][[2, 0]]
    assert some.shape == (2, 3, 4, 3)
    assert images[2:5].shape == (3, 3, 4, 3)
    assert images[np.arange(12) % 2 == 0, ...].shape == (6, 3, 4, 3)
    assert store.n_read == 0
    np.testing.assert_array_equal(np.asarray(some), values[[9, 5]])


def test_rows_are_read_in_any_order_and_each_once(values):
    store = Store(values)
    rows = np.array([7, 2, 3, 7, 11, 4])
    np.testing.assert_array_equal(LazyImages(store).read(rows), values[rows])
    assert store.n_read == 5
    assert LazyImages(store).read(np.arange(0)).shape == (0, 3, 4, 3)


def test_a_single_image_is_what_the_source_holds(values):
    np.testing.assert_array_equal(LazyImages(values)[-1], values[-1])
    with pytest.raises(IndexError):
        LazyImages(values)[12]


@pytest.mark.parametrize("max_value", ["auto", 255, 65535, 9.0])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64])
def test_a_stream_is_scaled_as_arrays_are(values, dtype, max_value):
    whole = values.astype(dtype)
    stream = ArrayStream(LazyImages(Store(whole)), (3, 4, 3), max_value)
    wanted = rescale(whole, max_value)
    parts = [slice(0, 5), np.array([11, 0])]
    for part, read in zip(parts, stream.read_ahead(parts), strict=True):
        np.testing.assert_array_equal(read, wanted[part])
        assert read.dtype == wanted.dtype == stream.dtype
    np.testing.assert_array_equal(stream[3], wanted[3])


def test_rows_of_pixels_become_images(values):
    flat = values.reshape(12, -1)
    stream = ArrayStream(LazyImages(Store(flat)), (3, 4, 3))
    np.testing.assert_array_equal(stream[np.arange(12)], values)


def test_pictures_of_a_dataset_are_fetched_one_by_one(values):
    fetched = []

    class Dataset:
        def __len__(self):
            return 12

        def __getitem__(self, index):
            fetched.append(index)
            return Image.fromarray(values[index]), index % 2

    images = LazyImages(Dataset(), column=0)[[3, 4]]
    assert images.shape == (2,)
    assert images.dtype == object
    assert fetched == []
    pictures = list_pictures(images)
    np.testing.assert_array_equal(np.asarray(pictures[1]), values[4])
    assert fetched == [4]
    with pytest.raises(TypeError, match=r"X\[0\] is a tuple; name .*column=0"):
        list_pictures(LazyImages(Dataset()))[0]


def test_arrays_of_different_sizes_are_pictures(values):
    pictures = list_pictures(LazyImages([values[0], values[1, :2], values[2, ..., :1]]))
    assert [picture.size for picture in pictures] == [(4, 3), (4, 2), (4, 3)]
    assert [picture.mode for picture in pictures] == ["RGB", "RGB", "L"]
    with pytest.raises(TypeError, match=r"X\[0\] holds float64, .* must be uint8"):
        list_pictures(LazyImages([values[0] / 255]))[0]


def test_arrays_without_a_length_have_a_shape(values):
    class Zarr(Store):
        __len__ = None

    images = LazyImages(Zarr(values))
    assert images[[3, 1]].shape == (2, 3, 4, 3)
    np.testing.assert_array_equal(images.read(np.array([3, 1])), values[[3, 1]])


def test_a_series_is_indexed_by_position():
    column = pandas.Series(["a.png", "b.png", "c.png"], index=[2, 0, 1])
    assert list(list_pictures(LazyImages(column))) == ["a.png", "b.png", "c.png"]
    with pytest.raises(TypeError, match="DataFrame, which cannot be indexed"):
        LazyImages(column.to_frame())


def test_only_images_are_indexed(values):
    with pytest.raises(IndexError, match="positions of images"):
        LazyImages(values)[:, 0]


def test_datasets_are_read_by_one_thread_at_a_time(values):
    class Dataset:
        place = None

        def __len__(self):
            return 200

        def __getitem__(self, index):
            self.place = index  # as of a file that threads share
            threading.Event().wait(0.0005)
            return Image.fromarray(values[self.place % 12])

    images = list_pictures(LazyImages(Dataset()))
    read = PictureStream(images, Reading((3, 4, 3)))[:]
    np.testing.assert_array_equal(read, values[np.arange(200) % 12])


def test_what_cannot_be_indexed_is_refused():
    with pytest.raises(TypeError, match="source is a generator, which cannot"):
        LazyImages(image for image in [])
