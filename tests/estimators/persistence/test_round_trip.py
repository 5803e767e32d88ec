import copy
import pickle
from importlib.metadata import version
from io import BytesIO

import joblib
import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils import check_random_state

import sktransfer
from sktransfer._estimators.persistence.attributes import list_attributes
from sktransfer._estimators.persistence.saving import find_stages
from tests.estimators.persistence.fitted import (
    CLASSIFIERS,
    KINDS,
    LABELS,
    SMALL,
    fit,
    fit_on_labels,
    fresh_scratch,
    needs_backbone,
    outputs,
    see,
)
from tests.helpers import pictures, save_image, scratch, transfer


def save_and_load(estimator, folder, **options):
    path = folder / "model.sktransfer"
    estimator.save(path, **options)
    return sktransfer.load(path, params=needs_backbone(estimator))


def equals(one, other):
    """Return whether two values are equal, of the same types, in every bit."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return list(one) == list(other) and all(equals(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(equals, one, other))
    if isinstance(one, np.ndarray):
        same = one.dtype == other.dtype and one.shape == other.shape
        return same and one.tolist() == other.tolist()
    if isinstance(one, sktransfer.ActivationCache):
        return one.max_bytes == other.max_bytes
    return one == other


def fitted_attributes(estimator):
    names = (
        set(vars(estimator))
        - set(estimator.get_params(deep=False))
        - {"net_", "stages_"}
    )
    return {name: getattr(estimator, name) for name in sorted(names)}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", KINDS)
def test_outputs_parameters_and_attributes_come_back_in_every_bit(kind, tmp_path):
    estimator, X = fit(kind), see(kind)
    loaded = save_and_load(estimator, tmp_path)
    assert type(loaded) is type(estimator)
    assert outputs(loaded, X).tobytes() == outputs(estimator, X).tobytes()
    assert equals(loaded.get_params(deep=False), estimator.get_params(deep=False))
    assert equals(fitted_attributes(loaded), fitted_attributes(estimator))
    state, own = find_stages(loaded).state_dict(), find_stages(estimator).state_dict()
    assert list(state) == list(own)
    assert all(torch.equal(state[name], own[name]) for name in own)
    if hasattr(estimator, "net_"):
        assert loaded.net_.n_prefix == estimator.net_.n_prefix
        assert loaded.net_.precision == estimator.net_.precision


@pytest.mark.parametrize("kind", KINDS)
def test_no_fitted_attribute_is_forgotten(kind):
    estimator = fit(kind)
    is_classifier = hasattr(estimator, "predict")
    known = list_attributes(is_classifier, hasattr(estimator, "backbone"))
    assert set(fitted_attributes(estimator)) <= set(known)


@pytest.mark.parametrize("kind", SMALL)
def test_the_same_estimator_is_always_the_same_bytes(kind, tmp_path):
    estimator = fit(kind)
    save_and_load(estimator, tmp_path).save(tmp_path / "again")
    first = (tmp_path / "model.sktransfer").read_bytes()
    assert (tmp_path / "again").read_bytes() == first


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_training_goes_on_from_the_loaded_as_from_the_original(kind, tmp_path):
    estimator, X = copy.deepcopy(fit(kind)), see(kind)
    loaded = save_and_load(estimator, tmp_path)
    _, y = pictures(12)
    for one in (estimator, loaded):
        one.set_params(warm_start=True, early_stopping=False).fit(X, y)
    assert equals(loaded.predict_proba(X), estimator.predict_proba(X))


@pytest.mark.parametrize("kind", ["scratch", "mini_resnet18", "features"])
def test_a_clone_of_the_loaded_fits_as_one_of_the_original(kind, tmp_path):
    estimator, X = fit(kind), see(kind)
    loaded = save_and_load(estimator, tmp_path)
    _, y = pictures(12)
    fits = [clone(one).fit(X, y) for one in (estimator, loaded)]
    assert equals(*[outputs(one, X) for one in fits])


@pytest.mark.parametrize("kind", LABELS)
def test_labels_of_every_kind_come_back(kind, tmp_path):
    estimator = fit_on_labels(kind)
    loaded, (X, _) = save_and_load(estimator, tmp_path), pictures(12)
    assert equals(loaded.classes_, estimator.classes_)
    assert equals(loaded.predict(X), estimator.predict(X))


def test_pictures_are_read_as_before(tmp_path):
    paths, y = [], np.arange(9) % 3
    for i in range(9):
        colour = [(200, 20, 20), (20, 200, 20), (20, 20, 200)][i % 3]
        paths.append(tmp_path / f"{i}.png")
        save_image(paths[-1], colour, (20 + i, 24))
    for estimator in (
        scratch(max_epochs=1, resize="pad"),
        transfer(max_epochs=1, on_bad_image="skip"),
    ):
        estimator.fit(paths, y)
        loaded = save_and_load(estimator, tmp_path)
        assert equals(loaded.predict_proba(paths), estimator.predict_proba(paths))
        assert equals(fitted_attributes(loaded), fitted_attributes(estimator))


def test_names_of_columns_are_asked_for_as_before(tmp_path):
    loaded = save_and_load(fit("scratch on a frame"), tmp_path)
    frame = see("scratch on a frame")
    assert loaded.feature_names_in_[0] == "pixel0"
    with pytest.raises(ValueError, match="feature names should match"):
        loaded.predict(frame.rename(columns={"pixel0": "other"}))


@pytest.mark.parametrize("kind", SMALL)
def test_pickle_joblib_and_copies_keep_working(kind, tmp_path):
    loaded, X = save_and_load(fit(kind), tmp_path), see(kind)
    copies = [copy.deepcopy(loaded), pickle.loads(pickle.dumps(loaded))]
    file = BytesIO()
    joblib.dump(loaded, file)
    file.seek(0)
    copies.append(joblib.load(file))
    for one in copies:
        assert equals(outputs(one, X), outputs(loaded, X))


def test_a_link_keeps_pointing_to_the_model(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "model.sktransfer")
    fit("scratch").save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert sktransfer.load(tmp_path / "link").n_iter_ == 2


def test_saving_changes_nothing_and_draws_nothing(tmp_path):
    estimator = fresh_scratch(random_state=None).fit(*pictures(12))
    before = torch.random.get_rng_state(), check_random_state(None).get_state()[1]
    before = before[0], before[1].tolist()
    loaded = save_and_load(estimator, tmp_path)
    X, _ = pictures(12)
    loaded.predict(X)
    assert torch.equal(before[0], torch.random.get_rng_state())
    assert before[1] == check_random_state(None).get_state()[1].tolist()


def test_any_tool_for_safetensors_opens_the_file(tmp_path):
    from safetensors import safe_open

    fit("scratch").save(tmp_path / "model", description="Of ants.")
    with safe_open(tmp_path / "model", "pt") as file:
        assert file.metadata()["format"] == "sktransfer"
        weight = file.get_tensor("head.linear.weight")
    assert torch.equal(weight, find_stages(fit("scratch")).head.linear.weight)


def test_what_a_model_is_can_be_read_without_loading_it(tmp_path):
    estimator = fit("mini_resnet18")
    estimator.save(tmp_path / "model", description="Of red, green and blue.")
    info = sktransfer.inspect(tmp_path / "model")
    assert info.estimator == "ResNetTransferClassifier"
    assert info.params["backbone"] == "mini_resnet18"
    assert equals(info.attributes["classes_"], estimator.classes_)
    assert info.n_bytes == (tmp_path / "model").stat().st_size
    weights = find_stages(estimator).state_dict().values()
    assert info.n_weights == sum(tensor.numel() for tensor in weights)
    assert info.versions["torch"] == version("torch")
    assert str(info).startswith("# ResNetTransferClassifier\n\nOf red, green and blue.")
    assert "Images per class: blue: 4, green: 4, red: 4" in str(info)


def test_a_card_shows_labels_that_no_file_can_hold(tmp_path):
    X, y = pictures(12)
    labels = np.where(y == "red", "\ud800", y).astype(object)
    estimator = fresh_scratch().fit(X, labels)
    loaded = save_and_load(estimator, tmp_path)
    assert equals(loaded.classes_, estimator.classes_)
    assert "?: 4" in sktransfer.inspect(tmp_path / "model.sktransfer").card
