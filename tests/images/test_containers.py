"""What X holds is recognised by its container; what cannot be used is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sktransfer._images.containers import (
    is_pictures,
    list_pictures,
    refuse_a_single_image,
    refuse_bad_container,
)


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
