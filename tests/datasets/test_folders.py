"""Images are found in the folders of their classes, as paths or as arrays."""

import os
import sys

import numpy as np
import pytest
from PIL import Image

from sktransfer import datasets
from sktransfer._images.pictures import formats
from sktransfer._images.pictures.formats import ENDINGS, SUFFIXES
from sktransfer._images.pictures.reading import read_pictures, read_shape
from tests.helpers import save_image


@pytest.fixture
def folder(tmp_path):
    save_image(tmp_path / "pets" / "dog" / "b.png", (0, 0, 255))
    save_image(tmp_path / "pets" / "cat" / "a.png", (255, 0, 0))
    save_image(tmp_path / "pets" / "cat" / "deep" / "c.PNG", (255, 0, 0))
    return tmp_path / "pets"


def test_a_folder_gives_paths_and_class_names_in_sorted_order(folder):
    found = datasets.load_image_folder(folder)
    assert found.target.tolist() == ["cat", "cat", "dog"]
    assert found.target_names == ["cat", "dog"]
    assert [name[-5:] for name in found.data] == ["a.png", "c.PNG", "b.png"]
    assert found.data is found.filenames
    assert found.data[[True, False, True]].tolist() == found.data[[0, 2]].tolist()


def test_a_folder_gives_arrays_on_request(folder):
    X, y = datasets.load_image_folder(folder, as_arrays=True, return_X_y=True)
    assert X.dtype == np.uint8
    assert X.shape == (3, 32, 32, 3)
    assert X[2, 0, 0].tolist() == [0, 0, 255]
    assert y[2] == "dog"


def test_images_of_different_sizes_need_an_image_size(folder):
    save_image(folder / "dog" / "wide.png", (0, 0, 255), size=(40, 20))
    with pytest.raises(ValueError, match="image_size=None"):
        datasets.load_image_folder(folder, as_arrays=True)
    found = datasets.load_image_folder(folder, as_arrays=True, image_size=8)
    assert found.data.shape == (4, 8, 8, 3)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        datasets.load_image_folder(tmp_path / "nowhere")


def test_a_folder_without_images_is_refused(tmp_path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match="holds no images in class folders"):
        datasets.load_image_folder(tmp_path)


def test_a_folder_without_class_folders_is_refused(tmp_path):
    save_image(tmp_path / "loose.png", (0, 0, 0))
    with pytest.raises(ValueError, match="holds no class folders"):
        datasets.load_image_folder(tmp_path)


def test_hidden_names_are_neither_classes_nor_images(folder):
    save_image(folder / ".ipynb_checkpoints" / "a.png", (0, 0, 0))
    save_image(folder / "cat" / ".hidden" / "a.png", (0, 0, 0))
    (folder / "dog" / "._b.png").write_bytes(b"a file manager's notes")
    found = datasets.load_image_folder(folder)
    assert found.target_names == ["cat", "dog"]
    assert len(found.data) == 3


def test_a_class_without_images_is_named_and_no_target_name(folder):
    (folder / "empty").mkdir()
    with pytest.warns(UserWarning, match="1 class folder.* no images: 'empty'"):
        found = datasets.load_image_folder(folder)
    assert found.target_names == ["cat", "dog"]


def test_a_folder_named_like_an_image_is_no_image(folder):
    (folder / "dog" / "album.png").mkdir()
    assert len(datasets.load_image_folder(folder).data) == 3


@pytest.mark.parametrize("ending", SUFFIXES)
def test_the_promised_formats_are_found_and_read(folder, ending):
    assert format_of(ending) in formats.list_formats()
    file = folder / "dog" / f"c{ending.upper()}"
    Image.new("RGB", (32, 32), (250, 0, 0)).save(file, format=format_of(ending))
    found = datasets.load_image_folder(folder)
    assert found.data[-1] == str(file)
    pixels = read_pictures(found.data[-1:], (32, 32, 3))
    assert np.all(pixels[..., 0] > 200)


def format_of(ending):
    """Return Pillow's name of a format."""
    return next(name for name, endings in ENDINGS.items() if ending in endings)


@pytest.mark.parametrize("name", ["c", "c.jpg.1", "c.unknown"])
def test_the_content_decides_what_is_an_image(folder, name):
    Image.new("RGB", (32, 32)).save(folder / "dog" / name, format="JPEG")
    assert str(folder / "dog" / name) in datasets.load_image_folder(folder).data


