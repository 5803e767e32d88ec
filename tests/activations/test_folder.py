"""Activations on disk: right or absent, whatever happens to processes and files."""

import multiprocessing
import os
import signal
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from sktransfer._activations.storage.claims import DamagedError
from sktransfer._activations.storage.folder import MARKER, Folder
from sktransfer._activations.storage.identity import NAME as IDENTITY
from sktransfer._activations.storage.leases import Leases
from sktransfer._activations.storage.segments import (
    pack,
    read_rows,
    read_segment,
)
from tests.helpers import files

try:
    import resource
except ImportError:  # Windows
    resource = None

SPACE = "a" * 32
fork = multiprocessing.get_context("fork" if hasattr(os, "fork") else None)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def keys_of(numbers):
    return [int(number).to_bytes(16, "big") for number in numbers]


def rows_of(numbers, n_values=50):
    """Rows that their number decides."""
    numbers = torch.tensor(list(numbers), dtype=torch.float32)
    return numbers[:, None] + torch.arange(n_values) / 1000


def opened(path, max_bytes="auto", said=None):
    store = Folder(Path(path), max_bytes, [].append if said is None else said.append)
    store.prepare()
    return store


def filled(path, n_files=4, n_rows=8, **options):
    store = opened(path, **options)
    for first in range(0, n_files * n_rows, n_rows):
        numbers = range(first, first + n_rows)
        assert store.write(SPACE, keys_of(numbers), rows_of(numbers))
    return store


def assert_right_or_absent(path, n):
    """Read all n rows with a new store; returns how many are there."""
    store = opened(path)
    keys = keys_of(range(n))
    store.find(SPACE, keys)
    rows, found = store.read(SPACE, keys)
    if rows is not None:
        at = np.flatnonzero(found)
        assert torch.equal(rows[torch.from_numpy(at)], rows_of(at))
    return int(found.sum())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_was_written_is_read_by_another_store(tmp_path, dtype):
    rows = rows_of(range(6)).reshape(6, 2, 5, 5).to(dtype)
    opened(tmp_path).write(SPACE, keys_of(range(6)), rows)
    other = opened(tmp_path)
    wanted = keys_of([4, 9, 0])
    assert other.find(SPACE, wanted).tolist() == [True, False, True]
    got, found = other.read(SPACE, wanted)
    assert found.tolist() == [True, False, True]
    assert got.dtype == dtype
    assert torch.equal(got[[0, 2]], rows[[4, 0]])
    assert not other.find("b" * 32, wanted).any()


def test_files_are_safetensors_with_nothing_but_numbers(tmp_path):
    filled(tmp_path, n_files=1)
    with safe_open(files(tmp_path)[0], "pt") as file:
        assert set(file.keys()) == {"activations", "crc32", "keys"}
        assert torch.equal(file.get_tensor("activations"), rows_of(range(8)))


def test_a_flipped_bit_or_a_lost_end_makes_rows_absent_never_wrong(tmp_path):
    chance = np.random.default_rng(0)
    content = pack(keys_of(range(8)), rows_of(range(8)))
    path = tmp_path / "one"
    n_damaged = 0
    for trial in range(600):
        changed = bytearray(content)
        if trial % 3:
            at = int(chance.integers(400 if trial % 2 else len(content)))
            changed[at] ^= 1 << int(chance.integers(8))
        else:
            del changed[int(chance.integers(len(content))) :]
        path.write_bytes(changed)
        try:
            segment = read_segment(path)
            rows, is_right = read_rows(path, segment, range(len(segment.keys)))
        except DamagedError:
            n_damaged += 1
            continue
        n_damaged += int(not is_right.all())
        for key, row, right in zip(segment.keys, rows, is_right, strict=True):
            if right:
                number = int.from_bytes(key, "big")
                assert torch.equal(row, rows_of([number])[0])
    assert n_damaged > 500  # the others hit padding or the unread metadata


