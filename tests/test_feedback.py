"""Of processes that train together, one speaks for all."""

import sys
import warnings

import pytest

from sktransfer import _feedback
from sktransfer._feedback import is_shown, warn


def be_rank(number, monkeypatch):
    values = {"RANK": str(number), "WORLD_SIZE": "2"}
    for name, value in {**values, "MASTER_ADDR": "::1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("number", [0, 1])
def test_the_first_rank_alone_draws_bars(number, monkeypatch):
    monkeypatch.setattr(_feedback, "_find_terminal", lambda: sys.stderr)
    be_rank(number, monkeypatch)
    assert is_shown(1) == (number == 0)


@pytest.mark.parametrize("number", [0, 1])
def test_the_first_rank_alone_warns_of_what_concerns_all(number, monkeypatch):
    be_rank(number, monkeypatch)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warn("all images are grey")
    assert len(said) == (number == 0)


def test_every_rank_warns_of_what_concerns_it_alone(monkeypatch):
    be_rank(1, monkeypatch)
    with pytest.warns(UserWarning, match="the folder is full"):
        warn("the folder is full", of_rank=True)
