"""What ranks do if they disagree, if one of them fails, or if one is killed."""

import json
import os
import shutil
import signal
import time

import numpy as np
import pytest

from tests.training.ranks.launching import run, run_by_hand

# Seconds within which the other ranks of a job end after one was killed.
SOON = 60

DISAGREEING = """
import json, os
import numpy as np
from skorch.callbacks import Callback
from sklearn.model_selection import GridSearchCV
from tests.helpers import pictures, scratch, transfer

RANK = int(os.environ["RANK"])
X, y = pictures(24)
told, SHORT = {}, {"head_init": "random", "batch_size": 8, "activation_cache": None}


def attempt(name, clf, X, y):
    try:
        clf.fit(X, y)
        told[name] = f"{len(clf.history_)} epochs"
    except Exception as error:
        told[name] = f"{type(error).__name__}: {error}"


class StopsOneRank(Callback):
    def on_epoch_end(self, net, **kwargs):
        if RANK == 1 and len(net.history) == 2:
            raise KeyboardInterrupt


class FailsOnOneRank(Callback):
    def on_batch_end(self, net, **kwargs):
        if RANK == 1:
            raise OSError("the disk of rank 1 is full")


class BreaksOneRank(Callback):
    def on_batch_end(self, net, training=False, **kwargs):
        if RANK == 1 and training:
            net.module_.head.linear.bias.data[0] = np.nan


other = X.copy()
other[5] = 0
attempt("one failure", transfer(**SHORT), X[..., : 3 - RANK], y)
attempt("other images", transfer(**SHORT), other if RANK else X, y)
attempt("other labels", transfer(**SHORT), X, np.roll(y, RANK))
attempt("other sizes", transfer(**SHORT), X[: len(X) - RANK], y[: len(X) - RANK])
attempt("another rate", transfer(lr=0.01 + RANK, **SHORT), X, y)
attempt("another network", transfer(dropout=0.1 + 0.1 * RANK, **SHORT), X, y)
attempt("other seeds", transfer(**{**SHORT, "random_state": RANK}), X, y)
attempt("one checkpoint", transfer(checkpoint=[None, "here"][RANK], **SHORT), X, y)
attempt("no seed", transfer(**{**SHORT, "random_state": None}), X, y)
longer = {**SHORT, "max_epochs": 4}
attempt("a callback", transfer(callbacks=[StopsOneRank()], **longer), X, y)
attempt("nan", transfer(callbacks=[BreaksOneRank()], **longer), X, y)
clf = transfer(callbacks=[FailsOnOneRank()], **SHORT)
grid = {"dropout": [0.1, 0.2, 0.3]}
attempt("a search", GridSearchCV(clf, grid, cv=2, error_score=np.nan), X, y)
attempt("after that", transfer(**SHORT), X, y)
with open(f"told {RANK}.json", "w") as file:
    json.dump(told, file)
"""


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """What each of two ranks was told, for each kind of disagreement."""
    folder = tmp_path_factory.mktemp("disagreeing")
    status, printed = run(DISAGREEING, folder)
    assert status == 0, printed
    return [json.loads((folder / f"told {rank}.json").read_text()) for rank in (0, 1)]


@pytest.mark.parametrize(
    ("what", "named"),
    [
        ("other images", "rank 1 has another X"),
        ("other labels", "rank 1 has another y"),
        ("other sizes", "rank 1 has another X"),
        ("another rate", "rank 1 has another lr"),
        ("another network", "rank 1 has another dropout"),
        ("other seeds", "rank 1 has another random_state"),
        ("one checkpoint", "rank 1 has another checkpoint"),
    ],
)
def test_ranks_that_would_train_different_things_are_told_so(told, what, named):
    for rank in (0, 1):
        assert told[rank][what].startswith("ValueError")
        assert named in told[rank][what]
        assert "without torchrun" in told[rank][what]


def test_a_failure_of_one_rank_before_the_first_step_ends_the_fit_of_all(told):
    assert told[1]["one failure"].startswith("ValueError")
    assert told[0]["one failure"].startswith("RuntimeError: rank 1 of this job failed")
    assert told[1]["one failure"][:40] in told[0]["one failure"]


