import errno
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sktransfer import ModelFileError
from sktransfer._files import replacing
from sktransfer._files.model_file import open_model_file, write_model_file
from sktransfer._files.versions import list_versions
from sktransfer._training.callbacks.checkpoint import CODECS, KIND
from sktransfer._training.faults import resuming
from tests.helpers import pictures, save_image, scratch, transfer

X, Y = pictures()

# What a fit's later epochs depend on differs: dropout, mixing, stages that open,
# averages, early stopping, optimizers.
FITS = {
    "scratch": lambda **more: scratch(max_epochs=4, dropout=0.3, **more),
    "mixed": lambda **more: scratch(max_epochs=4, mixup=0.4, cutmix=0.4, **more),
    "adam": lambda **more: scratch(
        max_epochs=4, lr=1e-3, net_params={"optimizer": torch.optim.Adam}, **more
    ),
    "early stopping": lambda **more: scratch(
        max_epochs=4, early_stopping=True, validation_fraction=0.3, **more
    ),
    "transfer": lambda **more: transfer(max_epochs=4, **more),
    "advanced": lambda **more: transfer(
        max_epochs=4, augment="advanced", early_stopping=True, **more
    ),
    "random head": lambda **more: transfer(
        max_epochs=4, head_init="random", unfreeze_depth=5, **more
    ),
}


class Death(Exception):
    pass


class Die(Callback):
    """Ends a fit in the middle of an epoch, as the end of the process does."""

    # Not attributes, which would make it another callback.
    epoch = how = None

    def on_batch_end(self, net, training=False, **kwargs):
        if training and len(net.history) == Die.epoch:
            if Die.how is not None:
                os.kill(os.getpid(), Die.how)
            raise Death

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def mortal(epoch, how=None):
    """Return callbacks of a fit that dies in an epoch, or never."""
    Die.epoch, Die.how = epoch, how
    return [Die()]


def die_in(epoch, fit, path, X=X, y=Y):
    with pytest.raises(Death):
        fit(checkpoint=path, callbacks=mortal(epoch)).fit(X, y)


def resume(fit, path, X=X, y=Y):
    return fit(checkpoint=path, callbacks=mortal(None)).fit(X, y)


@pytest.mark.parametrize("epoch", [2, 4])
@pytest.mark.parametrize("fit", FITS.values(), ids=FITS)
def test_a_resumed_fit_equals_one_that_never_stopped(fit, epoch, tmp_path):
    whole = fit().fit(X, Y)
    die_in(epoch, fit, tmp_path / "a.checkpoint")
    resumed = resume(fit, tmp_path / "a.checkpoint")
    assert np.array_equal(resumed.predict_proba(X), whole.predict_proba(X))
    assert resumed.n_iter_ == whole.n_iter_
    assert resumed.best_epoch_ == whole.best_epoch_

    def rows(clf):
        return [{k: v for k, v in row.items() if k != "dur"} for row in clf.history_]

    assert rows(resumed) == rows(whole)


def test_a_fit_may_die_more_than_once(tmp_path):
    fit, path = FITS["transfer"], tmp_path / "a.checkpoint"
    for epoch in (2, 3, 4):
        die_in(epoch, fit, path)
    assert np.array_equal(
        resume(fit, path).predict_proba(X), fit().fit(X, Y).predict_proba(X)
    )


def test_checkpoints_change_no_result(tmp_path):
    with_them = FITS["transfer"](checkpoint=tmp_path / "a.checkpoint").fit(X, Y)
    without = FITS["transfer"]().fit(X, Y)
    assert np.array_equal(with_them.predict_proba(X), without.predict_proba(X))


def test_a_fit_that_has_ended_is_loaded_without_training(tmp_path):
    fit, path = FITS["scratch"], tmp_path / "a.checkpoint"
    first = fit(checkpoint=path, callbacks=mortal(None)).fit(X, Y)
    second = fit(checkpoint=path, callbacks=mortal(4)).fit(X, Y)  # no epoch 4 begins
    assert np.array_equal(first.predict_proba(X), second.predict_proba(X))
    assert second.history_ == first.history_


