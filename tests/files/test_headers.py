import json
import math
import os
from io import FileIO

import pytest

from sktransfer._files import headers
from sktransfer._files.headers import (
    ITEM_BYTES,
    MOST_CONTAINERS,
    MOST_HEADER_BYTES,
    MOST_TENSORS,
    HeaderError,
    parse_json,
    read_header,
)
from tests.files.forging import join


def entry(dtype="F32", shape=(2, 2), begin=0, end=16, **more):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end], **more}


def read(tmp_path, packed):
    path = tmp_path / "file"
    path.write_bytes(packed)
    with FileIO(path) as file:
        return read_header(file)


def test_a_header_says_where_each_tensor_is(tmp_path):
    parts = {
        "b": entry(),
        "a": entry("U8", [3], 16, 19),
        "none": entry("I64", [0, 9], 19, 19),
    }
    packed = join({"__metadata__": {"k": "v"}, **parts}, bytes(19))
    header = read(tmp_path, packed)
    assert header.metadata == {"k": "v"}
    assert list(header.tensors) == ["b", "a", "none"]
    first = len(packed) - 19
    assert header.tensors["a"] == ("U8", (3,), first + 16, 3)


def test_files_of_the_library_are_read(tmp_path):
    import torch
    from safetensors.torch import save

    tensors = {"a": torch.zeros(3, 4), "b": torch.ones(5, dtype=torch.bfloat16)}
    header = read(tmp_path, save(tensors, {"who": "me"}))
    assert {n: e.shape for n, e in header.tensors.items()} == {"a": (3, 4), "b": (5,)}


@pytest.mark.parametrize("dtype", ITEM_BYTES)
def test_every_kind_of_number_has_its_size(tmp_path, dtype):
    n_bytes = 3 * ITEM_BYTES[dtype]
    packed = join({"a": entry(dtype, [3], 0, n_bytes)}, bytes(n_bytes))
    assert read(tmp_path, packed).tensors["a"].n_bytes == n_bytes


@pytest.mark.parametrize(
    ("packed", "message"),
    [
        (b"", "not a safetensors file"),
        (b"\x10\0\0", "not a safetensors file"),
        (bytes(8), "not a safetensors file"),
        (b"\x01\0\0\0\0\0\0\0{", "not a safetensors file"),
        (b"\xff" * 8 + b"{}", "cut off"),
        ((100 * 2**20).to_bytes(8, "little") + b"{}", "cut off"),
        (join({"a": entry()}, bytes(16))[:-20], "cut off"),
        (b"PK\x03\x04" + bytes(100), "cut off"),
        (join(b"[]"), "not a JSON object"),
        (join(b'"text"'), "not a JSON object"),
        (join(b"{]"), "cannot be read"),
        (join(b'{"a":\xff}'), "cannot be read"),
        (join(b'{"a":NaN}'), "holds NaN"),
        (join(b'{"a":-Infinity}'), "holds -Infinity"),
        (join(b'{"a":1,"a":1}'), "one name twice"),
        (join(b'{"b":{"a":1,"a":1}}'), "one name twice"),
        (join(b'{"a":' + b"[" * 60_000 + b"]" * 60_000 + b"}"), "nested too deeply"),
        (join(b'{"a":' + b"9" * 5_000 + b"}"), "cannot be read"),
        (join({"__metadata__": {"a": 1}}), "metadata are not texts"),
        (join({"__metadata__": ["a"]}), "metadata are not texts"),
        (join({"__metadata__": None}), "metadata are not texts"),
    ],
)
def test_what_is_no_header_is_refused(tmp_path, packed, message):
    with pytest.raises(HeaderError, match=message):
        read(tmp_path, packed)


