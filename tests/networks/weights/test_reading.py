"""Weight files are read as torch and safetensors read them, without running code."""

import collections
import os
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from sktransfer._networks.backbones.build import make_stages
from sktransfer._networks.weights.checkpoints import open_weights, read_nested
from sktransfer._networks.weights.checkpoints import read_state as read

DTYPES = ["float64", "float32", "float16", "bfloat16", "complex64", "complex128"]
DTYPES += ["int64", "int32", "int16", "int8", "uint8", "bool"]
BARE = ["float8_e4m3fn", "float8_e5m2", "uint16", "uint32", "uint64"]


def is_same(a, b):
    """Whether two tensors have the same type, shape and bits."""
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    bits = [x.contiguous().flatten().view(torch.uint8) for x in (a, b) if x.numel()]
    return not bits or torch.equal(*bits)


def _of(name):
    return getattr(torch, name)


def make(dtype, shape=(3, 4)):
    generator = torch.Generator().manual_seed(1)
    return (torch.rand(shape, generator=generator) * 3).to(_of(dtype))


def make_state():
    whole = torch.arange(24.0).reshape(2, 3, 4)
    state = {f"layer.{name}": make(name) for name in DTYPES}
    state |= {"turned.weight": whole.permute(2, 0, 1), "part.weight": whole[:, 1:, ::2]}
    state |= {"whole": whole, "scalar": torch.tensor(3), "none": torch.zeros(0, 3)}
    state["wide"] = torch.zeros(1).expand(5, 7)
    return state


@pytest.mark.parametrize("new", [True, False])
@pytest.mark.parametrize("wrap", [dict, collections.OrderedDict])
def test_both_formats_of_torch_are_read_as_torch_reads_them(tmp_path, new, wrap):
    path = tmp_path / "a.pth"
    content = {"net": wrap(make_state()), "epoch": 3, "lr": [0.1], "none": None}
    torch.save(content, path, _use_new_zipfile_serialization=new)
    expected, found = torch.load(path, weights_only=True)["net"], read(path)
    assert list(found) == [f"net.{name}" for name in expected]
    for name, tensor in expected.items():
        assert is_same(found[f"net.{name}"], tensor), name


@pytest.mark.parametrize("new", [True, False])
def test_numbers_of_types_without_a_storage_are_read(tmp_path, new):
    state = {name: make(name) for name in BARE}
    path = tmp_path / "a.pth"
    torch.save(state, path, _use_new_zipfile_serialization=new)
    found = read(path)
    assert all(is_same(found[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("new", [True, False])
def test_parameters_and_what_is_saved_beside_them_are_read(tmp_path, new):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    marked = nn.Parameter(torch.ones(2))
    marked.no_weight_decay = True
    content = {
        "model": dict(net.named_parameters()),
        "state": net.state_dict(),
        "optimizer": optimizer.state_dict(),
        "marked": marked,
        "best": collections.Counter([3, 3]),
        "bytes": (b"ab", bytearray(b"c"), {1, 2}, 1j, 2**70, -1.5, torch.float16),
        "device": torch.device("cuda:1"),
        "shape": torch.Size([1, 2]),
    }
    torch.save(content, tmp_path / "a.pth", _use_new_zipfile_serialization=new)
    found = read(tmp_path / "a.pth")
    assert torch.equal(found["marked"], marked)
    for name, parameter in net.named_parameters():
        assert torch.equal(found[f"model.{name}"], parameter)
        assert torch.equal(found[f"state.{name}"], parameter)
    assert not any(name.startswith("optimizer") for name in found)


def test_tensors_of_a_device_that_is_not_here_are_read_onto_the_cpu(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.arange(3.0)}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickled = entries["a/data.pkl"]
    place = b"X\x03\0\0\0cpu"
    assert place in pickled
    entries["a/data.pkl"] = pickled.replace(place, b"X\x06\0\0\0cuda:7")
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    assert torch.equal(read(path)["a"], torch.arange(3.0))


def test_numbers_of_another_byte_order_are_turned(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.arange(3.0), "b": torch.tensor([1 + 2j])}, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["a/byteorder"] = b"big"
    for name in ("a/data/0", "a/data/1"):
        entries[name] = np.frombuffer(entries[name], "<f4").astype(">f4").tobytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    found = read(path)
    assert found["a"].tolist() == [0, 1, 2]
    assert found["b"].tolist() == [1 + 2j]


def test_a_file_without_checksums_is_read(tmp_path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({"a": torch.ones(3)}, tmp_path / "a.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert torch.equal(read(tmp_path / "a.pth")["a"], torch.ones(3))


def test_a_flipped_bit_in_the_numbers_is_noticed(tmp_path):
    path = tmp_path / "a.pth"
    torch.save({"a": torch.full((1000,), 3.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.full((9,), 3.0).numpy().tobytes())] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.pth.*does not match its checksum"):
        read(path)


@pytest.mark.parametrize("name", [*DTYPES[:5], *DTYPES[6:], *BARE])
def test_safetensors_are_read_as_its_own_library_reads_them(tmp_path, name):
    path = tmp_path / "a.safetensors"
    state = {"b": make(name), "a": make(name, ()), "none": make(name, (0, 2))}
    save_file(state, path, {"format": "pt"})
    expected, found = load_file(path), read(path)
    assert set(expected) == set(found)
    assert all(is_same(found[key], tensor) for key, tensor in expected.items())


def test_files_of_python_2_are_read(tmp_path):
    path = tmp_path / "a.pth"
    state = collections.OrderedDict(a=torch.ones(2))
    torch.save(state, path)
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    pickled = entries["a/data.pkl"]
    # Its ordered dicts are made of a list of pairs, and its strings are bytes.
    start, end = pickled.index(b")R"), pickled.index(b"ctorch._utils")
    stop = pickled.rindex(b"s")
    pairs = b"(]](U\x01a" + pickled[end:stop] + b"eatR"
    entries["a/data.pkl"] = pickled[:start] + pairs + b"."
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    expected = torch.load(path, weights_only=True)
    assert torch.equal(expected["a"], torch.ones(2))
    assert torch.equal(read(path)["a"], expected["a"])


def test_dicts_inside_a_file_are_kept_for_those_who_look_for_them(tmp_path):
    content = {"encoder": {"module.a": torch.ones(2)}, "b": torch.zeros(1), "n": 1}
    torch.save(content, tmp_path / "a.pth")
    with open_weights(tmp_path / "a.pth") as file:
        found = read_nested(tmp_path / "a.pth", file)
    assert set(found) == {"encoder", "b"}
    assert torch.equal(found["encoder"]["module.a"], torch.ones(2))


def test_only_tensors_under_names_are_read_into_memory(tmp_path, monkeypatch):
    content = {"a": torch.ones(2), "optimizer": {0: torch.zeros(10**6)}}
    torch.save(content, tmp_path / "a.pth")
    sizes = []
    monkeypatch.setattr(
        "sktransfer._networks.weights.formats.torch_files.read_numbers",
        lambda file, part, dtype, order: (sizes.append(part.size), torch.ones(2))[1],
    )
    read(tmp_path / "a.pth")
    assert sizes == [8]


def test_a_whole_network_is_read_bit_for_bit(tmp_path):
    state = make_stages("resnet18", 3, 0.0, (8, 8)).state_dict()
    for new in (True, False):
        path = tmp_path / f"{new}.pth"
        torch.save(state, path, _use_new_zipfile_serialization=new)
        assert os.path.getsize(path) > 4e7
        found = read(path)
        assert list(found) == list(state)
        assert all(torch.equal(found[name], state[name]) for name in state)
