import os
import subprocess
import sys
from collections import OrderedDict
from functools import partial
from io import FileIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import save_file
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from torch import nn

import sktransfer
from sktransfer import (
    ActivationCache,
    Backbone,
    FeatureExtractor,
    ModelFileError,
    ScratchCNNClassifier,
    TransferClassifier,
)
from tests.estimators.persistence.fitted import (
    HERE,
    TINY,
    fit,
    fit_on_labels,
    fresh_scratch,
    outputs,
    see,
)
from tests.helpers import pictures, transfer


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def old_model(folder):
    path = folder / "model"
    fit("scratch").save(path)
    return path, path.read_bytes()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("random_state", np.random.RandomState(0)),
        ("augment", lambda images: images),
        ("callbacks", [object()]),
        ("class_weight", {"red": {1, 2}}),
    ],
)
def test_a_parameter_that_is_code_is_named_with_both_ways_out(name, value, tmp_path):
    estimator = fit_on_labels("texts").__class__(**fit("scratch").get_params())
    vars(estimator).update(vars(fit("scratch")))
    setattr(estimator, name, value)
    with pytest.raises(TypeError, match=rf"^{name}=.* omit=\['{name}'\].* set_params"):
        estimator.save(tmp_path / "model")
    assert names(tmp_path) == []
    estimator.save(tmp_path / "model", omit=[name])
    default = getattr(ScratchCNNClassifier(), name)
    with pytest.warns(UserWarning, match=f"^{name} had been left out of"):
        loaded = sktransfer.load(tmp_path / "model")
    assert getattr(loaded, name) == default
    assert sktransfer.inspect(tmp_path / "model").omitted == [name]
    loaded = sktransfer.load(tmp_path / "model", params={name: value})
    assert getattr(loaded, name) is value
    setattr(estimator, name, default)
    estimator.save(tmp_path / "model")
    assert outputs(sktransfer.load(tmp_path / "model"), see("scratch")).shape == (12, 3)


def test_a_fitted_estimator_as_weights_is_left_out_and_given_again(tmp_path):
    X, y = pictures(12)
    first = fit("mini_resnet18")
    second = transfer(weights=first, max_epochs=1).fit(X, y)
    with pytest.raises(TypeError, match=r"(?s)^weights=.* omit=\['weights'\]"):
        second.save(tmp_path / "model")
    second.save(tmp_path / "model", omit=["weights"])
    loaded = sktransfer.load(tmp_path / "model", params={"weights": first})
    assert loaded.weights is first
    assert outputs(loaded, X).tobytes() == outputs(second, X).tobytes()


@pytest.mark.parametrize("kind", ["mini_resnet18", "a Backbone of the user's"])
def test_a_model_without_its_backbone_parameter_can_be_saved_again(kind, tmp_path):
    estimator, X = fit(kind), see(kind)
    estimator.save(tmp_path / "model", omit=["backbone"])
    loaded = sktransfer.load(
        tmp_path / "model", params={"backbone": estimator.backbone}
    )
    assert loaded.backbone == estimator.backbone
    loaded.save(tmp_path / "again")
    given = {"backbone": estimator.backbone}
    again = sktransfer.load(tmp_path / "again", params=given)
    assert outputs(again, X).tobytes() == outputs(estimator, X).tobytes()


@pytest.mark.parametrize("omit", ["augment", ["no_such"], ["classes_"]])
def test_only_parameters_can_be_left_out(omit, tmp_path):
    with pytest.raises(ValueError, match="must be a list of parameters"):
        fit("scratch").save(tmp_path / "model", omit=omit)


def test_places_of_this_machine_stay_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the card shortens long values
    X, y = pictures(12)
    for cache in ("./secret", Path("secret"), ActivationCache(path="secret")):
        clf = transfer(activation_cache=cache, max_epochs=1).fit(X, y)
        clf.save(tmp_path / "model")
        assert b"secret" not in (tmp_path / "model").read_bytes()
        assert sktransfer.load(tmp_path / "model").activation_cache == "auto"


def test_only_fitted_estimators_of_this_package_are_saved(tmp_path):
    class Mine(ScratchCNNClassifier):
        pass

    with pytest.raises(NotFittedError):
        ScratchCNNClassifier().save(tmp_path / "model")
    mine = Mine()
    vars(mine).update(vars(fit("scratch")))
    with pytest.raises(TypeError, match="Mine is a class of your own"):
        mine.save(tmp_path / "model")
    ScratchCNNClassifier.save(make_pipeline(fit("scratch"))[0], tmp_path / "model")
    with pytest.raises(
        ValueError, match="backbone='none': pass 'embed' or 'reference'"
    ):
        fit("scratch").save(tmp_path / "other", backbone="none")
    assert names(tmp_path) == ["model"]


