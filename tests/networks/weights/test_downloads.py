"""What is downloaded is whole, has the SHA-256 in its name, and is read as any file."""

import hashlib
import os
import re
import urllib.error
from types import SimpleNamespace

import pytest
import torch

from sktransfer._networks.backbones.known import find_backbone
from sktransfer._networks.weights import sources
from sktransfer._networks.weights.sources import DownloadedFile

RESNETS = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152"]


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A file somewhere else, and where torch is to keep it."""
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path / "hub"))
    torch.save({"a": torch.arange(3.0)}, tmp_path / "new.pth")
    digest = hashlib.sha256((tmp_path / "new.pth").read_bytes()).hexdigest()
    file = tmp_path / f"net-{digest[:8]}.pth"
    (tmp_path / "new.pth").rename(file)
    return file


def source(file):
    return DownloadedFile("resnet18", SimpleNamespace(name="V1", url=file.as_uri()))


def kept(tmp_path):
    return sorted(os.listdir(tmp_path / "hub" / "checkpoints"))


def test_a_download_is_kept_under_the_name_that_torch_gives_it(served, tmp_path):
    weights = source(served)
    assert weights.read()["a"].tolist() == [0, 1, 2]
    assert kept(tmp_path) == [served.name]
    assert torch.hub.load_state_dict_from_url(served.as_uri(), check_hash=True)
    served.unlink()
    assert weights.read()["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", RESNETS)
def test_eight_digits_are_known_of_every_resnet(name):
    for weights in find_backbone(name).weights.values():
        assert re.search(r"-[0-9a-f]{8}\.pth$", weights.entry.url)


def test_a_download_with_other_bytes_is_not_kept(served, tmp_path):
    served.write_bytes(served.read_bytes() + b"more")
    with pytest.raises(OSError, match=r"could not be downloaded \(its SHA-256 begins"):
        source(served).read()
    assert kept(tmp_path) == []


def test_a_download_that_breaks_off_leaves_nothing(served, tmp_path, monkeypatch):
    def break_off(url, path, **settings):
        with open(path, "wb") as file:
            file.write(b"half")
        raise urllib.error.URLError("connection reset")

    monkeypatch.setattr("torch.hub.download_url_to_file", break_off)
    with pytest.raises(OSError, match=r"could not be downloaded .*reset.*weights=None"):
        source(served).read()
    assert kept(tmp_path) == []


def test_a_refused_connection_gives_the_ways_out(tmp_path, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    entry = SimpleNamespace(name="V1", url="http://127.0.0.1:9/net-01234567.pth")
    with pytest.raises(OSError, match="could not be downloaded") as caught:
        DownloadedFile("resnet18", entry).read()
    assert f"put it at {tmp_path / 'checkpoints' / 'net-01234567.pth'}" in str(
        caught.value
    )
    assert "efficientnet_lite0" in str(caught.value)


def test_a_folder_that_cannot_be_made_is_no_damage(served, tmp_path):
    (tmp_path / "hub").write_text("a file")
    with pytest.raises(OSError, match="could not be downloaded"):
        source(served).read()


@pytest.mark.parametrize("change", ["flipped", "short", "link", "pipe", "folder"])
def test_a_file_that_is_there_is_checked_before_it_is_read(
    served, tmp_path, monkeypatch, change
):
    weights = source(served)
    content = bytearray(served.read_bytes())
    weights.path.parent.mkdir(parents=True)
    if change == "pipe":
        os.mkfifo(weights.path)
    elif change == "folder":
        weights.path.mkdir()
    elif change == "link":
        (tmp_path / "other").write_bytes(content + b"more")
        weights.path.symlink_to(tmp_path / "other")
    else:
        content[100] ^= 1
        weights.path.write_bytes(content[:-1] if change == "short" else content)
    monkeypatch.setattr(sources, "read_state", lambda *args: pytest.fail("read"))
    with pytest.raises(OSError, match=r"V1.*cannot be used.*delete it") as caught:
        weights.read()
    assert str(weights.path) in str(caught.value)


def test_the_file_that_was_hashed_is_the_one_that_is_read(
    served, tmp_path, monkeypatch
):
    weights = source(served)
    weights.read()
    check = sources._check_digits

    def swap(file, url):
        check(file, url)
        torch.save({"a": torch.zeros(3)}, tmp_path / "other.pth")
        os.replace(tmp_path / "other.pth", weights.path)

    monkeypatch.setattr(sources, "_check_digits", swap)
    assert weights.read()["a"].tolist() == [0, 1, 2]
