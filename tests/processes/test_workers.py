"""Whether this process is a worker, without starting anything to find out."""

import sys
from types import SimpleNamespace

import pytest

from sktransfer._processes.workers import is_worker


def test_ray_is_not_started_to_find_out(monkeypatch):
    ray = SimpleNamespace(is_initialized=lambda: False, get_runtime_context=pytest.fail)
    monkeypatch.setitem(sys.modules, "ray", ray)
    assert not is_worker()


def test_libraries_that_are_just_being_imported_are_no_workers(monkeypatch):
    for name in ("ray", "distributed.worker"):
        monkeypatch.setitem(sys.modules, name, SimpleNamespace())
    assert not is_worker()
