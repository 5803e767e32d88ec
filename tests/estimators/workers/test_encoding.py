"""A cache that is warmed in shards, by loky's workers or one after the other."""

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from joblib import Parallel, delayed, parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from PIL import Image

from sktransfer import ActivationCache, ScratchCNNClassifier
from sktransfer._estimators.workers.encoding import Job
from sktransfer._estimators.workers.shards import cut_shards, take
from sktransfer._images.streams.lazy import ArrayStream
from sktransfer._processes.cores import count_threads
from sktransfer._training import probe
from sktransfer.datasets import BadImageError, LazyImages
from tests.estimators.workers.folders import (
    Deadly,
    extractor,
    of_every_kind,
    read_folder,
    write_pictures,
)
from tests.helpers import pictures, transfer


@pytest.fixture(autouse=True)
def _one_thread():
    with parallel_config("loky", inner_max_num_threads=1):
        yield


def warm_both(estimator, X, folder):
    """Warm a folder in this process, and another one over two workers."""
    alone = ActivationCache(path=folder / "alone").warm(estimator, X)
    shared = ActivationCache(path=folder / "shared").warm(estimator, X, n_jobs=2)
    assert read_folder(folder / "shared") == read_folder(folder / "alone")
    assert (shared.hits, shared.misses) == (alone.hits, alone.misses)
    assert shared.misses > 0
    return shared


@pytest.mark.parametrize("kind", of_every_kind())
def test_workers_compute_each_row_once_with_the_bits_of_one_process(kind, tmp_path):
    (tmp_path / "files").mkdir()
    paths = write_pictures(tmp_path / "files")
    estimator = of_every_kind()[kind]
    warm_both(estimator, paths, tmp_path)
    again = ActivationCache(path=tmp_path / "shared").warm(estimator, paths, n_jobs=2)
    assert (again.misses, again.hits) == (0, len(read_folder(tmp_path / "shared")))


def test_a_fit_computes_nothing_that_workers_have_encoded(tmp_path):
    X, y = pictures(60)
    ActivationCache(path=tmp_path / "cache").warm(transfer(), X, n_jobs=2)
    clf = transfer(activation_cache=tmp_path / "cache").fit(X, y)
    assert clf.cache_info_.misses == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.uint16])
def test_pixels_of_arrays_become_the_same_rows_in_workers(dtype, tmp_path):
    X = pictures(70)[0].astype(dtype)
    if dtype == np.float32:
        X /= 255
    white = 300 if dtype == np.uint16 else "auto"
    warm_both(transfer(max_value=white), X, tmp_path)


class Unpicklable:
    """An array that is not in memory, and that other processes cannot read."""

    def __init__(self, values):
        self.values, self.shape, self.dtype = values, values.shape, values.dtype

    def __getitem__(self, rows):
        return self.values[rows]

    def __reduce__(self):
        raise TypeError("an open file cannot be pickled")


def test_arrays_that_cannot_travel_are_read_in_the_callers_process(tmp_path):
    warm_both(transfer(), LazyImages(Unpicklable(pictures(70)[0])), tmp_path)


def test_pil_images_become_the_same_rows_in_workers(tmp_path):
    X, _ = pictures(40)
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side
    opened = []
    for i, pixels in enumerate(X):
        path = tmp_path / f"{i}.jpg"
        Image.fromarray(pixels[:6]).save(path, exif=exif)
        opened.append(Image.open(path))
    warm_both(extractor(), opened, tmp_path)


def test_pictures_of_a_dataset_become_the_same_rows_in_workers(tmp_path):
    X, y = pictures(40)
    records = list(zip(map(Image.fromarray, X), y, strict=True))
    warm_both(extractor(), LazyImages(records, column=0), tmp_path)


def test_the_views_of_a_probe_are_chosen_by_the_whole_set(tmp_path, monkeypatch):
    monkeypatch.setattr(probe, "MANY_IMAGES", 50)
    X, _ = pictures(60)
    fresh, images, seed = transfer(unfreeze_depth=0)._prepare_encoding(X)
    cache = ActivationCache(path=tmp_path / "cache")
    job = Job(fresh, len(images), seed, cache, "a")
    shards = cut_shards(images, 2)
    assert [some.stop - some.start for some in shards] == [32, 28]
    infos = [job.encode(take(images, some), cache) for some in shards]
    assert sum(info.misses for info in infos) == 60


def test_bad_pictures_are_left_out_before_shards_are_cut(tmp_path):
    (tmp_path / "files").mkdir()
    paths = write_pictures(tmp_path / "files")
    Path(paths[3]).write_bytes(b"no picture")
    estimator = transfer(on_bad_image="skip", unfreeze_depth=1)
    info = warm_both(estimator, paths, tmp_path)
    assert info.misses == 2 * 2 * 69


