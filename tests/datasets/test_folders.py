"""Images are found in the folders of their classes, as paths or as arrays."""

import numpy as np
import pytest
from PIL import Image

from sktransfer import datasets
from tests.helpers import save_image


@pytest.fixture
def folder(tmp_path):
    save_image(tmp_path / "pets" / "dog" / "b.png", (0, 0, 255))
    save_image(tmp_path / "pets" / "cat" / "a.png", (255, 0, 0))
    save_image(tmp_path / "pets" / "cat" / "deep" / "c.PNG", (255, 0, 0))
    (tmp_path / "pets" / "cat" / "notes.txt").write_text("not an image")
    return tmp_path / "pets"


def test_a_folder_gives_paths_and_class_names_in_sorted_order(folder):
    found = datasets.load_image_folder(folder)
    assert found.target.tolist() == ["cat", "cat", "dog"]
    assert found.target_names == ["cat", "dog"]
    assert [name[-5:] for name in found.data] == ["a.png", "c.PNG", "b.png"]
    assert found.data == found.filenames


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


def test_a_class_without_images_is_no_target_name(folder):
    (folder / "empty").mkdir()
    found = datasets.load_image_folder(folder)
    assert found.target_names == ["cat", "dog"]


def test_a_folder_named_like_an_image_is_no_image(folder):
    (folder / "dog" / "album.png").mkdir()
    assert len(datasets.load_image_folder(folder).data) == 3


@pytest.mark.parametrize("ending", ["jpg", "jpeg", "png", "bmp", "gif", "tiff", "webp"])
def test_the_promised_formats_are_found_and_read(tmp_path, ending):
    save_image(tmp_path / "cat" / f"a.{ending}", (250, 0, 0))
    X = datasets.load_image_folder(tmp_path, as_arrays=True).data
    assert X.shape == (1, 32, 32, 3)
    assert X[0, 0, 0, 0] > 200


@pytest.mark.parametrize("image_size", [None, 8])
def test_grey_images_become_three_channels(tmp_path, image_size):
    (tmp_path / "cat").mkdir()
    Image.new("L", (16, 16), 7).save(tmp_path / "cat" / "a.png")
    X = datasets.load_image_folder(tmp_path, as_arrays=True, image_size=image_size).data
    assert X.shape[3] == 3
    assert np.all(X == 7)


@pytest.mark.parametrize("image_size", [0, (8, 8)])
def test_an_image_size_that_is_no_positive_integer_is_refused(folder, image_size):
    with pytest.raises(ValueError, match="must be a positive integer"):
        datasets.load_image_folder(folder, as_arrays=True, image_size=image_size)


@pytest.mark.parametrize("other", ["test", "val", "valid", "validation"])
def test_a_split_is_not_taken_for_classes(tmp_path, other):
    for part in ("train", other):
        (tmp_path / part / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"look like a split .* pass '.*train'"):
        datasets.load_image_folder(tmp_path)