def test_files_are_resumed_by_their_content(tmp_path):
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    for i, path in enumerate(paths):
        save_image(path, ["red", "green", "blue"][i % 3])
    y, path = np.arange(9) % 3, tmp_path / "a.checkpoint"
    die_in(2, FITS["scratch"], path, paths, y)
    os.utime(paths[0])
    resume(FITS["scratch"], path, paths, y)
    die_in(2, FITS["scratch"], tmp_path / "b.checkpoint", paths, y)
    save_image(paths[0], "white")
    with pytest.raises(ValueError, match=r"belongs to another fit.*differs: X\b"):
        resume(FITS["scratch"], tmp_path / "b.checkpoint", paths, y)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("max_epochs", {"max_epochs": 5}),
        ("lr", {"lr": 0.1}),
        ("random_state", {"random_state": 1}),
        ("network", {"width": 5}),
        ("dropout", {"dropout": 0.1}),
        ("augment", {"augment": None}),
        ("precision", {"precision": "bfloat16"}),
        ("callbacks", {"callbacks": []}),
    ],
)
def test_a_checkpoint_of_other_parameters_is_refused_by_name(name, changes, tmp_path):
    path = tmp_path / "a.checkpoint"
    die_in(2, scratch, path)
    before = path.read_bytes()
    changed = {"callbacks": mortal(None), "checkpoint": path, **changes}
    with pytest.raises(ValueError, match=f"belongs to another fit.*{name}"):
        scratch(**changed).fit(X, Y)
    assert path.read_bytes() == before


@pytest.mark.parametrize("what", ["X", "y", "sample_weight", "X_val", "y_val"])
def test_a_checkpoint_of_other_data_is_refused_by_name(what, tmp_path):
    path = tmp_path / "a.checkpoint"
    data = {
        "X": X,
        "y": Y,
        "sample_weight": np.ones(len(X)),
        "X_val": X[:6].copy(),
        "y_val": Y[:6].copy(),
    }
    with pytest.raises(Death):
        scratch(checkpoint=path, callbacks=mortal(2)).fit(**data)
    changed = {name: np.array(value) for name, value in data.items()}
    changed[what][0] = changed[what][1]
    if what == "sample_weight":
        changed[what][0] = 2
    with pytest.raises(ValueError, match=rf"differs: .*\b{what}\b"):
        scratch(checkpoint=path, callbacks=mortal(None)).fit(**changed)


def test_damage_falls_back_to_the_checkpoint_before(tmp_path):
    fit, path = FITS["scratch"], tmp_path / "a.checkpoint"
    die_in(4, fit, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.warns(UserWarning, match=r"a.checkpoint.*does not resume from it"):
        resumed = resume(fit, path)
    assert np.array_equal(resumed.predict_proba(X), fit().fit(X, Y).predict_proba(X))


def test_without_second_names_the_checkpoint_before_is_kept_too(tmp_path, monkeypatch):
    def refuse(*names):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refuse)
    die_in(3, FITS["scratch"], tmp_path / "a.checkpoint")
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["a.checkpoint", "a.checkpoint.previous"]


@pytest.mark.parametrize("n_bytes", [0, 8, 1000])
def test_a_checkpoint_that_is_cut_off_early_falls_back_too(n_bytes, tmp_path):
    fit, path = FITS["scratch"], tmp_path / "a.checkpoint"
    die_in(4, fit, path)
    path.write_bytes(path.read_bytes()[:n_bytes])
    with pytest.warns(UserWarning, match=r"a.checkpoint.*does not resume from it"):
        resumed = resume(fit, path)
    assert np.array_equal(resumed.predict_proba(X), fit().fit(X, Y).predict_proba(X))


def test_in_a_folder_everything_under_our_names_may_be_replaced(tmp_path):
    scratch(checkpoint=tmp_path).fit(X, Y)
    for path in tmp_path.iterdir():
        path.write_bytes(b"torn")
    with pytest.warns(UserWarning, match="does not resume"):
        scratch(checkpoint=tmp_path).fit(X, Y)


def test_damage_of_both_begins_anew(tmp_path):
    fit, path = FITS["scratch"], tmp_path / "a.checkpoint"
    die_in(4, fit, path)
    for torn in tmp_path.iterdir():
        content = bytearray(torn.read_bytes())
        content[-5] ^= 1
        torn.write_bytes(content)
    with pytest.warns(UserWarning, match=r"previous.*is damaged"):
        resumed = resume(fit, path)
    assert np.array_equal(resumed.predict_proba(X), fit().fit(X, Y).predict_proba(X))


def test_a_state_with_a_right_hash_and_wrong_content_is_an_error(tmp_path):
    fit, path = FITS["scratch"], tmp_path / "a.checkpoint"
    die_in(2, fit, path)
    with open_model_file(path, KIND, CODECS) as opened:
        content, tensors = opened.content, opened.read_tensors()
    content["state"]["callbacks"]["unfreeze_schedule"]["openings"] = [["a", 1]]
    write_model_file(path, KIND, content, tensors, CODECS)
    with pytest.raises(ModelFileError, match="cannot be resumed"):
        resume(fit, path)