def test_damaged_files_are_told_of_once_and_what_they_held_can_be_written_again(
    tmp_path,
):
    filled(tmp_path)
    for i, path in enumerate(files(tmp_path)):
        content = bytearray(path.read_bytes())
        if i == 0:
            content[-200] ^= 1  # a row
        elif i == 1:
            content[10] ^= 255  # the header
        elif i == 2:
            del content[-100:]
        path.write_bytes(content)
    said = []
    store = opened(tmp_path, said=said)
    keys = keys_of(range(32))
    store.find(SPACE, keys)
    rows, found = store.read(SPACE, keys)
    assert 8 <= found.sum() < 16
    at = np.flatnonzero(found)
    assert torch.equal(rows[torch.from_numpy(at)], rows_of(at))
    assert len(said) == 1
    assert "is damaged" in said[0]
    lost = np.flatnonzero(~store.find(SPACE, keys))
    assert store.write(SPACE, [keys[i] for i in lost], rows_of(lost))
    assert assert_right_or_absent(tmp_path, 32) == 32


def test_files_that_vanish_or_shrink_while_in_use_are_absent(tmp_path):
    store = filled(tmp_path)
    keys = keys_of(range(32))
    first, second, *_ = files(tmp_path)
    first.unlink()
    os.truncate(second, 300)
    rows, found = store.read(SPACE, keys)
    assert found.sum() == 16
    at = np.flatnonzero(found)
    assert torch.equal(rows[torch.from_numpy(at)], rows_of(at))


def write_for_ever(path, first, done):
    """Publish rows until killed; say of each file when it was published."""
    store = opened(path)
    for start in range(first, first + 100_000, 8):
        numbers = range(start, start + 8)
        store.write(SPACE, keys_of(numbers), rows_of(numbers, 2000))
        done.send(start)


@needs_fork
def test_fifty_killed_writers_lose_no_published_row_and_publish_no_wrong_one(tmp_path):
    chance = np.random.default_rng(0)
    published = []
    for kill in range(50):
        receive, send = fork.Pipe(duplex=False)
        writer = fork.Process(
            target=write_for_ever,
            args=(tmp_path, kill * 1_000_000, send),
            daemon=True,
        )
        writer.start()
        published.append(receive.recv())
        time.sleep(chance.uniform(0, 0.02))
        os.kill(writer.pid, signal.SIGKILL)
        writer.join()
        send.close()
        try:
            while True:
                published.append(receive.recv())
        except EOFError:
            receive.close()
    numbers = [start + i for start in published for i in range(8)]
    store = opened(tmp_path)
    assert store.find(SPACE, keys_of(numbers)).all()
    rows, found = store.read(SPACE, keys_of(numbers))
    assert found.all()
    assert torch.equal(rows, rows_of(numbers, 2000))
    # What was published but not yet said is whole too.
    every = list(store._rows[SPACE])
    rows, found = store.read(SPACE, every)
    assert found.all()
    assert torch.equal(rows, rows_of([int.from_bytes(k, "big") for k in every], 2000))


def hold(path, keys, ready):
    leases = Leases(path / "leases")
    for key in keys:
        assert leases.take(key)
    ready.send(True)
    time.sleep(600)


@needs_fork
def test_a_lease_excludes_other_processes_and_dies_with_its_own(tmp_path):
    keys = keys_of(i << 80 for i in range(4))
    receive, send = fork.Pipe(duplex=False)
    holder = fork.Process(target=hold, args=(tmp_path, keys[:2], send), daemon=True)
    holder.start()
    receive.recv()
    leases = Leases(tmp_path / "leases")
    assert [leases.take(key) for key in keys] == [False, False, True, True]
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    assert leases.take(keys[0])
    leases.give_back(keys)
    assert leases.take(keys[0])


def test_where_there_is_no_lock_file_leases_are_granted(tmp_path):
    assert Leases(tmp_path / "no" / "such" / "leases").take(b"0" * 16)


def test_what_was_used_least_recently_makes_room(tmp_path):
    store = filled(tmp_path, n_files=3)
    size = files(tmp_path)[0].stat().st_size
    for age, path in zip((100, 300, 200), files(tmp_path), strict=True):
        os.utime(path, (time.time() - age,) * 2)
    reader = opened(tmp_path, 3 * size)
    reader.find(SPACE, keys_of(range(24)))
    reader.read(SPACE, keys_of([9]))  # uses the second file, the oldest
    more = range(100, 108)
    assert reader.write(SPACE, keys_of(more), rows_of(more))
    assert len(files(tmp_path)) == 3
    still = opened(tmp_path).find(SPACE, keys_of([0, 9, 17, 100]))
    assert still.tolist() == [True, True, False, True]
    # A store that knew the deleted file takes its rows for absent.
    assert store.read(SPACE, keys_of([17]))[1].tolist() == [False]