@pytest.mark.parametrize(
    ("name", "content"),
    [("c.NEF", b"II*\0" + bytes(60)), ("P1.txt", b"P1 3 4 patients")],
)
def test_raw_files_and_texts_are_not_images(folder, name, content):
    (folder / "dog" / name).write_bytes(content)
    if name.endswith("NEF"):
        Image.new("RGB", (16, 16)).save(folder / "dog" / name, format="TIFF")
    with pytest.warns(UserWarning, match=f"1 file.* are not images: 'dog/{name}'"):
        assert len(datasets.load_image_folder(folder).data) == 3


def test_files_that_are_no_images_are_counted_and_the_first_few_named(folder):
    for i in range(7):
        (folder / "cat" / f"notes{i}.txt").write_text("not an image")
    (folder / "dog" / "Thumbs.db").write_bytes(b"a file manager's notes")
    os.mkfifo(folder / "dog" / "pipe")
    with pytest.warns(UserWarning, match="are not images") as caught:
        assert len(datasets.load_image_folder(folder).data) == 3
    (warning,) = caught
    message = str(warning.message)
    assert message.startswith(
        f"8 file(s) in {folder} are not images: 'cat/notes0.txt',"
    )
    assert message.endswith("'cat/notes4.txt' and 3 more.")


def test_linked_folders_are_followed_once(folder):
    save_image(folder.parent / "elsewhere" / "d.png", (0, 0, 0))
    (folder / "dog" / "linked").symlink_to(folder.parent / "elsewhere")
    (folder / "dog" / "again").symlink_to(folder.parent / "elsewhere")
    (folder / "dog" / "above").symlink_to(folder / "dog")
    (folder / "dog" / "top").symlink_to(folder)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "whole").symlink_to(folder.parent / "elsewhere")
    found = datasets.load_image_folder(folder)
    assert found.target.tolist() == ["cat", "cat", "dog", "dog", "whole"]


def test_names_that_look_the_same_are_one_class(folder):
    composed, decomposed = "cr\u00eape", "cre\u0302pe"
    for i, name in enumerate([composed, decomposed]):
        save_image(folder / name / f"{i}.png", (0, 0, 0))
    found = datasets.load_image_folder(folder)
    assert found.target_names == sorted(["cat", composed, "dog"])
    assert found.target.tolist().count(composed) == 2


def test_a_single_class_is_warned_about(tmp_path):
    save_image(tmp_path / "pets" / "cat" / "a.png", (0, 0, 0))
    with pytest.warns(UserWarning, match="of one class, 'pets'"):
        datasets.load_image_folder(tmp_path)


def test_the_home_folder_may_be_short(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder.parent))
    found = datasets.load_image_folder("~/pets")
    assert found.data[0] == str(folder / "cat" / "a.png")


@pytest.fixture
def no_heif(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    formats.list_formats.cache_clear()
    yield
    formats.list_formats.cache_clear()


@pytest.mark.usefixtures("no_heif")
def test_photographs_of_phones_need_a_package(folder):
    (folder / "dog" / "c.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    found = datasets.load_image_folder(folder)
    with pytest.raises(ValueError, match=r"c\.heic.* pip install 'sktransfer\[heif\]'"):
        read_shape(found.data)


@pytest.mark.parametrize("image_size", [None, 8])
def test_grey_images_become_three_channels(tmp_path, image_size):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        Image.new("L", (16, 16), 7).save(tmp_path / name / "a.png")
    X = datasets.load_image_folder(tmp_path, as_arrays=True, image_size=image_size).data
    assert X.shape[3] == 3
    assert np.all(X == 7)


@pytest.mark.parametrize("image_size", [0, (8, 8)])
def test_an_image_size_that_is_no_positive_integer_is_refused(folder, image_size):
    with pytest.raises(ValueError, match="must be a positive integer"):
        datasets.load_image_folder(folder, as_arrays=True, image_size=image_size)


@pytest.mark.parametrize("other", ["test", "Val", "valid", "validation", "dev"])
@pytest.mark.parametrize("train", ["train", "Training"])
def test_a_split_is_not_taken_for_classes(tmp_path, train, other):
    for part in (train, other):
        (tmp_path / part / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=rf"look like a split .* pass '.*{train}'"):
        datasets.load_image_folder(tmp_path)