def test_a_picture_that_a_worker_cannot_read_has_its_place_in_the_whole_set(tmp_path):
    paths = write_pictures(tmp_path)
    cut = Path(paths[50])
    cut.write_bytes(cut.read_bytes()[:100])
    cache = ActivationCache(path=tmp_path / "cache")
    with pytest.raises(BadImageError, match=r"image 50 \(.*050\.png") as caught:
        cache.warm(extractor(), paths, n_jobs=2)
    assert caught.value.indices == [50]


def test_only_the_paths_of_a_shard_travel():
    paths = [f"folder/{i:06}.jpg" for i in range(100_000)]
    images = extractor()  # only for how it reads
    stream = make_stream(images, paths)
    shard = take(stream, slice(5000, 5512))
    assert len(shard) == 512
    assert len(pickle.dumps(shard)) < 512 * 100
    assert shard.pictures == paths[5000:5512]


def make_stream(estimator, paths):
    """A stream of pictures that nobody has to read."""
    from sktransfer._images.pictures.reading import Reading
    from sktransfer._images.streams.pictures import PictureStream

    return PictureStream(paths, Reading((8, 8, 3), **estimator._choose_reading()))


def test_only_the_pixels_of_a_shard_travel():
    X = np.zeros((1000, 8, 8, 3), np.uint8)
    for images in (X, ArrayStream(LazyImages(X), (8, 8, 3))):
        shard = take(images, slice(32, 64))
        assert len(pickle.dumps(shard)) < 32 * 8 * 8 * 3 + 500


@pytest.mark.parametrize(
    ("n", "shape", "sizes"),
    [
        (100, (8, 8, 3), {32, 4}),
        (40_000, (8, 8, 3), {1024, 64}),
        (3000, (512, 512, 3), {96, 24}),  # 75 MB
        (3, (5000, 5000, 3), {3}),
    ],
)
def test_shards_are_whole_batches_neither_small_nor_large(n, shape, sizes):
    images = np.broadcast_to(np.uint8(0), (n, *shape))
    shards = cut_shards(images, 2)
    assert {some.stop - some.start for some in shards} == sizes
    covered = np.concatenate([np.arange(n)[some] for some in shards])
    assert (covered == np.arange(n)).all()


@pytest.mark.skipif(os.name == "nt", reason="nothing kills without notice here")
def test_after_a_worker_was_killed_only_the_rest_is_computed(tmp_path):
    X, _ = pictures(64)
    images = LazyImages(Deadly(X, tmp_path))
    cache = ActivationCache(path=tmp_path / "cache")
    with pytest.raises(TerminatedWorkerError):
        cache.warm(transfer(), images, n_jobs=2)
    before = read_folder(tmp_path / "cache")
    assert before
    (tmp_path / "mercy").touch()
    info = cache.warm(transfer(), images, n_jobs=2)
    whole = ActivationCache(path=tmp_path / "alone").warm(transfer(), images)
    assert read_folder(tmp_path / "cache") == read_folder(tmp_path / "alone")
    assert info.misses == whole.misses - len(before)


def test_several_processes_need_a_cache_with_a_path():
    with pytest.raises(ValueError, match=r"memory alone.*path=\.\.\..*n_jobs=1"):
        ActivationCache().warm(transfer(), pictures(40)[0], n_jobs=2)


def test_threads_of_joblib_are_one_process_and_need_no_path():
    with parallel_config("threading", n_jobs=2):
        info = ActivationCache().warm(extractor(), pictures(40)[0])
    assert info.misses == 40


def test_parallel_config_chooses_the_workers_as_in_scikit_learn(tmp_path):
    with parallel_config("loky", n_jobs=2), pytest.raises(ValueError, match="memory"):
        ActivationCache().warm(extractor(), pictures(40)[0])


def test_an_estimator_without_frozen_stages_is_refused_before_workers_start():
    with pytest.raises(TypeError, match="no frozen stages"):
        ActivationCache().warm(ScratchCNNClassifier(), pictures(40)[0], n_jobs=2)


def test_a_second_set_is_encoded_after_the_folder_was_deleted_in_between(tmp_path):
    X, _ = pictures(64)
    for _ in range(2):
        cache = ActivationCache(path=tmp_path / "cache")
        assert cache.warm(extractor(), X, n_jobs=2).misses == 64
        cache.clear()


class Stuck:
    """A callback that stays where it is."""

    def __deepcopy__(self, memo):
        return self

    def __reduce__(self):
        raise TypeError("an open file cannot be pickled")


def test_callbacks_of_training_need_not_travel(tmp_path):
    held = transfer(callbacks=[("stuck", Stuck())])
    cache = ActivationCache(path=tmp_path / "cache")
    assert cache.warm(held, pictures(40)[0], n_jobs=2).misses > 0


def test_workers_decode_in_as_many_threads_as_joblib_allows_them():
    assert Parallel(2)(delayed(count_threads)() for _ in range(2)) == [1, 1]
