"""Files and folders of somebody else's making: refused, ignored, never believed."""

import json
import os
import socket
import stat
import tracemalloc
from contextlib import chdir
from pathlib import Path
from random import Random

import pytest
import torch

from sktransfer._activations.storage import ownership
from sktransfer._activations.storage.claims import (
    MOST_KEY_BYTES,
    MOST_ROW_BYTES,
    MOST_ROWS,
    DamagedError,
)
from sktransfer._activations.storage.folder import MARKER, Folder
from sktransfer._activations.storage.leases import Leases
from sktransfer._activations.storage.segments import pack, read_segment
from tests.activations.mutants import make_originals, mutate, read_all
from tests.activations.test_folder import (
    SPACE,
    assert_right_or_absent,
    filled,
    keys_of,
    opened,
    rows_of,
)
from tests.helpers import files

NAME = "1-2-0123abcd.safetensors"
N_MUTANTS = 5000
# A file takes a few kilobytes; its header may take 100, and as Python objects more.
MOST_MEMORY = 16 * 2**20

needs_modes = pytest.mark.skipif(os.name == "nt", reason="no modes here")


def make_pipe(path):
    os.mkfifo(path)


def make_socket(path):
    with chdir(path.parent), socket.socket(socket.AF_UNIX) as server:
        server.bind(path.name)  # a long path is refused


def make_device(path):
    path.symlink_to("/dev/zero")


odd_files = pytest.mark.parametrize("make", [make_pipe, make_socket, make_device])


@needs_modes
@odd_files
def test_what_is_no_file_is_not_waited_for_where_rows_are_expected(tmp_path, make):
    said = []
    filled(tmp_path)
    make(tmp_path / SPACE / NAME)
    store = opened(tmp_path, said=said)
    keys = keys_of(range(32))
    assert store.find(SPACE, keys).all()
    assert store.read(SPACE, keys)[1].all()
    store.n_bytes()
    assert [NAME in text for text in said] == [make is not make_device] * len(said)


@needs_modes
def test_a_file_that_becomes_a_pipe_while_in_use_is_absent(tmp_path):
    store = filled(tmp_path)
    first, *_ = files(tmp_path)
    first.unlink()
    os.mkfifo(first)
    rows, found = store.read(SPACE, keys_of(range(32)))
    assert found.sum() == 24
    assert torch.equal(rows[8:], rows_of(range(8, 32)))


@needs_modes
@odd_files
def test_what_is_no_file_in_place_of_the_mark_marks_nothing(tmp_path, make):
    filled(tmp_path)
    (tmp_path / MARKER).unlink()
    make(tmp_path / MARKER)
    with pytest.raises(ValueError, match="holds other things"):
        opened(tmp_path)


@needs_modes
@odd_files
def test_what_is_no_file_in_place_of_the_lock_file_locks_nothing(tmp_path, make):
    make(tmp_path / "leases")
    leases = Leases(tmp_path / "leases")
    assert leases.take(b"0" * 16)
    assert leases.descriptor is None


def test_a_link_in_place_of_the_lock_file_makes_no_file_elsewhere(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "leases").symlink_to(tmp_path / "elsewhere")
    assert Leases(tmp_path / "cache" / "leases").take(b"0" * 16)
    assert not (tmp_path / "elsewhere").exists()


@needs_modes
def test_a_folder_that_everybody_may_write_to_is_refused(tmp_path):
    filled(tmp_path / "cache")
    for mode in (0o707, 0o777, 0o1777):
        (tmp_path / "cache").chmod(mode)
        with pytest.raises(ValueError, match=r"by everybody.*chmod 700"):
            opened(tmp_path / "cache")


@needs_modes
def test_a_folder_of_another_user_is_refused(tmp_path, monkeypatch):
    filled(tmp_path / "cache")
    mine = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: mine + 1000)
    monkeypatch.setattr(Path, "stat", owned_by(mine + 2000))
    with pytest.raises(ValueError, match=f"the user of number {mine + 2000}.*mode 7"):
        opened(tmp_path / "cache")


@needs_modes
def test_a_folder_of_another_user_that_a_group_of_ours_may_write_to_is_told_of(
    tmp_path, monkeypatch
):
    filled(tmp_path / "cache")
    (tmp_path / "cache").chmod(0o770)
    monkeypatch.setattr(Path, "stat", owned_by(os.geteuid() + 2000))
    said = []
    store = opened(tmp_path / "cache", said=said)
    assert store.find(SPACE, keys_of(range(32))).all()
    assert len(said) == 1
    assert "shared with a group (mode 770)" in said[0]
    group = (tmp_path / "cache").lstat().st_gid
    monkeypatch.setattr(os, "getegid", lambda: group + 1)
    monkeypatch.setattr(os, "getgroups", lambda: [group + 2])
    with pytest.raises(ValueError, match="belongs to the user of number"):
        opened(tmp_path / "cache")