def test_a_full_disk_is_a_warning_and_the_old_checkpoint_stays(tmp_path, monkeypatch):
    fit, path = FITS["scratch"], tmp_path / "a.checkpoint"
    die_in(2, fit, path)
    before = path.read_bytes()

    def write_nothing(file, parts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(replacing, "write_all", write_nothing)
        patched.setattr("sktransfer._files.model_file.write_all", write_nothing)
        with pytest.warns(UserWarning, match=r"No space left.*bytes are needed") as w:
            resumed = resume(fit, path)
    assert sum("No space left" in str(some.message) for some in w) == 1
    assert path.read_bytes() == before
    assert np.array_equal(resumed.predict_proba(X), fit().fit(X, Y).predict_proba(X))


def test_a_folder_has_a_file_for_every_fit_of_a_search(tmp_path):
    def search(checkpoint):
        grid = {"lr": [0.01, 0.02]}
        return GridSearchCV(scratch(checkpoint=checkpoint), grid, cv=2).fit(X, Y)

    first, plain = search(tmp_path / "fits"), search(None)
    assert len(list((tmp_path / "fits").glob("*.checkpoint"))) == 5
    second = search(tmp_path / "fits")
    for found in (first, second):
        scores = found.cv_results_["mean_test_score"]
        assert np.array_equal(scores, plain.cv_results_["mean_test_score"])


def test_a_random_state_that_cannot_be_repeated_is_refused(tmp_path):
    for random_state in (None, np.random.RandomState(0)):
        clf = scratch(checkpoint=tmp_path / "a.checkpoint", random_state=random_state)
        with pytest.raises(ValueError, match="needs an integer as random_state"):
            clf.fit(X, Y)


def test_a_name_of_another_kind_of_file_is_refused(tmp_path):
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    (tmp_path / "folder.checkpoint").mkdir()
    with pytest.raises(ValueError, match=r"does not end in \.checkpoint"):
        scratch(checkpoint=tmp_path / "photo.jpg").fit(X, Y)
    with pytest.raises(ValueError, match=r"does not end in \.checkpoint"):
        scratch(checkpoint=tmp_path / "new.ckpt").fit(X, Y)
    with pytest.raises(ValueError, match="is a folder"):
        scratch(checkpoint=tmp_path / "folder.checkpoint").fit(X, Y)
    assert (tmp_path / "photo.jpg").read_bytes() == b"photo"


class Scale(Callback):
    def __init__(self, factor):
        self.factor = factor

    def state_dict(self):
        return {}

    def load_state_dict(self, state):
        pass


def scale_by(batch, table):
    return (batch * table).to(batch.dtype)


class Darker:
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, batch):
        return scale_by(batch, self.factor)


def make_darker(factor):
    return lambda batch: (batch * factor).to(batch.dtype)


def keep(batch):
    return batch


@pytest.mark.parametrize(
    ("then", "now"),
    [
        ({"callbacks": [Scale(0.9)]}, {"callbacks": [Scale(0.1)]}),
        ({"augment": Darker(1.0)}, {"augment": Darker(0.5)}),
        ({"augment": make_darker(1.0)}, {"augment": make_darker(0.5)}),
        ({"augment": partial(scale_by, table=torch.ones(1))}, {"augment": keep}),
        (
            {"augment": partial(scale_by, table=torch.ones(1))},
            {"augment": partial(scale_by, table=torch.zeros(1))},
        ),
    ],
)
def test_callbacks_and_functions_are_told_apart_by_what_they_hold(then, now, tmp_path):
    path = tmp_path / "a.checkpoint"
    scratch(checkpoint=path, **then).fit(X, Y)
    scratch(checkpoint=path, **then).fit(X, Y)
    with pytest.raises(ValueError, match="belongs to another fit"):
        scratch(checkpoint=path, **now).fit(X, Y)


def test_a_function_that_cannot_be_told_from_others_is_refused(tmp_path):
    class Slotted:
        __slots__ = ()

        def __call__(self, batch):
            return batch

    clf = scratch(checkpoint=tmp_path / "a.checkpoint", augment=Slotted())
    with pytest.raises(ValueError, match="could not tell whether it has the same"):
        clf.fit(X, Y)


def test_numbers_of_numpy_are_the_same_parameters(tmp_path):
    path = tmp_path / "a.checkpoint"
    scratch(checkpoint=path).fit(X, Y)
    scratch(checkpoint=path, width=np.int64(4), lr="auto").fit(X, Y)


