import os
import time
from pathlib import Path

import pytest

from sktransfer._files.opening import NotAFileError
from sktransfer._files.replacing import ABANDONED_SECONDS, replace_file, write_all


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_old_file_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with replace_file(path) as file:
        write_all(file, [b"n", memoryview(b"ew")])
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_after_an_error_the_old_file_is_there_and_nothing_else(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write_half():
        with replace_file(path) as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        write_half()
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "there" / "file")
    with replace_file(tmp_path / "link") as file:
        file.write(b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there" / "file").read_bytes() == b"new"


def test_new_files_have_the_mode_that_the_user_asks_for(tmp_path):
    before = os.umask(0o027)
    try:
        with replace_file(tmp_path / "file"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


def test_the_new_file_has_the_mode_of_the_old_one(tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "file").chmod(0o600)
    with replace_file(tmp_path / "file"):
        pass
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_what_is_no_file_is_not_replaced(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/null")):
        with pytest.raises(NotAFileError), replace_file(path):
            pass
    assert names(tmp_path) == ["pipe"]


def test_only_what_a_dead_process_left_is_swept(tmp_path):
    name = "[a]*"
    left = tmp_path / f".{name}.writing-{'0' * 16}"
    others = [
        tmp_path / f".{name}.writing-{'1' * 16}",  # is written just now
        tmp_path / f".{name}.writing-more-of-the-users",
        tmp_path / f".a.writing-{'0' * 16}",  # of another file
    ]
    for path in [left, *others]:
        path.write_bytes(b"half")
    then = time.time() - ABANDONED_SECONDS - 60
    for path in [left, *others[1:]]:
        os.utime(path, (then, then))
    with replace_file(tmp_path / name):
        pass
    assert not left.exists()
    assert all(path.exists() for path in others)


def test_without_a_folder_there_is_no_file(tmp_path):
    with pytest.raises(FileNotFoundError), replace_file(tmp_path / "none" / "file"):
        pass