def test_a_parameter_made_invalid_since_the_fit_is_not_saved(tmp_path):
    estimator = fresh_scratch().fit(*pictures(12)).set_params(max_epochs=-1)
    with pytest.raises(ValueError, match="max_epochs"):
        estimator.save(tmp_path / "model")
    assert names(tmp_path) == []


def test_weights_that_predict_nothing_are_not_saved(tmp_path):
    estimator = fresh_scratch().fit(*pictures(12))
    estimator.net_.module_.head.linear.bias.data[0] = float("nan")
    with pytest.raises(ValueError, match=r"head\.linear\.bias .* NaN"):
        estimator.save(tmp_path / "model")
    assert names(tmp_path) == []


def test_a_network_that_was_changed_by_hand_is_not_saved(tmp_path):
    estimator = fresh_scratch().fit(*pictures(12))
    estimator.net_.module_.layer1.conv1 = torch.nn.Conv2d(24, 4, 5, padding=2)
    with pytest.raises(ValueError, match=r"could not be loaded .*layer1\.conv1"):
        estimator.save(tmp_path / "model")
    assert names(tmp_path) == []


def test_a_network_for_images_beyond_the_bound_is_not_saved(tmp_path):
    extractor = FeatureExtractor("mini_resnet18", image_size=5_000, **HERE)
    with pytest.raises(ValueError, match=r"could not be loaded .*image_size"):
        extractor.fit(pictures(12)[0]).save(tmp_path / "model")
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "history",
    [
        [{"epoch": 1, "train_loss": 1.0, "note": "x" * 5_000_000}],
        [{"epoch": 1, "train_loss": 1.0, "note": [[]] * 80_000}],
        [{"epoch": 1, "train_loss": 1.0, "note": np.zeros(2**23 + 1)}],
    ],
)
def test_what_could_not_be_read_again_is_not_written(history, tmp_path):
    estimator = fresh_scratch().fit(*pictures(12))
    estimator.history_ = history
    with pytest.raises(TypeError, match="cannot be saved"):
        estimator.save(tmp_path / "model")
    assert names(tmp_path) == []


def test_a_long_history_of_numpy_scalars_can_be_read_again(tmp_path):
    estimator = fresh_scratch().fit(*pictures(12))
    row = {"epoch": 1, "train_loss": np.float64(0.5), "train_accuracy": np.float32(1)}
    estimator.history_ = [{**row, "epoch": i + 1} for i in range(10_000)]
    estimator.n_iter_ = estimator.best_epoch_ = 10_000
    estimator.save(tmp_path / "model")
    loaded = sktransfer.load(tmp_path / "model")
    assert len(loaded.history_) == 10_000
    assert type(loaded.history_[0]["train_loss"]) is np.float64


@pytest.mark.parametrize(("at", "what"), [("write", 28), ("write", 5), ("fsync", 28)])
def test_on_a_full_disk_the_old_model_stays(at, what, tmp_path, monkeypatch):
    path, before = old_model(tmp_path)

    class Full(FileIO):
        def write(self, content):
            if self.tell() > 10_000:
                raise OSError(what, os.strerror(what))
            return super().write(content[:5_000])

    def fail(descriptor):
        raise OSError(what, os.strerror(what))

    if at == "write":
        monkeypatch.setattr("sktransfer._files.replacing.FileIO", Full)
    else:
        monkeypatch.setattr("sktransfer._files.replacing.os.fsync", fail)
    with pytest.raises(OSError, match=r"; [\d,]+ bytes were to be written.*model") as e:
        fit("mini_resnet18").save(path)
    assert (e.value.errno, e.value.filename) == (what, str(path))
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert names(tmp_path) == ["model"]


LIMITED = """
import resource, signal, sys
from pathlib import Path
from tests.estimators.persistence.fitted import fit
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
estimator = fit("scratch")
resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, 15_000))
try:
    estimator.save(sys.argv[1])
except OSError as error:
    print(error.errno, error.filename, error.strerror)
"""


