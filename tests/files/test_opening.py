import hashlib
import os
import socket

import pytest

from sktransfer._files.opening import NotAFileError, hash_file, open_regular


def test_a_file_is_opened_and_hashed_from_its_beginning(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"content" * 500_000)
    with open_regular(path) as file:
        file.read(10)
        assert hash_file(file) == hashlib.sha256(path.read_bytes()).hexdigest()
        assert file.read(7) == b"content"


def test_a_link_to_a_file_is_followed(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with open_regular(tmp_path / "link") as file:
        assert file.read() == b"content"


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(NotAFileError, match=r"not a regular file: .*pipe"):
        open_regular(tmp_path / "pipe")


def test_a_device_is_refused():
    with pytest.raises(NotAFileError, match="not a regular file"):
        open_regular("/dev/zero")


def test_a_socket_is_refused(tmp_path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        with pytest.raises(NotAFileError, match="not a regular file"):
            open_regular(tmp_path / "socket")


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(NotAFileError, match="folder"):
        open_regular(tmp_path)


def test_a_missing_file_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "none")