@needs_modes
def test_a_folder_of_the_administrator_is_trusted(tmp_path, monkeypatch):
    filled(tmp_path / "cache")
    monkeypatch.setattr(os, "geteuid", lambda: 4321)
    monkeypatch.setattr(Path, "stat", owned_by(0))
    assert opened(tmp_path / "cache").find(SPACE, keys_of([0])).all()


def owned_by(number):
    """What `Path.stat` would say if every file belonged to this user."""
    stat_of = Path.stat

    def stat(path, **kwargs):
        status = list(stat_of(path, **kwargs))
        status[4] = number
        return os.stat_result(status)

    return stat


@needs_modes
def test_in_a_folder_of_a_group_its_members_can_use_everything(tmp_path):
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o2770)
    before = os.umask(0o077)
    try:
        store = filled(tmp_path / "cache")
        store.leases.take(b"0" * 16)
    finally:
        os.umask(before)
    space = tmp_path / "cache" / SPACE
    modes = [stat.S_IMODE(p.stat().st_mode) for p in (space, files(space)[0])]
    assert modes == [0o2770, 0o640]
    assert stat.S_IMODE((tmp_path / "cache" / "leases").stat().st_mode) == 0o660


def test_a_linked_sub_folder_is_neither_read_nor_written_nor_cleared(tmp_path):
    filled(tmp_path / "other")
    store = opened(tmp_path / "cache", said=(said := []))
    (tmp_path / "cache" / SPACE).symlink_to(tmp_path / "other" / SPACE)
    assert not store.find(SPACE, keys_of(range(32))).any()
    assert not store.write(SPACE, keys_of([100]), rows_of([100]))
    assert len(said) == 1
    assert "cannot be written to" in said[0]
    store.clear()
    assert len(files(tmp_path / "other")) == 4
    assert store.n_bytes() == 0


def test_a_linked_file_is_neither_read_nor_deleted_nor_touched(tmp_path):
    filled(tmp_path / "other", n_files=1)
    (theirs,) = files(tmp_path / "other")
    os.utime(theirs, (1000, 1000))
    store = opened(tmp_path / "cache")
    (tmp_path / "cache" / SPACE).mkdir()
    link = tmp_path / "cache" / SPACE / NAME
    link.symlink_to(theirs)
    assert not store.find(SPACE, keys_of(range(8))).any()
    store.clear()
    assert link.is_symlink()
    assert theirs.stat().st_mtime == 1000


def test_a_marked_folder_that_is_itself_reached_by_a_link_is_used(tmp_path):
    filled(tmp_path / "cache")
    (tmp_path / "link").symlink_to(tmp_path / "cache")
    assert opened(tmp_path / "link").find(SPACE, keys_of(range(32))).all()


