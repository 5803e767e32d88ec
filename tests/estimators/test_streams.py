"""Images that are read when needed give the same numbers as an array of them."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.model_selection import GridSearchCV, cross_val_score

from sktransfer import ActivationCache, ResNetFeatureExtractor
from sktransfer._images.streams import spool
from sktransfer.datasets import BadImageError, LazyImages, check_images
from tests.helpers import pictures, scratch, transfer


@pytest.fixture
def folder(tmp_path):
    """Write images without loss; return the array, the paths and the labels."""
    X, y = pictures()
    for i, image in enumerate(X):
        Image.fromarray(image).save(tmp_path / f"{i:02}.png")
    return X, np.array(sorted(map(str, tmp_path.glob("*.png")))), y


def cached(**changes):
    """A classifier with frozen stages and a cache of its own."""
    return transfer(**{"activation_cache": ActivationCache(), **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"augment": "advanced"},
        {"activation_cache": None},
        {"head_init": "random", "augment": None},
        {"unfreeze_depth": 5},
        {"mixup": 0.3},
        {"tta": "flip_shift"},
    ],
)
def test_transfer_on_paths_is_transfer_on_the_array(folder, changes):
    X, paths, y = folder
    on_array = cached(**changes).fit(X, y).predict_proba(X)
    on_paths = cached(**changes).fit(paths, y).predict_proba(paths)
    np.testing.assert_array_equal(on_paths, on_array)
    lazy = LazyImages(X)
    on_lazy = cached(**changes).fit(lazy, y).predict_proba(lazy)
    np.testing.assert_array_equal(on_lazy, on_array)


@pytest.mark.parametrize("in_memory", [True, False])
def test_scratch_on_paths_is_scratch_on_the_array(folder, in_memory, monkeypatch):
    X, paths, y = folder
    if not in_memory:
        monkeypatch.setattr(spool, "BYTES_IN_MEMORY", 0)
    on_array = scratch().fit(X, y).predict_proba(X)
    np.testing.assert_array_equal(scratch().fit(paths, y).predict_proba(X), on_array)
    lazy = LazyImages(X)
    on_lazy = scratch().fit(lazy, y, X_val=lazy[:9], y_val=y[:9]).predict_proba(lazy)
    with_array = scratch().fit(X, y, X_val=X[:9], y_val=y[:9]).predict_proba(X)
    np.testing.assert_array_equal(on_lazy, with_array)


def test_floats_on_another_scale_are_the_same_when_lazy():
    X, y = pictures()
    X = 40.0 * X
    settings = {"max_value": 10_200}
    on_array = transfer(**settings).fit(X, y).predict_proba(X)
    lazy = LazyImages(X)
    on_lazy = transfer(**settings).fit(lazy, y).predict_proba(lazy)
    np.testing.assert_array_equal(on_lazy, on_array)


def test_lazy_arrays_are_judged_as_others_are():
    X, y = pictures()
    with pytest.warns(UserWarning, match="values up to"):
        transfer().fit(LazyImages(X.astype(float)), y)
    X = X / 255
    X[7, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match=r"NaN or infinity in 1 .*X\[7\]"):
        transfer().fit(LazyImages(X), y)
    with pytest.raises(ValueError, match="y to be passed"):
        transfer().fit(LazyImages(X), None)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        transfer().fit(LazyImages(X), y[1:])
    with pytest.raises(TypeError, match="no type of pixels"):
        transfer().fit(LazyImages(X.astype(complex)), y)


def test_frozen_stages_have_every_picture_decoded_once(folder, decoded):
    _, paths, y = folder
    cache = ActivationCache()
    fitted = transfer(activation_cache=cache, max_epochs=4).fit(paths, y)
    assert sorted(decoded) == list(range(45))
    decoded.clear()
    fitted.predict(paths)
    transfer(activation_cache=cache, random_state=1).fit(paths, y)
    cross_val_score(transfer(activation_cache=cache), paths, y, cv=3)
    assert decoded == []


@pytest.mark.parametrize(
    "classifier",
    [
        scratch(max_epochs=4),
        transfer(augment="advanced", max_epochs=4),
        transfer(activation_cache=None, max_epochs=4),
        transfer(unfreeze_depth=5),
    ],
)
def test_learning_stages_have_every_picture_decoded_once_too(
    folder, decoded, classifier
):
    _, paths, y = folder
    if classifier.get_params().get("activation_cache") == "auto":
        classifier.set_params(activation_cache=ActivationCache())
    classifier.fit(paths, y)
    assert sorted(decoded) == list(range(45))


def test_memory_maps_are_not_copied(tmp_path, monkeypatch):
    X, y = pictures()
    np.save(tmp_path / "X.npy", X)
    mapped = LazyImages(np.load(tmp_path / "X.npy", mmap_mode="r"))
    monkeypatch.setattr(spool.Spool, "fill", None)
    on_map = scratch().fit(mapped, y).predict_proba(mapped)
    np.testing.assert_array_equal(on_map, scratch().fit(X, y).predict_proba(X))


def test_a_search_indexes_lazy_images_without_reading_them(folder):
    X, _, y = folder
    search = GridSearchCV(transfer(), {"unfreeze_depth": [0, 1]}, cv=3)
    on_array = search.fit(X, y).cv_results_["mean_test_score"]
    on_lazy = search.fit(LazyImages(X), y).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(on_lazy, on_array)


def test_features_of_lazy_pictures_of_a_dataset(folder):
    X, paths, _ = folder

    class Dataset:
        def __len__(self):
            return len(paths)

        def __getitem__(self, index):
            return {"image": Image.open(paths[index]), "label": 0}

    settings = {"image_size": 8, "activation_cache": ActivationCache()}
    extractor = ResNetFeatureExtractor("mini_resnet18", **settings)
    lazy = LazyImages(Dataset(), column="image")
    on_lazy = extractor.fit_transform(lazy)
    np.testing.assert_array_equal(on_lazy, extractor.fit_transform(X))


def break_files(paths, *indices):
    for i in indices:
        content = Path(paths[i]).read_bytes()
        Path(paths[i]).write_bytes(content[: len(content) // 2])


@pytest.mark.parametrize("make", [transfer, scratch])
def test_bad_pictures_are_all_named(folder, make):
    _, paths, y = folder
    break_files(paths, 4, 40)
    message = "(?s)2 of 45 images could not .*on_bad_image='warn' or 'skip'"
    with pytest.raises(BadImageError, match=message) as caught:
        make().fit(paths, y)
    assert caught.value.indices == [4, 40]


@pytest.mark.parametrize("make", [transfer, scratch])
def test_bad_pictures_can_be_left_out(folder, make):
    X, paths, y = folder
    break_files(paths, 4, 40)
    weights = np.linspace(1, 2, 45)
    good = np.delete(np.arange(45), [4, 40])
    wanted = make().fit(X[good], y[good], weights[good]).predict_proba(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        skipping = make(on_bad_image="skip").fit(paths, y, weights)
    assert skipping.bad_images_.tolist() == [4, 40]
    np.testing.assert_array_equal(skipping.predict_proba(X), wanted)
    with pytest.warns(UserWarning, match=r"(?s)^2 of 45 images of X were .*image 4 "):
        make(on_bad_image="warn").fit(list(paths), list(y), weights)
    assert not hasattr(make().fit(paths[good], y[good]), "bad_images_")


def test_bad_pictures_of_the_validation_set_can_be_left_out(folder):
    X, paths, y = folder
    break_files(paths, 1)
    fitted = scratch(on_bad_image="skip")
    fitted.fit(X, y, X_val=paths[:9], y_val=y[:9], sample_weight_val=np.ones(9))
    wanted = scratch().fit(X, y, X_val=X[[0, *range(2, 9)]], y_val=y[[0, *range(2, 9)]])
    assert fitted.history_[-1]["valid_loss"] == wanted.history_[-1]["valid_loss"]


def test_what_is_left_out_is_checked_before(folder):
    _, paths, y = folder
    break_files(paths, 4)
    skipping = scratch(on_bad_image="skip")
    skipping.fit(paths, y, sample_weight=1.0)
    with pytest.raises(ValueError, match="inconsistent numbers"):
        skipping.fit(paths, y[1:])
    break_files(paths, *range(45))
    with pytest.raises(BadImageError, match="45 of 45 images could not be read"):
        skipping.fit(paths, y)


def test_a_cache_is_warmed_without_bad_pictures(folder):
    _, paths, _ = folder
    break_files(paths, 4)
    skipping = transfer(on_bad_image="skip")
    assert ActivationCache().warm(skipping, paths).misses > 0


def test_errors_of_a_validation_set_say_so(folder, tmp_path):
    X, paths, y = folder
    break_files(paths, 3)
    for classifier in (scratch(), cached()):
        with pytest.raises(BadImageError, match=r"^X_val: image 3 ") as caught:
            classifier.fit(X, y, X_val=paths[:9], y_val=y[:9])
        assert caught.value.indices == [3]
    (tmp_path / "00.png").write_bytes(b"text")
    with pytest.raises(BadImageError, match="2 of 45 images could not") as caught:
        scratch().fit(paths, y)
    assert caught.value.indices == [0, 3]


def test_pixels_are_kept_if_activations_find_no_room(folder, decoded):
    _, paths, y = folder
    cache = ActivationCache(max_bytes=1000)
    transfer(activation_cache=cache, max_epochs=9).fit(paths, y)
    assert len(decoded) <= 3 * 45


def test_predictions_decode_each_picture_once(folder, decoded):
    X, paths, y = folder
    for changes in ({"tta": "flip_shift"}, {"unfreeze_depth": 5, "tta": "flip"}):
        fitted = transfer(activation_cache=None, **changes).fit(X, y)
        fitted.predict(paths)
        assert sorted(decoded) == list(range(45))
        decoded.clear()


def test_a_file_that_is_replaced_during_a_fit_is_an_error(folder, monkeypatch):
    _, paths, y = folder
    fill = spool.Spool.fill

    def fill_and_replace(self, advance):
        fill(self, advance)
        Path(paths[0]).write_bytes(Path(paths[1]).read_bytes() + b" ")

    monkeypatch.setattr(spool.Spool, "fill", fill_and_replace)
    with pytest.raises(BadImageError, match=r"image 0 .* has changed"):
        cached(unfreeze_depth=5).fit(paths, y)


class Broken:
    """A dataset that decodes by itself, and fails at one image."""

    def __init__(self, paths, bad):
        self.paths, self.bad = paths, bad

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        if index == self.bad:
            raise OSError("Truncated File Read")
        return Image.open(self.paths[index]), 0


def test_bad_pictures_of_a_dataset_are_named_and_left_out(folder):
    _, paths, y = folder
    lazy = LazyImages(Broken(paths, 7), column=0)
    message = "image 7 could not be read from its dataset: OSError: Truncated"
    with pytest.raises(BadImageError, match=message):
        scratch().fit(lazy, y)
    assert scratch(on_bad_image="skip").fit(lazy, y).bad_images_.tolist() == [7]
    found = [problem for problem in check_images(lazy) if "Trunc" in problem.problem]
    assert [(problem.index, problem.path) for problem in found] == [(7, "X[7]")]


def test_lazy_arrays_of_another_size_are_resized_as_arrays_are(folder):
    _, paths, y = folder
    fitted = transfer().fit(paths, y)
    large = np.random.default_rng(0).integers(0, 256, (5, 20, 14, 3), dtype=np.uint8)
    on_array = fitted.predict_proba(large)
    np.testing.assert_array_equal(fitted.predict_proba(LazyImages(large)), on_array)


def test_predictions_never_leave_pictures_out(folder):
    X, paths, y = folder
    fitted = transfer(on_bad_image="skip").fit(X, y)
    break_files(paths, 3)
    with pytest.raises(BadImageError, match="image 3 "):
        fitted.predict(paths)


def test_warnings_of_pictures_name_the_set_they_are_in(folder, tmp_path):
    X, paths, y = folder
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    moving = [*paths[:8], str(tmp_path / "a.gif")]
    with pytest.warns(UserWarning, match=r"several frames.* X_val\[8\]"):
        scratch().fit(X, y, X_val=moving, y_val=y[:9])
    with pytest.warns(UserWarning, match=r"several frames.* X\[8\]"):
        transfer().fit(moving, y[:9])
