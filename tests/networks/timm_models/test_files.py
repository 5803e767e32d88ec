import hashlib
import pickle
from dataclasses import replace
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import timm
import torch
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError
from safetensors.torch import save_file
from sklearn.base import clone

from sktransfer import FeatureExtractor, TransferClassifier
from sktransfer._networks.timm_models import files
from sktransfer._networks.timm_models.files import HubWeights, translate
from sktransfer._networks.timm_models.make import make_timm
from tests.helpers import SHORT, pictures

HUB_ID = "timm/test_resnet.r160_in1k"


def features(network, images):
    """Return the pooled features of images."""
    with torch.no_grad():
        activation = network.eval()(images)
    return activation.mean((2, 3)) if activation.ndim == 4 else activation


def expected(model, images):
    """Return what timm makes of images."""
    with torch.no_grad():
        model.eval()
        return model.forward_head(model.forward_features(images), pre_logits=True)


def load_timm_weights(network, name, state=None, *, called="'auto'", image_size=None):
    """Load the weights of a file, or those that timm has, as estimators do."""
    state = HubWeights(name).read() if state is None else state
    network.load_state_dict(translate(name, state, called, image_size))


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """Return the empty folder of a hub that refuses connections."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


def put_into_cache(hub, state):
    """Write a weight file where the hub keeps what it has downloaded."""
    folder = hub / "models--timm--test_resnet.r160_in1k"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("a" * 40)
    (folder / "snapshots" / ("a" * 40)).mkdir(parents=True)
    file = folder / "snapshots" / ("a" * 40) / "model.safetensors"
    save_file(state, file)
    return file


def test_a_file_with_timm_names_is_loaded():
    model = timm.create_model("test_resnet")
    network = make_timm("test_resnet")
    load_timm_weights(network, "test_resnet", model.state_dict())
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(features(network, images), expected(model, images))


def test_a_model_that_cannot_be_cut_is_loaded():
    model = timm.create_model("test_vit")
    network = make_timm("test_vit")
    load_timm_weights(network, "test_vit", model.state_dict())
    images = torch.randn(2, 3, 160, 160)
    assert [name for name, _ in network.named_children()] == ["body"]
    torch.testing.assert_close(features(network, images), expected(model, images))


def test_what_the_stages_saved_is_loaded():
    network, twin = make_timm("test_resnet"), make_timm("test_resnet")
    load_timm_weights(twin, "test_resnet", network.state_dict())
    images = torch.randn(2, 3, 64, 64)
    assert torch.equal(features(network, images), features(twin, images))


def test_position_embeddings_are_resized():
    state = timm.create_model("test_vit3").state_dict()
    network = make_timm("test_vit3", 96)
    load_timm_weights(network, "test_vit3", state, image_size=96)
    overlay = {"state_dict": state}
    model = timm.create_model(
        "test_vit3", pretrained=True, img_size=96, pretrained_cfg_overlay=overlay
    )
    images = torch.randn(2, 3, 96, 96)
    torch.testing.assert_close(features(network, images), expected(model, images))


def test_names_of_the_original_are_translated():
    # Facebook's ConvNeXt, before timm named its modules otherwise.
    model = timm.create_model("convnext_atto")
    state = {}
    for name, tensor in model.state_dict().items():
        name = name.replace("stem.", "downsample_layers.0.")
        name = name.replace(".conv_dw.", ".dwconv.").replace(".mlp.fc", ".pwconv")
        name = name.replace(".blocks.", ".").replace("head.fc.", "head.")
        for stage in "123":
            old = f"stages.{stage}.downsample."
            name = name.replace(old, f"downsample_layers.{stage}.")
        state[name.replace("head.norm.", "norm.")] = tensor
    network = make_timm("convnext_atto")
    load_timm_weights(network, "convnext_atto", state)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(features(network, images), expected(model, images))


def test_weights_of_another_network_are_refused():
    state = timm.create_model("test_resnet").state_dict()
    network = make_timm("test_efficientnet")
    before = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    with pytest.raises(ValueError, match=r"weights='x\.pth'.*missing conv_stem"):
        load_timm_weights(network, "test_efficientnet", state, called="'x.pth'")
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("layer2.0.conv1.weight"), "missing layer2.0.conv1"),
        (lambda state: state.update(more=torch.zeros(1)), "unexpected more"),
        (lambda state: state.update({"bn1.bias": torch.zeros(7)}), r"bn1.bias.*\(7,\)"),
    ],
)
def test_the_error_says_what_does_not_fit(change, problem):
    state = timm.create_model("test_resnet").state_dict()
    change(state)
    with pytest.raises(ValueError, match=problem):
        load_timm_weights(make_timm("test_resnet"), "test_resnet", state)


def test_counts_of_batches_and_the_head_need_not_be_there():
    state = {
        name: tensor
        for name, tensor in timm.create_model("test_resnet").state_dict().items()
        if "num_batches_tracked" not in name and not name.startswith("fc.")
    }
    network = make_timm("test_resnet")
    load_timm_weights(network, "test_resnet", state)
    assert torch.equal(
        network.state_dict()["stem.conv1.0.weight"], state["conv1.0.weight"]
    )


def test_weights_in_the_cache_of_the_hub_need_no_network(hub):
    model = timm.create_model("test_resnet")
    put_into_cache(hub, model.state_dict())
    network = make_timm("test_resnet")
    load_timm_weights(network, "test_resnet")
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(features(network, images), expected(model, images))


def test_loading_takes_no_random_numbers(hub):
    put_into_cache(hub, timm.create_model("test_resnet").state_dict())
    network = make_timm("test_resnet")
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    load_timm_weights(network, "test_resnet")
    assert torch.equal(torch.rand(1), expected)


def test_a_damaged_file_in_the_cache_is_named(hub):
    file = put_into_cache(hub, timm.create_model("test_resnet").state_dict())
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(OSError, match=rf"{file}.*delete it"):
        load_timm_weights(make_timm("test_resnet"), "test_resnet")


def put_blob_into_cache(hub, state):
    """Write a weight file as the hub does: a link to a file named by its SHA-256."""
    link = put_into_cache(hub, state)
    content = link.read_bytes()
    blob = link.parents[2] / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    link.replace(blob)
    link.symlink_to(blob)
    return link, blob


def test_a_file_of_the_cache_is_compared_with_its_full_sha256(hub):
    link, blob = put_blob_into_cache(hub, timm.create_model("test_resnet").state_dict())
    assert HubWeights("test_resnet").read()
    content = bytearray(blob.read_bytes())
    content[-1] ^= 1
    blob.write_bytes(content)
    with pytest.raises(OSError, match=rf"{link}.*SHA-256.*delete it and {blob}"):
        HubWeights("test_resnet").read()


def test_the_older_kind_of_file_in_the_cache_is_read(hub):
    state = timm.create_model("test_resnet").state_dict()
    file = put_into_cache(hub, state)
    torch.save(state, file.with_name("pytorch_model.bin"))
    file.unlink()
    found = HubWeights("test_resnet").read()
    assert torch.equal(found["conv1.0.weight"], state["conv1.0.weight"])


@pytest.mark.parametrize("last", ["model.safetensors", "pytorch_model.bin"])
def test_what_the_hub_has_is_downloaded_and_read(hub, monkeypatch, last):
    state = timm.create_model("test_resnet").state_dict()
    asked = []

    def download(repository, file, revision):
        asked.append((repository, file, revision))
        if file != last:
            raise EntryNotFoundError("404")
        (save_file if file.endswith("s") else torch.save)(state, hub / file)
        return str(hub / file)

    monkeypatch.setattr(files, "_knock", lambda: None)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    found = HubWeights("test_resnet").read()
    assert torch.equal(found["conv1.0.weight"], state["conv1.0.weight"])
    assert asked[-1] == (HUB_ID, last, None)


def test_weights_outside_the_hub_are_read_from_torchs_folder(monkeypatch, tmp_path):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    state = timm.create_model("legacy_seresnet18").state_dict()
    cfg = timm.get_pretrained_cfg("legacy_seresnet18")
    path = tmp_path / "checkpoints" / Path(cfg.url).name
    path.parent.mkdir()
    torch.save(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(OSError, match=rf"{path}.*SHA-256 begins with.*delete it"):
        HubWeights("legacy_seresnet18").read()
    named = replace(cfg, url=cfg.url.replace("4bb0ce65", digest[:8]))
    path.rename(tmp_path / "checkpoints" / Path(named.url).name)
    monkeypatch.setattr(timm, "get_pretrained_cfg", lambda name: named)
    found = HubWeights("legacy_seresnet18").read()
    name = "layer1.0.conv1.weight"
    assert torch.equal(found[name], state[name])


def test_without_a_network_the_ways_out_are_named(hub):
    with pytest.raises(OSError, match=r"test_resnet.* could not be downl") as caught:
        load_timm_weights(make_timm("test_resnet"), "test_resnet")
    message = str(caught.value)
    assert str(hub / "models--timm--test_resnet.r160_in1k") in message
    assert f"http://127.0.0.1:9/{HUB_ID}" in message
    assert "weights='.../model.safetensors'" in message
    assert "backbone='efficientnet_lite0'" in message
    assert "weights=None" in message


def test_offline_mode_of_the_hub_is_respected(hub, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub, "get_session", lambda: pytest.fail("asked"))
    with pytest.raises(OSError, match="HF_HUB_OFFLINE is set"):
        load_timm_weights(make_timm("test_resnet"), "test_resnet")


def test_a_model_for_which_timm_has_no_weights_is_refused():
    with pytest.raises(ValueError, match=r"no weights for .*mobilenetv2_035"):
        load_timm_weights(make_timm("mobilenetv2_035"), "mobilenetv2_035")


@pytest.mark.parametrize(("name", "size"), [("test_resnet", 64), ("test_vit3", 64)])
def test_a_timm_model_is_fine_tuned_from_a_file(tmp_path, name, size):
    X, y = pictures(24)
    torch.manual_seed(0)
    state = timm.create_model(name).state_dict()
    save_file(
        {f"module.{key}": tensor for key, tensor in state.items()},
        tmp_path / "w.safetensors",
    )
    settings = {**SHORT, "weights": tmp_path / "w.safetensors", "image_size": size}
    settings |= {"unfreeze_depth": 1, "probe_share": 0.5, "augment": None}
    clf = TransferClassifier(f"timm/{name}", **settings).fit(X, y)
    stages = clf.net_.module_
    assert stages.frozen() == stages.names[:-2]
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict_proba(X), clf.predict_proba(X))
    off = clone(clf).set_params(activation_cache=None).fit(X, y)
    np.testing.assert_array_equal(off.predict_proba(X), clf.predict_proba(X))
    features = FeatureExtractor(
        f"timm/{name}", weights=settings["weights"], image_size=size
    )
    assert features.fit_transform(X).shape == (24, stages.head.linear.in_features)


def test_weights_that_are_not_there_are_missed_before_any_training(hub):
    with pytest.raises(
        OSError, match=r"backbone='timm/test_resnet'.*efficientnet_lite0.*in accuracy"
    ):
        TransferClassifier("timm/test_resnet", **SHORT).fit(*pictures(12))
