import urllib.error

import numpy as np
import pytest
from PIL import Image

from sktransfer import datasets


def save(path, colour, size=(32, 32)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


@pytest.fixture
def folder(tmp_path):
    save(tmp_path / "pets" / "dog" / "b.png", (0, 0, 255))
    save(tmp_path / "pets" / "cat" / "a.png", (255, 0, 0))
    save(tmp_path / "pets" / "cat" / "deep" / "c.PNG", (255, 0, 0))
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
    save(folder / "dog" / "wide.png", (0, 0, 255), size=(40, 20))
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


def test_cifar10_is_read_from_folders_of_images(tmp_path, monkeypatch):
    save(tmp_path / "cifar10" / "train" / "truck" / "0.png", (1, 2, 3))
    save(tmp_path / "cifar10" / "train" / "airplane" / "0.png", (4, 5, 6))
    save(tmp_path / "cifar10" / "test" / "frog" / "0.png", (7, 8, 9))
    monkeypatch.setenv("SKTRANSFER_DATA", str(tmp_path))
    found = datasets.fetch_cifar10(subset="all")
    assert found.data.shape == (3, 32, 32, 3)
    assert [found.target_names[i] for i in found.target] == [
        "airplane",
        "truck",
        "frog",
    ]
    X, y = datasets.fetch_cifar10(tmp_path, subset="test", return_X_y=True)
    assert X[0, 0, 0].tolist() == [7, 8, 9]
    assert y.tolist() == [6]


def test_cifar10_falls_back_on_the_official_files(tmp_path, monkeypatch):
    class Official:
        url = "https://example.org/cifar-10.tar.gz"

        def __init__(self, root, train, download):
            assert root == str(tmp_path)
            self.data = np.full((2 if train else 1, 32, 32, 3), 9, np.uint8)
            self.targets = [3] * len(self.data)

    monkeypatch.setattr("torchvision.datasets.CIFAR10", Official)
    X, y = datasets.fetch_cifar10(tmp_path, return_X_y=True)
    assert X.shape == (2, 32, 32, 3)
    assert y.tolist() == [3, 3]


def test_cifar10_without_download_says_where_it_looked(tmp_path):
    with pytest.raises(OSError, match="download_if_missing=False") as caught:
        datasets.fetch_cifar10(tmp_path, download_if_missing=False)
    assert str(tmp_path) in str(caught.value)
    assert "https://" in str(caught.value)


def test_cifar10_with_a_refused_connection_gives_one_clear_error(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("connection refused")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    with pytest.raises(OSError, match="SKTRANSFER_DATA") as caught:
        datasets.fetch_cifar10(tmp_path)
    assert "cifar-10-python.tar.gz" in str(caught.value)


def test_an_unknown_subset_is_refused():
    with pytest.raises(ValueError, match="subset='val'"):
        datasets.fetch_cifar10(subset="val")