@pytest.mark.parametrize(
    "item",
    [
        None,
        [],
        "text",
        {},
        {"dtype": "F32", "shape": [2, 2]},
        entry() | {"data_offsets": 16},
        entry() | {"data_offsets": [16]},
        entry() | {"data_offsets": [0, 8, 16]},
        entry() | {"data_offsets": {"0": 1, "16": 2}},
        entry() | {"data_offsets": [False, 16]},
        entry() | {"data_offsets": [0.0, 16]},
        entry() | {"data_offsets": ["0", "16"]},
        entry("F31"),
        entry(None),
        entry(["F32"]),
        entry(shape=None),
        entry(shape="22"),
        entry(shape={}),
        entry(shape=4),
        entry(shape=[2, 2.0]),
        entry(shape=[4, True]),
        entry(shape=[-2, -2]),
        entry(shape=[[2], 2]),
        entry(shape=[1] * 33 + [4]),
        entry(shape=[10**12]),
        entry(shape=[10**12, 10**12]),
        entry(shape=[0, 10**30], end=0),
        entry(shape=[0, 2**62, 2**62], end=0),
        entry(shape=[5]),
        entry("F64"),
        entry(begin=16, end=0),
        entry(begin=-16, end=0),
    ],
)
def test_impossible_tensors_are_refused(tmp_path, item):
    with pytest.raises(HeaderError, match="'a'"):
        read(tmp_path, join({"a": item}, bytes(16)))


@pytest.mark.parametrize(
    ("tensors", "n_bytes"),
    [
        ({"a": entry(begin=4, end=20)}, 20),  # a gap before
        ({"a": entry(), "b": entry(begin=20, end=36)}, 36),  # a gap between
        ({"a": entry()}, 17),  # a gap behind
        ({"a": entry(), "b": entry()}, 16),  # the same bytes
        ({"a": entry(), "b": entry(begin=8, end=24)}, 24),  # some of them
        ({"a": entry(), "b": entry(shape=[0], begin=8, end=8)}, 16),  # within another
        ({"a": entry()}, 15),  # cut off
        ({"a": entry()}, 0),
        ({}, 1),
    ],
)
def test_tensors_fill_the_file_without_overlap(tmp_path, tensors, n_bytes):
    with pytest.raises(HeaderError, match=r"overlap, or leave gaps|describes"):
        read(tmp_path, join(tensors, bytes(n_bytes)))


def test_a_header_beyond_the_bound_is_not_read(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes((MOST_HEADER_BYTES + 1).to_bytes(8, "little"))
    os.truncate(path, 100 * 2**20)
    monkeypatch.setattr(headers, "read_exactly", None)
    with FileIO(path) as file, pytest.raises(HeaderError, match="more than 4,194,304"):
        read_header(file)


def test_three_hundred_thousand_tensors_are_refused(tmp_path):
    text = json.dumps({"": entry(shape=[0], end=0)}).encode()[1:-1] + b","
    with pytest.raises(HeaderError, match="more than 4,194,304"):
        read(tmp_path, join(b"{" + text * 300_000 + b"}"))


def test_more_tensors_than_networks_have_are_refused(tmp_path):
    tensors = {f"{i}": entry(shape=[0], end=0) for i in range(MOST_TENSORS + 1)}
    with pytest.raises(HeaderError, match="20,001 tensors, more than 20,000"):
        read(tmp_path, join(tensors))
    del tensors["0"]
    assert len(read(tmp_path, join(tensors)).tensors) == MOST_TENSORS


@pytest.mark.parametrize(
    "part", [b"[],", b"{},", b'{"a":[0]},', b'"aa",', b"0,", b"1e9,"]
)
def test_a_text_of_many_small_parts_is_not_parsed(part, monkeypatch):
    monkeypatch.setattr(headers.json, "loads", None)
    n = 3 * 2**20 // len(part)
    with pytest.raises(HeaderError, match="too many parts"):
        parse_json(b"[" + part * n + b"0]")


def test_parts_within_the_bound_are_parsed():
    assert len(parse_json(json.dumps([[]] * (MOST_CONTAINERS - 1)).encode())) > 0
    assert math.isinf(parse_json(b"1e999"))


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    with FileIO(path) as file, pytest.raises(HeaderError, match="became shorter"):
        headers.read_exactly(file, 11)


def test_too_little_memory_is_an_error_of_the_file(tmp_path, monkeypatch):
    def fail(n_bytes):
        raise MemoryError

    monkeypatch.setattr(headers, "bytearray", fail, raising=False)
    path = tmp_path / "file"
    path.write_bytes(bytes(10))
    with FileIO(path) as file, pytest.raises(HeaderError, match="fit into memory"):
        headers.read_exactly(file, 10)
