"""What X holds is recognised by its container; what cannot be used is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from PIL import Image

from sktransfer._images.containers import (
    is_pictures,
    list_pictures,
    refuse_a_single_image,
    refuse_bad_container,
    unpack,
)
from sktransfer._images.pictures.reading import read_shape
from sktransfer._images.streams.lazy import LazyImages


class NotAnArray:
    def __array__(self, dtype=None, copy=None):
        raise AssertionError("was converted")

    def __array_function__(self, func, types, args, kwargs):
        raise TypeError("was handed to NumPy")


@pytest.mark.parametrize(
    "X",
    [
        ["a.png"],
        (Path("a.png"),),
        [Image.new("L", (2, 2))],
        np.array(["a.png", "b.png"]),
        np.array([["a.png"], ["b.png"]], dtype=object),
    ],
    ids=["str", "Path", "PIL", "str array", "object column"],
)
def test_paths_and_pil_images_are_pictures(X):
    assert is_pictures(X)
    assert len(list_pictures(X)) == len(X)


@pytest.mark.parametrize("kind", ["Series", "DataFrame"])
def test_pandas_paths_are_pictures_whatever_their_index(kind):
    pandas = pytest.importorskip("pandas")
    X = getattr(pandas, kind)({7: "a.png", 3: "b.png"}.values(), index=[7, 3])
    assert is_pictures(X)
    assert list_pictures(X) == ["a.png", "b.png"]


@pytest.mark.parametrize(
    "X",
    [
        [],
        [[0.0, 1.0]],
        np.zeros((3, 4)),
        np.array([1, 2], dtype=object),
        np.array([["a", "b"]]),
        np.array([], dtype=object),
        NotAnArray(),
        None,
    ],
    ids=["empty", "rows", "floats", "objects", "wide", "none", "foreign", "None"],
)
def test_everything_else_is_not_pictures(X):
    assert not is_pictures(X)


def test_numeric_wide_and_empty_frames_are_not_pictures():
    pandas = pytest.importorskip("pandas")
    assert not is_pictures(pandas.DataFrame({"a": [1.0]}))
    assert not is_pictures(pandas.DataFrame({"a": ["x"], "b": ["y"]}))
    assert not is_pictures(pandas.Series([], dtype=object))


def test_a_stray_element_is_named_by_its_index():
    with pytest.raises(TypeError, match=r"X\[2\].*float"):
        list_pictures(["a.png", Path("b.png"), 3.0])


@pytest.mark.parametrize("url", ["http://a/b.png", "HTTPS://a/b.png", "file:///b.png"])
def test_urls_are_refused(url):
    with pytest.raises(ValueError, match=r"X\[1\].*URLs are not fetched"):
        list_pictures(["a.png", url])


@pytest.mark.parametrize("X", [["a.png"], np.zeros((2, 4)), [[0.0], [1.0]], None])
def test_paths_arrays_and_rows_are_not_refused(X):
    refuse_bad_container(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("a.png", r"X is a single str; .*load_image_folder"),
        (Image.new("L", (2, 2)), "X is a single Image; pass a list"),
        (iter(["a.png"]), r"X is a list_iterator; pass a list, such as list\(X\)"),
        ({"a.png": 1}, "X is a dict; pass a list"),
        ([b"JPEG"], r"X\[0\] is the content of a file; .*BytesIO\(X\[0\]\)"),
    ],
    ids=["path", "image", "iterator", "dict", "bytes"],
)
def test_what_cannot_be_indexed_as_images_is_refused(X, message):
    with pytest.raises(TypeError, match=message):
        refuse_bad_container(X)


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ([], r"X is an empty list: 0 sample\(s\); pass at least one image"),
        (
            [np.zeros((2, 2)), np.zeros((3, 2))],
            r"X\[1\] has shape \(3, 2\), but X\[0\] has \(2, 2\); give all arrays the",
        ),
    ],
    ids=["empty", "several shapes"],
)
def test_a_list_that_is_empty_or_of_several_shapes_is_refused(X, message):
    with pytest.raises(ValueError, match=message):
        refuse_bad_container(X)


def test_a_frame_with_more_than_the_pictures_names_their_column():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"label": [1, 0], "path": ["a.png", "b.png"]})
    with pytest.raises(ValueError, match=r"'path' holds str; .*alone, X\['path'\]"):
        refuse_bad_container(frame)


@pytest.mark.parametrize("n_channels", [3, 4])
def test_one_colour_image_is_known_by_its_number_of_labels(n_channels):
    image = np.zeros((8, 9, n_channels))
    with pytest.raises(ValueError, match=r"with 1 label.* single colour image"):
        refuse_a_single_image(image, ["cat"])
    refuse_a_single_image(image, ["cat"] * 8)
    refuse_a_single_image(image, None)


def column(kind, values):
    """Make a container of one column."""
    if kind in (list, tuple):
        return kind(values)
    if kind == "array":
        array = np.empty(len(values), object)
        array[:] = values
        return array
    pandas = pytest.importorskip("pandas")
    return pandas.Series(values, dtype=object)


@pytest.mark.parametrize("missing", [None, np.nan])
@pytest.mark.parametrize("kind", [list, "array", "series"])
def test_a_missing_first_element_is_named(kind, missing):
    X = column(kind, [missing, "a.png", Path("b.png")])
    assert is_pictures(X)
    with pytest.raises(ValueError, match=r"X\[0\] is missing \((None|nan)\)"):
        list_pictures(X)


def test_a_missing_value_of_pandas_is_named():
    pandas = pytest.importorskip("pandas")
    X = pandas.Series(["a.png", None], dtype="string")
    with pytest.raises(ValueError, match=r"X\[1\] is missing \(<NA>\)"):
        list_pictures(X)


@pytest.mark.parametrize("kind", ["array", "series"])
def test_arrays_in_a_column_become_one_array(kind):
    arrays = list(np.arange(24).reshape(2, 2, 2, 3))
    np.testing.assert_array_equal(unpack(column(kind, arrays)), np.stack(arrays))
    with pytest.raises(ValueError, match=r"X\[1\] has shape \(2, 2\), but X\[0\]"):
        unpack(column(kind, [arrays[0], arrays[1][0, :, :2]]))


def test_tensors_become_arrays():
    images = torch.rand(4, 8, 9, 3, requires_grad=True)
    expected = images.detach().numpy()
    assert np.array_equal(unpack(images), expected)
    assert np.array_equal(unpack(list(images)), expected)


def test_tensors_with_channels_first_are_refused_in_the_words_of_torch():
    images = torch.rand(4, 3, 8, 9)
    with pytest.raises(ValueError, match=r"pass tensor\.permute\(0, 2, 3, 1\)"):
        unpack(images)
    with pytest.raises(ValueError, match=r"pass tensor\.permute\(1, 2, 0\)"):
        unpack(list(images))


def test_records_with_bytes_or_a_path_are_pictures(tmp_path):
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    X = [
        {"bytes": None, "path": str(tmp_path / "a.png")},
        {"bytes": (tmp_path / "a.png").read_bytes(), "path": None},
    ]
    assert is_pictures(X)
    pictures = list_pictures(X)
    assert pictures == [X[0]["path"], X[1]["bytes"]]
    assert read_shape(pictures) == (2, 3, 3)
    with pytest.raises(ValueError, match=r"image 1 \(4 bytes\) could not be read: its"):
        read_shape(list_pictures([X[0], {"bytes": b"text", "path": None}]))


class Column(Sequence):
    """As of a Hugging Face dataset."""

    def __init__(self, values):
        self.values = values

    def __len__(self):
        return len(self.values)

    def __getitem__(self, index):
        return self.values[index]


Column.__module__ = "datasets.arrow_dataset"


def test_a_column_of_hugging_face_is_read_when_needed():
    images = unpack(Column(["a.png", "b.png"]))
    assert isinstance(images, LazyImages)
    assert is_pictures(images)
    assert list(list_pictures(images)) == ["a.png", "b.png"]
    assert unpack(Column([1, 2])) == [1, 2]


def test_a_whole_hugging_face_dataset_is_refused():
    class Dataset:
        column_names, features = ["image", "label"], {}

    message = r"a Dataset.* columns \('image', 'label'\), such as X\['image'\]"
    with pytest.raises(TypeError, match=message):
        refuse_bad_container(Dataset())


def test_torchvision_datasets_and_loaders_are_refused_with_the_conversion(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
    folder = torchvision.datasets.ImageFolder(tmp_path)
    with pytest.raises(TypeError, match=r"ImageFolder.* for path, _ in X\.samples\]"):
        refuse_bad_container(folder)
    assert is_pictures([path for path, _ in folder.samples])
    drawn = torchvision.datasets.FakeData(2, (3, 4, 4))
    with pytest.raises(TypeError, match=r"FakeData.*LazyImages\(X, column=0\)"):
        refuse_bad_container(drawn)
    assert read_shape(list_pictures(LazyImages(drawn, column=0))) == (4, 4, 3)
    loader = torch.utils.data.DataLoader(folder)
    with pytest.raises(TypeError, match=r"DataLoader.* in batches"):
        refuse_bad_container(loader)
