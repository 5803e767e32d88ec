import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from sklearn.exceptions import InconsistentVersionWarning

import sktransfer
from sktransfer import FeatureExtractor, ModelFileError
from sktransfer._estimators.persistence.saving import find_stages
from sktransfer._files import versions
from sktransfer._files.opening import hash_file, open_regular
from sktransfer._networks.backbones import resnet
from tests.estimators.persistence.fitted import HERE, KINDS, TINY, fit, outputs, see
from tests.files.forging import forge, put_together, take_apart
from tests.helpers import pictures


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "model"
    fit("scratch").save(path)
    return path


def rewrite(path, change):
    path.write_bytes(forge(path.read_bytes(), change))


@pytest.fixture
def no_network(monkeypatch):
    """Nothing can be fetched."""

    def refuse(*args, **kwargs):
        raise AssertionError("something is downloaded")

    for name in (
        "torch.hub.download_url_to_file",
        "torch.hub.load_state_dict_from_url",
        "torch.hub.urlopen",
        "huggingface_hub.hf_hub_download",
        "huggingface_hub.get_session",
        "huggingface_hub.snapshot_download",
        "timm.models._hub.hf_hub_download",
        "timm.models._builder.load_state_dict_from_hf",
        "timm.models._builder.load_state_dict_from_url",
        "socket.socket.connect",
        "socket.getaddrinfo",
    ):
        monkeypatch.setattr(name, refuse)


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "resnet18"])
def test_nothing_is_downloaded(kind, tmp_path):
    estimator = fit(kind)
    own = getattr(estimator, "backbone", None)
    estimator.save(tmp_path / "model")
    sktransfer.load(
        tmp_path / "model", params={"backbone": own} if own is TINY else None
    )


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize("kind", ["mini_resnet18", "efficientnet_lite0", "features"])
def test_frozen_weights_may_be_referred_to(kind, tmp_path):
    estimator, X = fit(kind), see(kind)
    estimator.save(tmp_path / "whole")
    estimator.save(tmp_path / "model", backbone="reference")
    sizes = [(tmp_path / name).stat().st_size for name in ("model", "whole")]
    assert sizes[0] < sizes[1]
    loaded = sktransfer.load(tmp_path / "model")
    assert outputs(loaded, X).tobytes() == outputs(estimator, X).tobytes()
    loaded.save(tmp_path / "again", backbone="reference")
    assert (tmp_path / "again").read_bytes() == (tmp_path / "model").read_bytes()


@pytest.mark.parametrize("kind", ["scratch", "resnet18", "a Backbone of the user's"])
def test_only_weights_with_a_name_can_be_referred_to(kind, tmp_path):
    with pytest.raises(ValueError, match="pass backbone='embed'"):
        fit(kind).save(tmp_path / "model", backbone="reference")
    assert list(tmp_path.iterdir()) == []


def test_a_file_of_weights_cannot_be_referred_to(tmp_path):
    file = resnet.BUNDLED_FOLDER / "mini_resnet18.safetensors"
    extractor = FeatureExtractor("mini_resnet18", weights=str(file), **HERE)
    extractor.fit(pictures(12)[0])
    with pytest.raises(ValueError, match=r"have no name; pass backbone='embed'"):
        extractor.save(tmp_path / "model", backbone="reference")


@pytest.mark.parametrize(
    ("kind", "name"),
    [("features", "TINYIMAGENET32_V1"), ("efficientnet_lite0", "IMAGENET1K_V1")],
)
def test_weights_are_referred_to_by_a_name_that_lasts(kind, name, tmp_path):
    assert fit(kind).weights == "auto"
    fit(kind).save(tmp_path / "model", backbone="reference")
    metadata, _ = take_apart((tmp_path / "model").read_bytes())
    assert json.loads(metadata["content"])["reference"]["weights"] == name


def _refer_to(backbone, weights):
    def change(content, _):
        content["network"]["backbone"] = backbone
        content["attributes"]["_fitted_network"]["backbone"] = backbone
        content["reference"]["weights"] = weights

    return change


@pytest.mark.usefixtures("no_network")
@pytest.mark.parametrize(
    ("backbone", "weights", "error"),
    [
        ("resnet18", "IMAGENET1K_V1", OSError),
        ("timm/resnet18.a1_in1k", "auto", OSError),
        ("timm/test_vit", "auto", OSError),
        ("resnet18", "NO_SUCH", ModelFileError),
        ("resnet18", "weights.pth", ModelFileError),
        ("resnet18", "/etc/passwd", ModelFileError),
        ("no_such", "auto", ModelFileError),
        ("timm/no_such", "auto", ModelFileError),
        ("timm/hf-hub:evil/model", "auto", ModelFileError),
        ("timm/local-dir:/tmp", "auto", ModelFileError),
        (None, "auto", ModelFileError),
        (["resnet18"], "auto", ModelFileError),
        ("mini_resnet18", ["auto"], ModelFileError),
        ("mini_resnet18", None, ModelFileError),
        ("efficientnet_lite0", "auto", ModelFileError),
    ],
)
def test_a_reference_to_what_is_not_here_is_an_error(
    backbone, weights, error, tmp_path, monkeypatch
):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    path = tmp_path / "model"
    fit("mini_resnet18").save(path, backbone="reference")
    rewrite(path, _refer_to(backbone, weights))
    with pytest.raises(error, match=r".*") as e:
        sktransfer.load(path)
    assert type(e.value) is error


