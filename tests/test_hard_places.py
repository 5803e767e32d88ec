import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers import pictures, save_image

BEGIN = """
import errno, os, sys, time
import torch
torch.set_num_threads(1)
folder = sys.argv[1]
"""

# A user without a home, as in many containers.
NO_HOME = """
def fail(*args):
    raise KeyError("no such user")

try:
    import pwd
    pwd.getpwuid = pwd.getpwnam = fail
except ImportError:
    pass
assert "HOME" not in os.environ
"""

NO_NETWORK = """
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

sys.addaudithook(refuse)
"""

# Nothing can be written but into the one folder. torch itself needs to find a folder
# for temporary files when it is imported, which is full afterwards.
FULL = """
import tempfile
tempfile.gettempdir()

def refuse(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        path, writes = os.fsdecode(args[0]), os.O_WRONLY | os.O_RDWR | os.O_CREAT
        if args[2] & writes and not path.startswith((folder, os.devnull)):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)

sys.addaudithook(refuse)
"""

WORK = """
from pathlib import Path
import numpy as np
from sktransfer import FeatureExtractor, load
from tests.helpers import pictures, scratch, transfer

X, y = pictures(15)
path = Path(folder) / "model.sktransfer"
files = sorted(Path(folder).glob("*.png"))
packaged = {"backbone": "efficientnet_lite0", "image_size": 32, "unfreeze_depth": 0}
for estimator, images in (
    (scratch(), X),
    (scratch(), files),
    (transfer(max_epochs=1), X),
    (transfer(max_epochs=1, **packaged), X),
    (FeatureExtractor("mini_resnet18"), files),
):
    estimator.fit(images, y).save(path)
    predict = "predict_proba" if hasattr(estimator, "predict") else "transform"
    expected = getattr(estimator, predict)(images)
    assert np.array_equal(getattr(load(path), predict)(images), expected)
"""

DOWNLOAD = """
try:
    transfer(backbone="resnet18").fit(X, y)
except OSError as error:
    print(error)
"""

USE_TEMPORARY = """
try:
    tempfile.TemporaryFile()
except OSError as error:
    print(error)
"""

# Whoever writes while the clock is a day behind finds files that are of tomorrow.
YESTERDAY = """
now, now_ns = time.time, time.time_ns
time.time = lambda: now() - 86_400
time.time_ns = lambda: now_ns() - 86_400 * 10**9
"""

CACHED = """
from pathlib import Path
import numpy as np
from sktransfer import ActivationCache, load
from tests.helpers import pictures, transfer
from tests.training.test_resuming import Death, mortal

X, y = pictures(30)
path, cache = Path(folder) / "model.sktransfer", ActivationCache(path=f"{folder}/c")

def fit(epoch):
    return transfer(
        max_epochs=3,
        augment=None,
        activation_cache=cache,
        checkpoint=Path(folder) / "fit.checkpoint",
        callbacks=mortal(epoch),
    ).fit(X, y)
"""

FIRST = """
try:
    fit(3)
except Death:
    pass
transfer(max_epochs=1).fit(X, y).save(path)
"""

SECOND = """
load(path)
clf = fit(None)
clf.set_params(callbacks=None, checkpoint=None, activation_cache=None).save(path)
whole = transfer(max_epochs=3, augment=None).fit(X, y).predict_proba(X)
assert np.array_equal(clf.predict_proba(X), whole)
assert np.array_equal(load(path).predict_proba(X), whole)
assert clf.cache_info_.misses == 0
"""


def run(folder, *parts):
    """Run a program in a process of its own; return what it prints."""
    names = ("HOME", "TORCH_HOME", "HF_HOME", "XDG_CACHE_HOME", "SKTRANSFER_DATA")
    environment = {k: v for k, v in os.environ.items() if k not in names}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(Path(__file__).parents[1]), *sys.path]
    )
    done = subprocess.run(
        [sys.executable, "-c", "".join((BEGIN, *parts)), str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path):
    """A folder that can be written to, with a few pictures."""
    for i, colour in enumerate(pictures(15)[1]):
        save_image(tmp_path / f"{i:02}.png", colour)
    return tmp_path


def test_without_a_network_weights_that_are_installed_suffice(folder):
    said = run(folder, NO_NETWORK, WORK, DOWNLOAD)
    assert "https://download.pytorch.org/models/resnet18-" in said
    assert "resnet18-f37072fd.pth" in said
    assert "weights=" in said


def test_neither_a_home_nor_room_for_temporary_files_is_needed(folder):
    said = run(folder, NO_HOME, FULL, WORK, USE_TEMPORARY)
    assert "No space left" in said


def test_a_clock_that_goes_back_a_day_changes_nothing(folder):
    run(folder, CACHED, FIRST)
    run(folder, YESTERDAY, CACHED, SECOND)