def forge(path, header, n_payload=0):
    """Write a file with this header; what follows is a hole, not bytes on a disk."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + n_payload)
    return path


def claim(n=1, shape=(4,), dtype="F32", n_bytes=16, key_bytes=16):
    """A header that agrees with itself, and the number of bytes that follow it."""
    crc, rows = 8 * n, 8 * n + n_bytes
    header = {
        "crc32": {"dtype": "I64", "shape": [n], "data_offsets": [0, crc]},
        "activations": {
            "dtype": dtype,
            "shape": [n, *shape],
            "data_offsets": [crc, rows],
        },
        "keys": {
            "dtype": "U8",
            "shape": [n * key_bytes],
            "data_offsets": [rows, rows + n * key_bytes],
        },
    }
    return header, rows + n * key_bytes


def test_a_claim_that_its_file_bears_out_is_read(tmp_path):
    segment = read_segment(forge(tmp_path / "file", *claim()))
    assert segment.keys == [bytes(16)]
    assert segment.shape == (4,)


@pytest.mark.parametrize(
    "parts",
    [
        {"n": 0, "n_bytes": 0},
        {"shape": (0,), "n_bytes": 0},
        {"key_bytes": 0},
        {"key_bytes": MOST_KEY_BYTES + 1},
        {"n": MOST_ROWS + 1, "n_bytes": 16 * (MOST_ROWS + 1)},
        {"shape": (MOST_ROW_BYTES,), "n_bytes": 4 * MOST_ROW_BYTES},
        {"shape": (10**12, 10**12)},
        {"shape": (10**12,), "n_bytes": 4 * 10**12},
        {"shape": (5,)},
        {"shape": (4.0,)},
        {"shape": (True,), "n_bytes": 4},
        {"shape": (-2, -2)},
        {"shape": (4, *[1] * 20)},
        {"dtype": "F64", "n_bytes": 32},
        {"dtype": ["F32"]},
    ],
)
def test_claims_that_cannot_be_true_are_refused_before_anything_is_read(
    tmp_path, parts
):
    path = forge(tmp_path / "file", *claim(**parts))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError):
            read_segment(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("shape", None),
        ("shape", {}),
        ("data_offsets", [0]),
        ("data_offsets", [1, 9]),
        ("data_offsets", [8, 0]),
        ("data_offsets", [0, 16]),
        ("dtype", "F32"),
        ("more", 1),
    ],
)
def test_parts_with_gaps_overlaps_or_other_words_are_refused(tmp_path, name, value):
    header, n_bytes = claim()
    header["crc32"][name] = value
    with pytest.raises(DamagedError):
        read_segment(forge(tmp_path / "file", header, n_bytes))


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"null",
        b"{" * 90_000,
        b'{"a": ' + b"[" * 40_000 + b"]" * 40_000 + b"}",
        b'{"crc32": {}, "crc32": {}}',
        b'{"crc32": NaN}',
        b'{"crc32": ' + b"9" * 90_000 + b"}",
        b"\xff\xfe{}",
        b" " * 200_000,
        b"",
    ],
)
def test_a_header_that_is_no_object_of_json_is_refused(tmp_path, text):
    with pytest.raises(DamagedError):
        read_segment(forge(tmp_path / "file", text, 1000))


def test_a_part_that_belongs_to_nothing_is_refused(tmp_path):
    header, n_bytes = claim()
    header["other"] = {
        "dtype": "U8",
        "shape": [9],
        "data_offsets": [n_bytes, n_bytes + 9],
    }
    with pytest.raises(DamagedError, match="4 tensors, more than 3"):
        read_segment(forge(tmp_path / "file", header, n_bytes + 9))


def test_thousands_of_damaged_files_give_no_wrong_row_no_other_error_and_no_memory(
    tmp_path,
):
    rng = Random(0)
    originals, known = make_originals()
    path, n_whole = tmp_path / "file", 0
    tracemalloc.start()
    try:
        for _ in range(N_MUTANTS):
            path.write_bytes(mutate(rng, originals))
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            n_whole += read_all(path, known) > 0
            assert tracemalloc.get_traced_memory()[1] - before < MOST_MEMORY
    finally:
        tracemalloc.stop()
    # Neither too much nor too little damage to find anything.
    assert N_MUTANTS / 20 < n_whole < N_MUTANTS * 19 / 20


def test_no_byte_and_no_end_of_a_file_of_rows_can_be_changed_unnoticed(tmp_path):
    filled(tmp_path / "whole", n_files=1)
    content = files(tmp_path / "whole")[0].read_bytes()
    rng, path = Random(0), tmp_path / "cache" / SPACE / NAME
    opened(tmp_path / "cache")
    path.parent.mkdir()
    n_right = []
    for trial in range(1200):
        changed = bytearray(content)
        if trial < 1000:
            changed[rng.randrange(len(content))] ^= rng.randrange(1, 256)
        else:
            del changed[rng.randrange(len(content)) :]
        path.write_bytes(changed)
        n_right.append(assert_right_or_absent(tmp_path / "cache", 8))
    assert set(n_right) <= set(range(9))
    assert max(n_right[1000:]) == 0


def test_rows_that_no_reader_would_take_are_not_written(tmp_path):
    store = opened(tmp_path)
    assert not store.write(SPACE, keys_of([1]), torch.zeros(1, 0))
    giant = torch.zeros(1).expand(1, MOST_ROW_BYTES // 4 + 1)
    assert not store.write(SPACE, keys_of([1]), giant)
    assert not files(tmp_path)
    assert read_segment(written(tmp_path, torch.zeros(1, 1))).shape == (1,)


def written(folder, rows):
    path = folder / "rows"
    path.write_bytes(pack(keys_of(range(len(rows))), rows))
    return path


def test_nothing_is_asked_about_owners_where_there_are_none(tmp_path, monkeypatch):
    monkeypatch.setattr(ownership.sys, "platform", "win32")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache").chmod(0o777)
    Folder(tmp_path / "cache", "auto", [].append).prepare()
