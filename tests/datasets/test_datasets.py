import hashlib
import http.client
import pickle
import subprocess
import sys
import tarfile
import urllib.error

import numpy as np
import pytest
from PIL import Image

from sktransfer import datasets
from sktransfer.datasets._cifar10 import CIFAR10_CLASSES


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


def test_a_folder_without_class_folders_is_refused(tmp_path):
    save(tmp_path / "loose.png", (0, 0, 0))
    with pytest.raises(ValueError, match="holds no class folders"):
        datasets.load_image_folder(tmp_path)


def test_hidden_names_are_neither_classes_nor_images(folder):
    save(folder / ".ipynb_checkpoints" / "a.png", (0, 0, 0))
    save(folder / "cat" / ".hidden" / "a.png", (0, 0, 0))
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
    save(tmp_path / "cat" / f"a.{ending}", (250, 0, 0))
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


def test_cifar10_targets_are_int64(tmp_path):
    save(tmp_path / "cifar10" / "test" / "frog" / "0.png", (7, 8, 9))
    assert datasets.fetch_cifar10(tmp_path, subset="test").target.dtype == np.int64


def test_a_folder_that_is_no_class_of_cifar10_is_named(tmp_path):
    save(tmp_path / "cifar10" / "train" / "zebra" / "0.png", (1, 2, 3))
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
    with tarfile.open(archive / "cifar-10-python.tar.gz") as packed:
        packed.extractall(archive, filter="data")
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


def test_a_split_is_not_taken_for_classes(tmp_path):
    for part in ("train", "test"):
        (tmp_path / part / "cat").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"look like a split .* pass '.*train'"):
        datasets.load_image_folder(tmp_path)


def test_shapes_are_colour_images_with_their_names_as_labels():
    shapes = datasets.make_shapes(9, image_size=16, n_classes=3, random_state=0)
    assert shapes.data.shape == (9, 16, 16, 3)
    assert shapes.data.dtype == np.uint8
    assert shapes.target.dtype.kind == "U"
    assert shapes.target_names == ["circle", "square", "triangle"]
    assert "9 drawn images of 3" in shapes.DESCR
    X, y = datasets.make_shapes(
        9, image_size=16, n_classes=3, random_state=0, return_X_y=True
    )
    assert np.array_equal(X, shapes.data)
    assert np.array_equal(y, shapes.target)


@pytest.mark.parametrize("n_classes", [2, 8])
def test_shapes_are_equally_frequent_but_for_one_image(n_classes):
    y = datasets.make_shapes(n_classes * 2 + 1, n_classes=n_classes).target
    names, counts = np.unique(y, return_counts=True)
    assert len(names) == n_classes
    assert sorted(counts) == [2] * (n_classes - 1) + [3]


def test_the_same_seed_draws_the_same_shapes_and_another_seed_others():
    first, same, other = (datasets.make_shapes(20, random_state=s) for s in (0, 0, 1))
    assert np.array_equal(first.data, same.data)
    assert first.target.tolist() == same.target.tolist()
    assert not np.array_equal(first.data, other.data)
    assert first.target.tolist() != other.target.tolist()


def test_a_shape_without_noise_is_one_colour_whole_inside_its_background():
    X, y = datasets.make_shapes(
        64, n_classes=8, noise=0, random_state=0, return_X_y=True
    )
    for image, name in zip(X.astype(int), y, strict=True):
        background = image[0, 0]
        covered = np.any(image != background, axis=2)
        # Wholly covered pixels differ by a quarter of full brightness everywhere.
        colours = np.unique(image[covered], axis=0, return_counts=True)
        shape = colours[0][colours[1].argmax()]
        assert np.all(np.abs(shape - background) >= 64), name
        assert 0.02 < covered.mean() < 0.7, name


def test_a_ring_has_a_hole_and_a_circle_has_none():
    X, y = datasets.make_shapes(
        40, image_size=64, n_classes=5, noise=0, random_state=0, return_X_y=True
    )
    for image, name in zip(X, y, strict=True):
        rows, columns = np.nonzero(np.any(image != image[0, 0], axis=2))
        middle = image[round(rows.mean()), round(columns.mean())]
        assert np.array_equal(middle, image[0, 0]) == (name == "ring")


def test_noise_is_a_share_of_full_brightness():
    X = datasets.make_shapes(200, noise=0.05, random_state=0).data
    corners = X[:, 0, 0].astype(float) - X[:, 0, 1]
    # Of two pixels of the same background; a few clip, or touch the shape.
    assert np.median(np.abs(corners)) == pytest.approx(
        0.6745 * 2**0.5 * 0.05 * 255, rel=0.15
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_samples": 3}, "n_samples=3 must be at least n_classes=4"),
        ({"n_samples": 0}, "'n_samples' parameter of make_shapes"),
        ({"image_size": 7}, "'image_size' parameter of make_shapes"),
        ({"image_size": 16.0}, "'image_size' parameter of make_shapes"),
        ({"n_classes": 1}, r"n_classes.*range \[2, 8\]. Got 1"),
        ({"n_classes": 9}, r"n_classes.*range \[2, 8\]. Got 9"),
        ({"noise": -0.1}, "'noise' parameter of make_shapes"),
        ({"noise": 1.1}, "'noise' parameter of make_shapes"),
        ({"random_state": "seed"}, "'random_state' parameter of make_shapes"),
    ],
)
def test_shapes_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        datasets.make_shapes(**options)