def test_another_release_of_a_package_is_another_fit(tmp_path, monkeypatch):
    path = tmp_path / "a.checkpoint"
    scratch(checkpoint=path).fit(X, Y)
    versions = {**list_versions(), "sktransfer": "9.9"}
    monkeypatch.setattr(resuming, "list_versions", lambda: versions)
    with pytest.raises(ValueError, match="differs: sktransfer"):
        scratch(checkpoint=path).fit(X, Y)


@pytest.mark.parametrize("foreign", [b"of another program", "a model"])
def test_a_file_of_something_else_is_not_replaced(foreign, tmp_path):
    path = tmp_path / "a.checkpoint"
    if isinstance(foreign, str):
        scratch().fit(X, Y).save(path)
    else:
        path.write_bytes(foreign)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="is a file of something else"):
        scratch(checkpoint=path).fit(X, Y)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.checkpoint"]


def test_a_good_previous_checkpoint_outlives_a_damaged_newest_one(
    tmp_path, monkeypatch
):
    fit, path = FITS["scratch"], tmp_path / "a.checkpoint"
    die_in(4, fit, path)
    previous = tmp_path / "a.checkpoint.previous"
    good = previous.read_bytes()
    path.write_bytes(path.read_bytes()[:-100])

    def write_nothing(file, parts):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("sktransfer._files.model_file.write_all", write_nothing)
    with pytest.warns(UserWarning, match="No space left"):
        resume(fit, path)
    assert previous.read_bytes() == good


def test_a_link_has_a_previous_checkpoint_of_its_own(tmp_path):
    (tmp_path / "there").mkdir()
    (tmp_path / "a.checkpoint").symlink_to(tmp_path / "there" / "b.checkpoint")
    die_in(4, FITS["scratch"], tmp_path / "a.checkpoint")
    previous = tmp_path / "there" / "b.checkpoint.previous"
    assert not previous.is_symlink()
    assert previous.read_bytes() != (tmp_path / "a.checkpoint").read_bytes()


def test_without_the_file_a_fit_begins_anew(tmp_path):
    path = tmp_path / "a.checkpoint"
    scratch(checkpoint=path).fit(X, Y)
    path.unlink()
    scratch(checkpoint=path, dropout=0.1).fit(X, Y)


def test_a_callback_without_a_state_is_refused(tmp_path):
    clf = scratch(checkpoint=tmp_path / "a.checkpoint", callbacks=[Callback()])
    with pytest.raises(ValueError, match="state_dict"):
        clf.fit(X, Y)


def test_after_ctrl_c_the_fit_resumes(tmp_path):
    fit, path = FITS["scratch"], tmp_path / "a.checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fit(checkpoint=path, callbacks=mortal(3, signal.SIGINT)).fit(X, Y)
    resumed = resume(fit, path)
    assert np.array_equal(resumed.predict_proba(X), fit().fit(X, Y).predict_proba(X))


def test_a_fit_that_is_killed_resumes_in_another_process(tmp_path):
    path = tmp_path / "a.checkpoint"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import torch; torch.set_num_threads(1)\n"
        "from tests.training.test_resuming import *\n"
        "FITS['transfer'](checkpoint=sys.argv[1],\n"
        "                 callbacks=mortal(3, signal.SIGKILL)).fit(X, Y)\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code, path, root], check=False)
    assert done.returncode == -signal.SIGKILL
    resumed = resume(FITS["transfer"], path)
    whole = FITS["transfer"]().fit(X, Y)
    assert np.array_equal(resumed.predict_proba(X), whole.predict_proba(X))


def test_after_kills_while_checkpoints_are_written_one_is_always_whole(tmp_path):
    path = tmp_path / "a.checkpoint"
    code = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "import torch; torch.set_num_threads(1)\n"
        "from tests.training.test_resuming import *\n"
        "scratch(checkpoint=sys.argv[1], width=32, max_epochs=500).fit(X, Y)\n"
    )
    root = Path(__file__).parents[2]
    n_epochs = 0
    for wait in (0.0, 0.03, 0.1):
        before = when_written(path)
        process = subprocess.Popen([sys.executable, "-c", code, path, root])
        while process.poll() is None and when_written(path) == before:
            time.sleep(0.001)
        time.sleep(wait)
        process.kill()
        assert process.wait() == -signal.SIGKILL
        with open_model_file(path, KIND, CODECS) as opened:
            opened.read_tensors()
            history = opened.content["state"]["history"]
        assert len(history) > n_epochs
        n_epochs = len(history)


def when_written(path):
    return path.stat().st_mtime_ns if path.exists() else 0
