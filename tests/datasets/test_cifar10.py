"""CIFAR-10 is read from folders or from the official files, checked either way."""

import hashlib
import http.client
import pickle
import shutil
import subprocess
import sys
import tarfile
import urllib.error

import numpy as np
import pytest

from sktransfer import datasets
from sktransfer.datasets._cifar10 import CIFAR10_CLASSES
from tests.helpers import save_image


def test_cifar10_is_read_from_folders_of_images(tmp_path, monkeypatch):
    save_image(tmp_path / "cifar10" / "train" / "truck" / "0.png", (1, 2, 3))
    save_image(tmp_path / "cifar10" / "train" / "airplane" / "0.png", (4, 5, 6))
    save_image(tmp_path / "cifar10" / "test" / "frog" / "0.png", (7, 8, 9))
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


def test_cifar10_targets_are_int64(tmp_path):
    save_image(tmp_path / "cifar10" / "test" / "frog" / "0.png", (7, 8, 9))
    assert datasets.fetch_cifar10(tmp_path, subset="test").target.dtype == np.int64


def test_a_folder_that_is_no_class_of_cifar10_is_named(tmp_path):
    save_image(tmp_path / "cifar10" / "train" / "zebra" / "0.png", (1, 2, 3))
    with pytest.raises(ValueError, match="'zebra', which is not a class of CIFAR-10"):
        datasets.fetch_cifar10(tmp_path)


def test_an_empty_copy_of_cifar10_counts_as_missing(tmp_path):
    (tmp_path / "cifar10" / "train").mkdir(parents=True)
    with pytest.raises(OSError, match="CIFAR-10 not found"):
        datasets.fetch_cifar10(tmp_path, download_if_missing=False)


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
    with pytest.raises(OSError, match="`download_if_missing` is False") as caught:
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


def test_cifar10_with_a_cut_connection_gives_one_clear_error(tmp_path, monkeypatch):
    def cut(*args, **kwargs):
        raise http.client.IncompleteRead(b"half")

    monkeypatch.setattr("urllib.request.urlopen", cut)
    with pytest.raises(OSError, match="the download failed"):
        datasets.fetch_cifar10(tmp_path)


@pytest.fixture
def archive(tmp_path, monkeypatch):
    """Data home with an archive built like the official one, and its checksums."""
    from torchvision.datasets import CIFAR10

    inner = tmp_path / "made" / CIFAR10.base_folder
    inner.mkdir(parents=True)
    rows = np.repeat(np.array([[10, 20, 30]], np.uint8), 1024, axis=1)

    def put(name, content):
        (inner / name).write_bytes(pickle.dumps(content))
        return [name, hashlib.md5((inner / name).read_bytes()).hexdigest()]

    train = [put("data_batch_1", {"data": rows, "labels": [6]})]
    test = [put("test_batch", {"data": rows, "labels": [9]})]
    name, md5 = put("batches.meta", {"label_names": list(CIFAR10_CLASSES)})
    home = tmp_path / "home"
    home.mkdir()
    with tarfile.open(home / CIFAR10.filename, "w:gz") as packed:
        packed.add(inner, CIFAR10.base_folder)
    packed_md5 = hashlib.md5((home / CIFAR10.filename).read_bytes()).hexdigest()
    monkeypatch.setattr(CIFAR10, "train_list", train)
    monkeypatch.setattr(CIFAR10, "test_list", test)
    monkeypatch.setattr(
        CIFAR10, "meta", {"filename": name, "key": "label_names", "md5": md5}
    )
    monkeypatch.setattr(CIFAR10, "tgz_md5", packed_md5)

    def refuse(*args, **kwargs):
        raise urllib.error.URLError("connection refused")

    monkeypatch.setattr("urllib.request.urlopen", refuse)
    return home


def test_the_official_archive_is_read_without_a_connection(archive):
    X, y = datasets.fetch_cifar10(archive, subset="all", return_X_y=True)
    assert X.shape == (2, 32, 32, 3)
    assert X.dtype == np.uint8
    # The official files hold channels first: red 0..1023, then green, then blue.
    assert np.all(X == [10, 20, 30])
    assert y.tolist() == [6, 9]


def test_unpacked_official_files_need_no_download(archive):
    shutil.unpack_archive(archive / "cifar-10-python.tar.gz", archive)
    found = datasets.fetch_cifar10(archive, download_if_missing=False)
    assert found.target.tolist() == [6]


def test_an_official_file_with_a_wrong_checksum_is_refused(archive):
    datasets.fetch_cifar10(archive)
    batch = archive / "cifar-10-batches-py" / "data_batch_1"
    batch.write_bytes(batch.read_bytes() + b"x")
    with pytest.raises(OSError, match="or damaged"):
        datasets.fetch_cifar10(archive, download_if_missing=False)


def test_importing_datasets_does_not_import_torch():
    code = "import sys, sktransfer.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_an_unknown_subset_is_refused():
    with pytest.raises(ValueError, match="subset='val'"):
        datasets.fetch_cifar10(subset="val")