def test_a_limit_below_one_file_warns_once_and_writes_nothing(tmp_path):
    said = []
    store = opened(tmp_path, 100, said)
    for _ in range(2):
        assert not store.write(SPACE, keys_of([1]), rows_of([1]))
    assert len(said) == 1
    assert "max_disk_bytes=100" in said[0]
    assert not files(tmp_path)


@pytest.mark.skipif(resource is None, reason="no limit on files here")
def test_a_full_disk_warns_once_and_leaves_no_half_file(tmp_path):
    said = []
    store = filled(tmp_path, n_files=1, said=said)
    before = sorted(tmp_path.rglob("*"))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        for _ in range(2):
            assert not store.write(SPACE, keys_of([100]), rows_of([100], 5000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(said) == 1
    assert "kept in memory alone from now on" in said[0]
    assert sorted(tmp_path.rglob("*")) == before
    assert store.read(SPACE, keys_of([3]))[1].all()


def test_what_a_dead_writer_left_behind_is_swept_away_later(tmp_path):
    store = filled(tmp_path, n_files=1)
    old, new = (tmp_path / SPACE / f".writing-{c * 16}" for c in "ab")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (time.time() - 10_000,) * 2)
    store.n_bytes()
    assert not old.exists()
    assert new.exists()


def test_clear_deletes_its_own_files_and_nothing_else(tmp_path):
    store = filled(tmp_path)
    foreign = [
        tmp_path / "thesis.txt",
        tmp_path / SPACE / "weights.safetensors",
        tmp_path / SPACE / "notes-1-2.safetensors",
        tmp_path / ("c" * 32) / "photo.jpg",
        tmp_path / "photos" / "1-2-0123abcd.safetensors",
        tmp_path / ("d" * 32),
    ]
    for path in foreign:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    store.clear()
    assert [path for path in foreign if not path.exists()] == []
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {MARKER, IDENTITY, *(path.name for path in foreign)}
    assert not store.find(SPACE, keys_of(range(32))).any()
    assert assert_right_or_absent(tmp_path, 32) == 0


def test_clear_leaves_a_folder_alone_that_lost_its_mark(tmp_path):
    store = filled(tmp_path)
    (tmp_path / MARKER).unlink()
    store.clear()
    assert len(files(tmp_path)) == 4


def test_foreign_files_are_not_read(tmp_path):
    said = []
    filled(tmp_path)
    (tmp_path / SPACE / "other.safetensors").write_bytes(b"no such thing")
    (tmp_path / SPACE / "1-2-0123abcd.safetensors").mkdir()
    store = opened(tmp_path, said=said)
    assert store.find(SPACE, keys_of(range(32))).all()
    assert len(said) == 1  # of the folder with a name that this store gives


def test_a_file_or_a_folder_of_something_else_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="file' is a file; pass a folder"):
        opened(tmp_path / "file")
    with pytest.raises(ValueError, match="holds other things"):
        opened(tmp_path)


def test_a_folder_that_cannot_be_made_warns(tmp_path):
    (tmp_path / "file").write_text("x")
    said = []
    store = opened(tmp_path / "file" / "cache", said=said)
    assert not store.write(SPACE, keys_of([1]), rows_of([1]))
    assert not store.find(SPACE, keys_of([1])).any()
    assert len(said) == 1


def test_the_folder_is_marked_for_backup_programs_and_private(tmp_path):
    opened(tmp_path / "deep" / "cache")
    folder = tmp_path / "deep" / "cache"
    tag = (folder / MARKER).read_text()
    assert tag.startswith("Signature: 8a477f597d28d172789f06886806bc55")
    assert folder.stat().st_mode & 0o077 == 0


def test_nothing_warns_by_itself(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        filled(tmp_path)
        assert assert_right_or_absent(tmp_path, 32) == 32


def test_the_length_of_keys_is_read_from_the_file(tmp_path):
    path = tmp_path / "long_keys.safetensors"
    long_keys = [key + key for key in keys_of(range(5))]
    path.write_bytes(pack(long_keys, rows_of(range(5))))
    segment = read_segment(path)
    assert segment.keys == long_keys
    rows, is_right = read_rows(path, segment, range(5))
    assert is_right.all()
    assert torch.equal(rows, rows_of(range(5)))
