"""A rank that waits for the others says so, once the wait is long."""

import threading

from sktransfer._training.ranks import group


def test_a_rank_that_waits_long_says_so(monkeypatch):
    told, said = threading.Event(), []

    def warn(text, of_rank):
        said.append((text, of_rank))
        told.set()

    monkeypatch.setattr(group, "warn", warn)
    monkeypatch.setattr(group, "LONG_SECONDS", 0.01)
    with group._tell_of_waiting(3):
        assert told.wait(60)
    ((text, of_rank),) = said
    assert of_rank
    assert text.startswith("rank 3 has waited")
    assert "all of them have to call fit" in text


def test_a_rank_that_need_not_wait_says_nothing(monkeypatch):
    timers = []

    class Timer(threading.Timer):
        def __init__(self, *args):
            super().__init__(*args)
            timers.append(self)

    monkeypatch.setattr(group.threading, "Timer", Timer)
    with group._tell_of_waiting(0):
        pass
    assert [timer.finished.is_set() for timer in timers] == [True]