def test_a_failure_of_one_rank_in_a_step_ends_a_search_on_all(told):
    for rank in (0, 1):
        assert "All the 6 fits failed" in told[rank]["a search"]
    assert "the disk of rank 1 is full" in told[1]["after that"]
    assert "rank 0 of 2 has left the others" in told[0]["after that"]


def test_without_a_seed_all_ranks_take_that_of_the_first(told):
    assert told[0]["no seed"] == told[1]["no seed"] == "2 epochs"


def test_a_callback_that_stops_one_rank_stops_all(told):
    assert told[0]["a callback"] == told[1]["a callback"] == "2 epochs"


def test_a_loss_that_is_nan_on_one_rank_is_an_error_on_all(told):
    for rank in (0, 1):
        assert told[rank]["nan"].startswith("FloatingPointError: The train loss")


KILLED = """
import os, signal, time
from skorch.callbacks import Callback
from tests.helpers import pictures, transfer

DYING = "1"


class Dies(Callback):
    def on_epoch_begin(self, net, **kwargs):
        if os.environ.get("RANK") == DYING and len(net.history) == 4:
            if not os.path.exists("killed"):
                with open("killed", "w") as file:
                    file.write(str(time.time()))
                os.kill(os.getpid(), signal.SIGKILL)

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


X, y = pictures(48)
clf = transfer(
    max_epochs=6, batch_size=8, head_init="random", verbose=1, early_stopping=False,
    checkpoint=PATH, callbacks=[Dies()],
)
clf.fit(X, y)
rank = os.environ.get("RANK", "alone")
clf.predict_proba(X).tofile(f"{rank}.bin")
print(f"rank {rank} is done")
"""


@pytest.mark.skipif(os.name == "nt", reason="nothing kills without notice here")
def test_a_killed_rank_ends_the_others_and_the_job_resumes(tmp_path):
    script = KILLED.replace("PATH", "'fit.checkpoint'")
    status, printed = run(script, tmp_path)
    assert time.time() - float((tmp_path / "killed").read_text()) < SOON
    assert status != 0
    assert "is done" not in printed
    shutil.copy(tmp_path / "fit.checkpoint", tmp_path / "alone.checkpoint")
    for path, n_ranks in (("fit", 2), ("alone", 1)):
        status, printed = run(script.replace("fit.ch", f"{path}.ch"), tmp_path, n_ranks)
        assert status == 0, printed
        assert printed.count("resumed after epoch 3 of 6") == 1
    status, printed = run(
        script.replace("fit.ch", "new.ch").replace('"alone"', '"anew"'), tmp_path, 1
    )
    assert status == 0, printed
    assert "resumed" not in printed
    both, alone, anew = (
        [np.fromfile(tmp_path / f"{rank}.bin", np.float32) for rank in ranks]
        for ranks in ((0, 1), ("alone",), ("anew",))
    )
    assert np.array_equal(*both)
    for resumed in (both[0], *alone):
        np.testing.assert_allclose(resumed, *anew, rtol=0, atol=1e-5)


@pytest.mark.skipif(os.name == "nt", reason="nothing kills without notice here")
@pytest.mark.parametrize("dying", [0, 1])
def test_the_rank_that_is_left_ends_by_itself_and_says_why(tmp_path, dying):
    script = KILLED.replace("PATH", "None").replace('"1"', f'"{dying}"')
    ended = run_by_hand(script, tmp_path)
    assert time.time() - float((tmp_path / "killed").read_text()) < SOON
    assert ended[dying][0] == -signal.SIGKILL
    status, printed = ended[1 - dying]
    assert status == 1
    assert f"rank {1 - dying} of 2 has lost another one" in printed


def test_the_first_rank_alone_prints(tmp_path):
    script = KILLED.replace("PATH", "None")
    script = script.replace("callbacks=[Dies()]", "callbacks=None")
    status, printed = run(script, tmp_path)
    assert status == 0, printed
    assert printed.count("train_loss") == 1
    assert printed.count("2 ranks train together, on 24 images each.") == 1


def test_more_ranks_than_images_are_an_error_on_all(tmp_path):
    script = """
from tests.helpers import pictures, transfer
X, y = pictures(2)
transfer(early_stopping=False).fit(X, y)
"""
    status, printed = run(script, tmp_path, 3)
    assert status != 0
    assert "there are 3 ranks, but only 2 images to train on" in printed