@pytest.mark.parametrize("names", [["stem.conv1.weight", "x"], [1], "stem", {}])
def test_a_reference_to_other_tensors_is_an_error(names, tmp_path):
    path = tmp_path / "model"
    fit("mini_resnet18").save(path, backbone="reference")
    rewrite(path, lambda content, _: content["reference"].update(names=names))
    with pytest.raises(ModelFileError):
        sktransfer.load(path)


def test_other_weights_of_the_same_name_are_noticed(tmp_path, monkeypatch):
    X, _ = pictures(12)
    path, bundled = (
        tmp_path / "model",
        resnet.BUNDLED_FOLDER / "mini_resnet18.safetensors",
    )
    settings = {"image_size": 16, "random_state": 0, **HERE}
    extractor = FeatureExtractor("mini_resnet18", **settings).fit(X)
    extractor.save(path, backbone="reference")
    other = bytearray(bundled.read_bytes())
    other[-1] ^= 1
    (tmp_path / bundled.name).write_bytes(other)
    monkeypatch.setattr(resnet, "BUNDLED_FOLDER", tmp_path)
    with pytest.raises(ModelFileError, match="are not those that it was saved with"):
        sktransfer.load(path)


def test_another_release_is_warned_of(model, monkeypatch):
    monkeypatch.setattr(versions, "version", lambda name: "99.1")
    with pytest.warns(InconsistentVersionWarning, match=r"torch \S+ \(here 99\.1\)"):
        loaded = sktransfer.load(model)
    assert loaded.n_iter_ == 2


@pytest.mark.filterwarnings("error")
def test_another_build_of_the_same_release_is_not(model):
    rewrite(model, lambda content, _: content["versions"].update(torch="2.99+cu130"))
    here = versions.list_versions()["torch"].split("+")[0]
    rewrite(model, lambda content, _: content["versions"].update(torch=f"{here}+other"))
    sktransfer.load(model)


@pytest.mark.parametrize(
    "found", [{}, None, 5, {"torch": 5, "timm": [1], "pillow": {}}]
)
def test_releases_that_are_no_texts_are_unknown(found, model):
    rewrite(model, lambda content, _: content.update(versions=found))
    with pytest.warns(InconsistentVersionWarning, match="torch unknown"):
        sktransfer.load(model)


def test_the_warning_is_of_the_callers_line(model, monkeypatch):
    monkeypatch.setattr(versions, "version", lambda name: "99.1")
    with pytest.warns(InconsistentVersionWarning) as caught:
        sktransfer.load(model)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("2", "newer release: it has format 2"),
        ("999", "Install a newer sktransfer"),
        ("0", "metadata are not those"),
        ("1.0", "metadata are not those"),
        ("", "metadata are not those"),
        ("9" * 100, "metadata are not those"),
    ],
)
def test_another_format_is_told_from_damage(version, message, model):
    metadata, tensors = take_apart(model.read_bytes())
    model.write_bytes(put_together({**metadata, "version": version}, tensors))
    with pytest.raises(ModelFileError, match=message):
        sktransfer.load(model)


def test_the_hash_of_the_whole_file_is_compared_first(model, monkeypatch):
    with open_regular(model) as file:
        found = hash_file(file)
    assert sktransfer.load(model, sha256=f" {found.upper()}\n").n_iter_ == 2
    monkeypatch.setattr("sktransfer._files.model_file.read_header", None)
    with pytest.raises(ModelFileError, match=f"has the SHA-256 {found}, not the '00'"):
        sktransfer.load(model, sha256="00")


def test_parameters_of_another_name_are_refused(model):
    with pytest.raises(ValueError, match="params holds 'no_such'"):
        sktransfer.load(model, params={"no_such": 1})
    with pytest.raises(ModelFileError, match=r"parameters are wrong.*max_epochs"):
        sktransfer.load(model, params={"max_epochs": 0})


