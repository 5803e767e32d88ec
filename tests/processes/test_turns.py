"""Processes compute on one GPU in turn, and nobody waits for ever."""

import multiprocessing
import os
import signal
import stat
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from sktransfer._processes import turns
from sktransfer._processes.turns import AT_ONCE, take_turn

GPU = "GPU-of-nobody"
spawn = multiprocessing.get_context("spawn")
needs_signals = pytest.mark.skipif(
    os.name == "nt", reason="nothing kills without notice here"
)


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    """A folder for temporary files, also of the processes that are started."""
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(turns, "_turns", {})
    monkeypatch.delenv(AT_ONCE, raising=False)


def until(path, seconds=60.0):
    """Wait for a file."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, path
        time.sleep(0.01)


def enter(folder, name, wait_for, gpu):
    """Take a turn; leave signs of having waited and entered."""
    turns.LONG_SECONDS = 0.0
    with take_turn(gpu, (folder / f"{name} waits").touch):
        (folder / f"{name} entered").touch()
        if wait_for is not None:
            until(folder / wait_for)


def started(folder, name, wait_for=None, gpu=GPU):
    args = folder, name, wait_for, gpu
    process = spawn.Process(target=enter, args=args, daemon=True)
    process.start()
    return process


def ended(process):
    process.join(60)
    return process.exitcode == 0


def test_a_process_waits_until_the_turn_of_another_one_ends(tmp_path):
    with take_turn(GPU, pytest.fail):
        other = started(tmp_path, "b")
        until(tmp_path / "b waits")
        assert not (tmp_path / "b entered").exists()
    assert ended(other)
    assert (tmp_path / "b entered").exists()


def test_two_processes_compute_at_once_if_the_environment_allows_two(
    tmp_path, monkeypatch
):
    monkeypatch.setenv(AT_ONCE, "2")
    with take_turn(GPU, pytest.fail):
        both = started(tmp_path, "b", "c waits")
        until(tmp_path / "b entered")
        third = started(tmp_path, "c")
        until(tmp_path / "c waits")
        assert ended(both)
        assert ended(third)


@needs_signals
def test_the_turn_of_a_process_that_is_killed_is_free(tmp_path):
    other = started(tmp_path, "b", "never")
    until(tmp_path / "b entered")
    os.kill(other.pid, signal.SIGKILL)
    with take_turn(GPU, lambda: None):
        pass


def test_who_waits_goes_before_who_has_just_left(tmp_path):
    order = []
    with take_turn(GPU, pytest.fail):
        other = started(tmp_path, "b")
        until(tmp_path / "b waits")
    with take_turn(GPU, lambda: None):
        order.append((tmp_path / "b entered").exists())
    assert ended(other)
    assert order == [True]


def test_turns_within_a_turn_do_not_wait_even_for_another_gpu(tmp_path):
    with take_turn(GPU, pytest.fail):
        # It stands at the head of the queue.
        one = started(tmp_path, "b")
        until(tmp_path / "b waits")
        other = started(tmp_path, "c", "the end", "GPU-of-others")
        until(tmp_path / "c entered")
        with take_turn(GPU, pytest.fail), take_turn("GPU-of-others", pytest.fail):
            assert other.is_alive()
        assert not (tmp_path / "b entered").exists()
        (tmp_path / "the end").touch()
    assert ended(one)
    assert ended(other)


def test_threads_of_a_process_share_its_turn(tmp_path):
    inside = threading.Barrier(2, timeout=60)

    def compute():
        with take_turn(GPU, pytest.fail):
            inside.wait()

    thread = threading.Thread(target=compute)
    thread.start()
    compute()
    thread.join()
    other = started(tmp_path, "b")
    assert ended(other)


def test_the_turn_lasts_as_long_as_one_thread_is_inside(tmp_path):
    may_leave, is_inside = threading.Event(), threading.Event()

    def compute():
        with take_turn(GPU, pytest.fail):
            is_inside.set()
            may_leave.wait(60)

    with take_turn(GPU, pytest.fail):
        thread = threading.Thread(target=compute)
        thread.start()
        assert is_inside.wait(60)
    other = started(tmp_path, "b")
    until(tmp_path / "b waits")
    assert not (tmp_path / "b entered").exists()
    may_leave.set()
    thread.join()
    assert ended(other)


def test_an_error_ends_the_turn(tmp_path):
    with pytest.raises(ZeroDivisionError), take_turn(GPU, pytest.fail):
        raise ZeroDivisionError
    assert ended(started(tmp_path, "b"))


@pytest.mark.parametrize("value", ["0", "two", "-1", "1.5"])
def test_a_limit_that_is_no_number_from_1_is_an_error(monkeypatch, value):
    monkeypatch.setenv(AT_ONCE, value)
    with pytest.raises(ValueError, match=rf"{AT_ONCE}='{value}' must be a whole"):
        take_turn(GPU, pytest.fail).__enter__()


@pytest.mark.skipif(sys.platform == "win32", reason="no modes here")
def test_the_folder_of_locks_is_private(tmp_path):
    with take_turn(GPU, pytest.fail):
        (folder,) = tmp_path.iterdir()
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.skipif(sys.platform == "win32", reason="no modes here")
def test_a_folder_that_others_may_write_to_is_not_used(tmp_path):
    folder = tmp_path / f"sktransfer-{os.geteuid()}"
    folder.mkdir()
    folder.chmod(0o777)
    with take_turn(GPU, pytest.fail):
        assert list(folder.iterdir()) == []


def test_without_a_folder_nobody_waits(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "no" / "such"))
    with take_turn(GPU, pytest.fail):
        assert list(tmp_path.iterdir()) == []


def test_without_locks_nobody_waits(monkeypatch):
    def fail(*args):
        raise OSError("no locks here")

    monkeypatch.setattr(turns, "lock_byte", fail)
    with take_turn(GPU, pytest.fail):
        pass
    with take_turn(GPU, pytest.fail):
        pass


def test_the_name_of_a_gpu_cannot_lead_out_of_the_folder(tmp_path):
    with take_turn("../../x/y", pytest.fail):
        (file,) = (path for path in tmp_path.rglob("*") if path.is_file())
    assert file.parent.parent == Path(tmp_path)
