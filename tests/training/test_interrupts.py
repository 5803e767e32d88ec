"""Ctrl-C at any moment: it ends a fit, and breaks no later one."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from sktransfer._training.faults.interrupts import finish_imports

needs_signals = pytest.mark.skipif(os.name == "nt", reason="no SIGINT to oneself here")

# Nothing may be imported before the first fit. Moments are drawn from the first two
# seconds, in which torch, torchvision and timm are imported for the first time.
PROGRAM = """
import os, random, signal, sys, threading, time
import numpy as np
from sktransfer import TransferClassifier
assert "torch" not in sys.modules
rng, n_interrupts = random.Random(int(sys.argv[1])), 0
X = np.random.default_rng(0).integers(0, 255, (12, 8, 8, 3)).astype(np.uint8)
y = np.arange(12) % 2
clf = TransferClassifier("mini_resnet18", max_epochs=2, precision="float32")

def interrupt(seconds):
    time.sleep(seconds)
    os.kill(os.getpid(), signal.SIGINT)

for _ in range(4):
    thread = threading.Thread(target=interrupt, args=(rng.uniform(0, 2),))
    try:
        thread.start()
        clf.fit(X, y)
        thread.join()
        time.sleep(0.2)
    except KeyboardInterrupt:
        n_interrupts += 1
    thread.join()
assert len(clf.fit(X, y).predict(X)) == 12
print(n_interrupts)
"""


@needs_signals
@pytest.mark.parametrize("seed", [1])
def test_after_ctrl_c_in_the_first_seconds_of_the_first_fit_later_ones_work(seed):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seed)],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert int(done.stdout) == 4


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that writes a module to import."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(name, text):
        (tmp_path / f"{name}.py").write_text(text)
        return name

    yield write
    for path in tmp_path.glob("*.py"):
        sys.modules.pop(path.stem, None)


SLOW = "import signal, time\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(0.2)\n"


@pytest.mark.parametrize("has_more_to_do", [False, True])
def test_ctrl_c_within_an_import_waits_until_the_module_is_there(
    module, has_more_to_do
):
    handler = signal.getsignal(signal.SIGINT)
    name, late = module("slow_module", SLOW), []

    @finish_imports()
    def import_it():
        __import__(name)
        if has_more_to_do:
            time.sleep(20)
            late.append("not interrupted")

    with pytest.raises(KeyboardInterrupt):
        import_it()
    assert name in sys.modules
    assert late == []
    assert signal.getsignal(signal.SIGINT) is handler


def test_ctrl_c_outside_an_import_does_not_wait_even_if_an_import_is_around(
    module, tmp_path
):
    text = (
        "import pathlib, signal\n"
        "from sktransfer._training.faults.interrupts import finish_imports\n"
        "with finish_imports():\n"
        "    signal.raise_signal(signal.SIGINT)\n"
        "    pathlib.Path(__file__).with_name('it_went_on').touch()\n"
    )
    with pytest.raises(KeyboardInterrupt):
        __import__(module("study", text))
    assert "study" not in sys.modules
    assert not (tmp_path / "it_went_on").exists()


def test_nothing_is_changed_in_other_threads_or_for_a_handler_that_is_not_pythons():
    def in_thread():
        with finish_imports():
            heard.append(signal.getsignal(signal.SIGINT))

    heard, before = [], signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=in_thread)
    thread.start()
    thread.join()
    assert heard == [before]
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with finish_imports():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