def _run(code, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=Path(__file__).parents[3],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such limits")
def test_beyond_a_real_limit_the_old_model_stays(tmp_path):
    path, before = old_model(tmp_path)
    with _run(LIMITED, path) as process:
        said = process.communicate(timeout=120)[0]
    assert said.startswith(f"27 {path} ")
    assert "bytes were to be written" in said
    assert path.read_bytes() == before
    assert names(tmp_path) == ["model"]


def test_without_permission_the_old_model_stays(tmp_path, monkeypatch):
    path, before = old_model(tmp_path)
    opened = os.open

    def refuse(name, flags, *mode):
        if flags & os.O_CREAT:  # what a read-only folder answers, also to root
            raise PermissionError(13, "Permission denied", os.fspath(name))
        return opened(name, flags, *mode)

    monkeypatch.setattr("sktransfer._files.replacing.os.open", refuse)
    with pytest.raises(PermissionError) as e:
        fit("scratch").save(path)
    assert e.value.filename == str(path)
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert names(tmp_path) == ["model"]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none/model'$") as e:
        fit("scratch").save(tmp_path / "none" / "model")
    assert ".writing" not in str(e.value)


KILLED = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
import torch
torch.set_num_threads(1)
import sktransfer
path, other, X = Path(sys.argv[1]), sys.argv[2], np.load(sys.argv[3])
models = [sktransfer.load(path), sktransfer.load(other)]
known = {model.predict_proba(X).tobytes() for model in models}
for i in range(10):
    child = os.fork()
    while not child:
        for model in models:
            model.save(path)
    time.sleep(0.02 + 0.011 * i)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print(sktransfer.load(path).predict_proba(X).tobytes() in known)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process cannot be copied")
def test_after_a_kill_the_file_is_the_old_or_the_new_model(tmp_path):
    path, _ = old_model(tmp_path)
    fit("mini_resnet18").save(tmp_path / "other")
    np.save(tmp_path / "images.npy", pictures(12)[0])
    others = tmp_path / "other", tmp_path / "images.npy"
    with _run(KILLED, path, *others) as process:
        said = process.communicate(timeout=300)[0].split()
    assert said == ["True"] * 10
    # Removed once they are an hour old, since another process may be writing them.
    left = set(names(tmp_path)) - {"model", "other", "images.npy"}
    assert all(name.startswith(".model.writing-") for name in left)


def test_a_backbone_of_the_users_must_be_given(tmp_path):
    fit("a Backbone of the user's").save(tmp_path / "model")
    for params in (None, {"backbone": "resnet18"}):
        with pytest.raises(
            sktransfer.ModelFileError, match=r"Backbone 'tiny'.*params="
        ):
            sktransfer.load(tmp_path / "model", params=params)
    loaded = sktransfer.load(tmp_path / "model", params={"backbone": TINY})
    assert loaded.backbone is TINY


def make_strided(stride):
    first = nn.Conv2d(3, 4, 3, stride=stride, padding=1)
    return nn.Sequential(OrderedDict(conv=first, act=nn.ReLU()))


def describe(name, stride):
    return Backbone(name, partial(make_strided, stride), {"a": ["conv"], "b": ["act"]})


def test_another_network_with_the_same_weights_is_noticed(tmp_path):
    X, y = pictures(12)
    settings = {"weights": None, "image_size": 16, "max_epochs": 1, "device": "cpu"}
    clf = TransferClassifier(describe("mine", 1), random_state=0, **settings).fit(X, y)
    with torch.no_grad():  # so that nothing differs by much
        for parameter in clf.net_.module_.head.parameters():
            parameter *= 0.01
    clf.save(tmp_path / "model")

    def load(backbone):
        return sktransfer.load(tmp_path / "model", params={"backbone": backbone})

    assert outputs(load(describe("mine", 1)), X).tobytes() == outputs(clf, X).tobytes()
    with pytest.raises(ModelFileError, match="computes something else"):
        load(describe("mine", 2))
    with pytest.raises(ModelFileError, match="built from the Backbone 'mine', and not"):
        load(describe("yours", 1))


def test_the_form_of_output_comes_back(tmp_path):
    X, _ = pictures(4)
    extractor = FeatureExtractor("mini_resnet18", image_size=16)
    extractor.set_output(transform="pandas").fit(X).save(tmp_path / "model")
    assert isinstance(sktransfer.load(tmp_path / "model").transform(X), pd.DataFrame)


def test_of_a_file_of_weights_only_its_name_is_saved(tmp_path):
    X, y = pictures(12)
    state = transfer(max_epochs=1).fit(X, y).net_.module_.state_dict()
    save_file(state, tmp_path / "tuned.safetensors")
    clf = transfer(weights=tmp_path / "tuned.safetensors", max_epochs=1).fit(X, y)
    clf.save(tmp_path / "model")
    loaded = sktransfer.load(tmp_path / "model")
    assert loaded.weights == "tuned.safetensors"
    assert outputs(loaded, X).tobytes() == outputs(clf, X).tobytes()
    assert str(tmp_path) not in sktransfer.inspect(tmp_path / "model").card


def test_a_shape_that_contradicts_the_images_is_not_saved(tmp_path):
    estimator = fresh_scratch().fit(*pictures(12)).set_params(image_shape=(9, 9, 3))
    with pytest.raises(ValueError, match=r"image_shape=\(9, 9, 3\) was changed since"):
        estimator.save(tmp_path / "model")
    estimator.set_params(image_shape=(-1, 8, 3)).save(tmp_path / "model")
    assert sktransfer.load(tmp_path / "model").image_shape == (-1, 8, 3)
