"""The locks of Windows, with a stand-in for its C library."""

import errno
import importlib.util
import os
import sys

import pytest

KEYS = [n.to_bytes(4, "big") + bytes(12) for n in (0, 2, 2**31, 2**32 - 2)]


class Msvcrt:
    """Locks on bytes at the position of a descriptor, as Microsoft describes them.

    A byte that is locked is refused to everyone, whoever holds it; what is unlocked
    must be locked by the same descriptor.
    """

    LK_UNLCK, LK_NBLCK = 0, 2

    def __init__(self):
        self.holders = {}
        self.error = None

    def locking(self, descriptor, mode, n_bytes):
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        at = os.lseek(descriptor, 0, os.SEEK_CUR)
        assert n_bytes == 1
        assert at < 2**31
        holder = self.holders.get(at)
        if holder != (None if mode == self.LK_NBLCK else descriptor):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
        if mode == self.LK_NBLCK:
            self.holders[at] = descriptor
        else:
            del self.holders[at]


@pytest.fixture
def msvcrt():
    return Msvcrt()


def execute(name):
    """Return a new module of this name."""
    spec = importlib.util.find_spec(name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def leases(msvcrt, monkeypatch, tmp_path):
    """A function that opens the lock file as another process on Windows would."""
    locks = "sktransfer._processes.locks"
    with monkeypatch.context() as windows:
        windows.setattr(sys, "platform", "win32")
        windows.setitem(sys.modules, "msvcrt", msvcrt)
        windows.setitem(sys.modules, "fcntl", None)
        windows.setitem(sys.modules, locks, execute(locks))
        module = execute("sktransfer._activations.storage.leases")
    return lambda path=tmp_path / "leases": module.Leases(path)


def test_on_windows_a_key_that_another_process_has_taken_is_refused(leases):
    one, other = leases(), leases()
    assert [one.take(key) for key in KEYS] == [True] * 4
    assert [other.take(key) for key in KEYS] == [False] * 4


def test_on_windows_a_key_that_was_given_back_can_be_taken_again(leases):
    one, other = leases(), leases()
    assert all(one.take(key) for key in KEYS)
    one.give_back(KEYS[1:3])
    assert [other.take(key) for key in KEYS] == [False, True, True, False]


def test_on_windows_nothing_is_written_into_the_lock_file(leases):
    one = leases()
    assert one.take(KEYS[3])
    assert one.path.stat().st_size == 0


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOLCK, errno.EBADF])
def test_on_windows_a_file_system_without_locks_grants_all(leases, msvcrt, error):
    msvcrt.error = error
    one, other = leases(), leases()
    assert one.take(KEYS[0])
    assert other.take(KEYS[0])
    one.give_back(KEYS)


def test_on_windows_a_key_without_a_lock_does_not_keep_others_locked(leases, msvcrt):
    one, other = leases(), leases()
    msvcrt.error = errno.EINVAL
    assert one.take(KEYS[0])
    msvcrt.error = None
    assert one.take(KEYS[1])
    one.give_back(KEYS[:2])
    assert other.take(KEYS[1])


def test_on_windows_a_lock_file_that_cannot_be_opened_grants_all(
    leases, monkeypatch, tmp_path
):
    assert leases(tmp_path / "no" / "such" / "leases").take(KEYS[0])

    def refuse(*args):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    assert leases().take(KEYS[0])