def test_files_of_other_origin_are_refused_by_name(tmp_path):
    path = tmp_path / "model"

    def check(message="not a model of sktransfer"):
        for read in (sktransfer.load, sktransfer.inspect):
            with pytest.raises(ModelFileError, match=message) as e:
                read(path)
            assert repr(str(path)) in str(e.value)

    path.write_bytes(b"")
    check()
    path.write_bytes(pickle.dumps(fit("scratch")))
    check()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"\x80")
    check()
    torch.save({"a": torch.zeros(3)}, path)
    check()
    save_file({"a": torch.zeros(3)}, path)
    check("another origin")
    save_file({"a": torch.zeros(3)}, path, {"format": "pt"})
    check("another origin")


def test_a_file_of_another_kind_is_no_estimator(model):
    metadata, tensors = take_apart(model.read_bytes())
    model.write_bytes(put_together({**metadata, "kind": "checkpoint"}, tensors))
    with pytest.raises(ModelFileError, match="holds a 'checkpoint'"):
        sktransfer.load(model)


@pytest.mark.parametrize("read", [sktransfer.load, sktransfer.inspect])
def test_what_is_no_file_is_refused_without_waiting(read, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", "/dev/zero"):
        with pytest.raises(
            ModelFileError, match=r"this is (a folder|not a regular file)"
        ):
            read(path)
    with pytest.raises(FileNotFoundError, match="none"):
        read(tmp_path / "none")


def test_every_flipped_byte_is_noticed(model, tmp_path):
    packed = model.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(0, len(packed), 60):
        damaged = bytearray(packed)
        damaged[place] ^= 1 << int(rng.integers(8))
        model.write_bytes(damaged)
        with pytest.raises(ModelFileError):
            sktransfer.load(model)


def test_nan_in_weights_is_refused(model):
    def spoil(_, tensors):
        old = tensors["layer1.conv1.weight"]
        nan = np.float32("nan").tobytes()
        tensors["layer1.conv1.weight"] = old._replace(content=nan + old.content[4:])

    rewrite(model, spoil)
    with pytest.raises(ModelFileError, match=r"layer1\.conv1\.weight holds NaN"):
        sktransfer.load(model)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ["scratch", "mini_resnet18", "features"])
@pytest.mark.parametrize("device", ["cuda", "cuda:3"])
def test_a_model_from_a_gpu_predicts_where_there_is_none(kind, device, tmp_path):
    if torch.cuda.is_available():  # then it stays on one
        device = "cuda:99"
    estimator, X = fit(kind), see(kind)
    path = tmp_path / "model"
    estimator.save(path)

    def move(content, _):
        content["params"]["device"] = content["attributes"]["device_"] = device

    rewrite(path, move)
    loaded = sktransfer.load(path)
    assert (loaded.device, loaded.device_) == (device, "cpu")
    assert outputs(loaded, X).tobytes() == outputs(estimator, X).tobytes()
    if hasattr(loaded, "predict"):
        with pytest.raises(RuntimeError, match=r"no CUDA device|invalid device"):
            loaded.fit(X, pictures(12)[1])
    again = pickle.loads(pickle.dumps(loaded))
    assert outputs(again, X).tobytes() == outputs(estimator, X).tobytes()


def test_a_gpu_of_a_number_that_is_not_here_is_left(model, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    rewrite(model, lambda content, _: content["params"].update(device="cuda:3"))
    assert sktransfer.load(model).device_ == "cpu"


@pytest.mark.parametrize("device", ["mps", "meta", "toaster", "\ud800", "cpu:99", ""])
def test_a_device_of_another_kind_is_refused_or_left(device, model):
    rewrite(model, lambda content, _: content["params"].update(device=device))
    try:
        loaded = sktransfer.load(model)
    except ModelFileError:
        return
    assert loaded.device_ == "cpu"
    loaded.predict(see("scratch"))


@pytest.mark.parametrize("home", [None, "/no/such/folder"])
@pytest.mark.usefixtures("no_network")
def test_neither_home_nor_clock_nor_temporary_folder_matter(home, model, monkeypatch):
    if home is None:
        monkeypatch.delenv("HOME", raising=False)
    else:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setenv("TMPDIR", "/no/such/folder")
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    monkeypatch.setattr("time.time", lambda: 0.0)
    sktransfer.load(model).save(model)
    assert sktransfer.load(model).predict(see("scratch")).shape == (12,)


def test_what_is_kept_of_a_file_is_only_the_model(model):
    loaded = sktransfer.load(model)
    model.unlink()
    assert loaded.predict(see("scratch")).shape == (12,)
    stages = find_stages(loaded)
    assert stages.learning() == find_stages(fit("scratch")).learning()
    flags = [
        [p.requires_grad for p in find_stages(e).parameters()]
        for e in (loaded, fit("scratch"))
    ]
    assert flags[0] == flags[1]


def test_the_content_is_json_that_others_can_read(model):
    metadata, _ = take_apart(model.read_bytes())
    content = json.loads(metadata["content"])
    assert content["estimator"] == "ScratchCNNClassifier"
    assert content["params"]["width"] == 4
