"""Progress bars: what they show, where, and that they leave nothing behind."""

import io
import multiprocessing
import pickle
import re
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
from skorch.callbacks import Callback
from tqdm import tqdm

from sktransfer import (
    ActivationCache,
    ResNetFeatureExtractor,
)
from sktransfer._feedback import Bar, is_shown
from tests import helpers

# Two batches of the frozen stages, the second one not full.
N_IMAGES = 45

BAR = re.compile(
    r"fit, epoch 2/2: +\d+%\|.*\| \d+/90, .* images/s, loss \d+\.\d+, .* left"
)


class Terminal(io.StringIO):
    """Remembers what was written to it, and shows what a terminal would show."""

    def isatty(self):
        return True

    def screen(self):
        """Return what is on the screen in the end, line by line."""
        lines, row, column = {}, 0, 0
        for token in re.findall(r"\x1b\[\d*[A-Za-z]|.|\n|\r", self.getvalue()):
            if token == "\n":
                row, column = row + 1, 0
            elif token == "\r":
                column = 0
            elif token == "\x1b[A":
                row -= 1
            elif not token.startswith("\x1b"):
                lines.setdefault(row, {})[column] = token
                column += 1
        return ["".join(lines[row].values()).rstrip() for row in sorted(lines)]


def watch(monkeypatch, stderr=None, stdout=None):
    """Let bars see these streams; pytest keeps putting its own into sys."""
    streams = SimpleNamespace(stderr=stderr, stdout=stdout, modules=sys.modules)
    monkeypatch.setattr("sktransfer._feedback.sys", streams)


@pytest.fixture
def terminal(monkeypatch):
    """A terminal, to which bars are drawn after every batch."""
    stream = Terminal()
    watch(monkeypatch, stderr=stream)
    monkeypatch.setattr("sktransfer._feedback.EVERY_SECONDS", 0)
    return stream


def pictures():
    rng = np.random.default_rng(0)
    X = rng.integers(0, 256, (N_IMAGES, 8, 8, 3)).astype(np.uint8)
    return X, np.arange(N_IMAGES) % 3


def transfer(**changes):
    settings = {"verbose": 1, "activation_cache": ActivationCache(), **changes}
    return helpers.transfer(**settings)


def scratch(**changes):
    return helpers.scratch(**{"verbose": 1, **changes})


def test_a_terminal_shows_the_epoch_the_speed_the_loss_and_the_time_left(terminal):
    scratch().fit(*pictures())
    drawn = terminal.getvalue().split("\r")
    assert any(BAR.fullmatch(line.strip()) for line in drawn)
    assert any("epoch 2/2: 100%" in line and "| 90/90," in line for line in drawn)


class Losses(Callback):
    """Collects the loss of every batch; fit trains a copy, so all share a list."""

    seen: ClassVar[list[float]] = []

    def on_batch_end(self, net, loss, **kwargs):
        self.seen.append(float(loss))


def test_the_loss_on_the_bar_is_that_of_the_batches_since_it_was_last_drawn(terminal):
    Losses.seen.clear()
    scratch(callbacks=[Losses()]).fit(*pictures())
    said = re.findall(r"loss (\d+\.\d+)", terminal.getvalue())
    assert [float(loss) for loss in said] == pytest.approx(Losses.seen, abs=6e-4)


@pytest.mark.parametrize("make", [transfer, scratch])
def test_without_verbose_nothing_is_written(terminal, capsys, make):
    make(verbose=0).fit(*pictures()).predict(pictures()[0])
    assert terminal.getvalue() == capsys.readouterr().out == ""


def test_without_a_terminal_only_the_table_is_printed(monkeypatch, capsys):
    monkeypatch.setattr("sktransfer._feedback.EVERY_SECONDS", 0)
    clf = transfer().fit(*pictures())
    clf.predict(pictures()[0])
    written = capsys.readouterr()
    assert written.err == ""
    header, rule, *rows, said = written.out.splitlines()
    assert header.split()[0] == "epoch"
    assert set(rule) == {"-", " "}
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert said.startswith("activation_cache: ")
    assert "\r" not in written.out


def test_the_table_of_epochs_is_not_torn_by_the_bar(terminal, monkeypatch):
    monkeypatch.setattr(sys, "stdout", terminal)
    transfer().fit(*pictures())
    assert "images/s" in terminal.getvalue()
    header, rule, *rows, said = terminal.screen()
    assert header.split()[0] == "epoch"
    assert set(rule) == {"-", " "}
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert said.startswith("activation_cache: ")


def test_the_bar_goes_to_the_stream_that_is_a_terminal(terminal, monkeypatch):
    file, watched = io.StringIO(), Terminal()
    watch(monkeypatch, stderr=file, stdout=watched)
    scratch().fit(*pictures())
    assert file.getvalue() == ""
    assert "images/s" in watched.getvalue()


@pytest.mark.parametrize("stream", [None, SimpleNamespace(write=len)])
def test_a_stream_that_is_closed_absent_or_write_only_is_no_terminal(
    monkeypatch, stream
):
    closed = Terminal()
    closed.close()
    watch(monkeypatch, stderr=stream, stdout=closed)
    assert not is_shown(1)


def test_a_notebook_shows_bars_although_it_is_no_terminal(monkeypatch):
    assert not is_shown(1)
    kernel = SimpleNamespace(kernel=object())
    ipython = SimpleNamespace(get_ipython=lambda: kernel)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    assert is_shown(1)


@pytest.fixture
def notebook(monkeypatch):
    """What tqdm and the bars look for in a notebook, without ipywidgets."""
    kernel = SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    ipython = SimpleNamespace(get_ipython=lambda: kernel, version_info=(9, 0))
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "ipykernel.zmqshell", SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    # tqdm looks once, when it is imported.
    for name in ("tqdm.auto", "tqdm.autonotebook", "tqdm.notebook"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr("sktransfer._feedback.EVERY_SECONDS", 0)
    return monkeypatch


def test_a_notebook_without_widgets_has_a_bar_of_text_and_no_warning(notebook, capsys):
    # tqdm would catch a warning that is made an error.
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        with Bar("encode", 10, verbose=1) as bar:
            bar.advance(4)
    assert warned == []
    assert re.search(r"encode: +40%\|.*\| 4/10,", capsys.readouterr().err)


class Widget(SimpleNamespace):
    """Stands for any widget of a notebook."""

    def __init__(self, children=(), **values):
        look = SimpleNamespace(visibility="visible", width=None)
        super().__init__(children=children, value="", bar_style="", layout=look)
        self.style = SimpleNamespace(bar_color=None)
        self.__dict__.update(values, is_closed=False)

    def close(self):
        self.is_closed = True


def test_a_notebook_with_widgets_has_a_widget_that_disappears_when_done(
    notebook, capsys
):
    displayed = []
    kinds = dict.fromkeys(("HTML", "FloatProgress", "HBox"), Widget)
    notebook.setitem(sys.modules, "ipywidgets", SimpleNamespace(**kinds))
    display = SimpleNamespace(display=displayed.append)
    notebook.setitem(sys.modules, "IPython.display", display)
    with Bar("encode", 10, verbose=1) as bar:
        bar.advance(4, lambda: ("epoch 1/2", "loss 0.5"))
        (box,) = displayed
        left, middle, right = box.children
        assert left.value.split() == ["epoch", "1/2:", "40%"]
        assert (middle.value, middle.max) == (4, 10)
        assert "loss 0.5" in " ".join(right.value.split())
        bar.hide()
    assert box.is_closed
    assert middle.bar_style != "danger"
    assert capsys.readouterr().err == ""


def test_a_worker_process_shows_nothing(terminal, monkeypatch):
    parent = multiprocessing.current_process()
    monkeypatch.setattr("multiprocessing.parent_process", lambda: parent)
    transfer().fit(*pictures())
    assert terminal.getvalue() == ""


def test_a_fit_in_a_thread_shows_nothing(terminal):
    with ThreadPoolExecutor(1) as pool:
        pool.submit(transfer().fit, *pictures()).result()
    assert terminal.getvalue() == ""


class Raises(Callback):
    """Raises in the second epoch."""

    def __init__(self, error):
        self.error = error

    def on_batch_end(self, net, **kwargs):
        if len(net.history) == 2:
            raise self.error


@pytest.mark.filterwarnings("ignore:interrupted after epoch 1")
@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_the_bar_is_gone_after_ctrl_c_and_after_an_error(terminal, error):
    with pytest.raises(error):
        scratch(callbacks=[Raises(error())]).fit(*pictures())
    assert "epoch 2/2" in terminal.getvalue()
    assert "".join(terminal.screen()) == ""


def test_the_bar_is_gone_after_early_stopping(terminal):
    X, y = pictures()
    options = {"lr": 1e-9, "n_iter_no_change": 1, "max_epochs": 9}
    clf = transfer(early_stopping=True, **options).fit(X, y, X_val=X, y_val=y)
    assert clf.n_iter_ < 9
    assert "epoch 2/9" in terminal.getvalue()
    assert "".join(terminal.screen()) == ""


def test_the_bar_is_gone_after_encoding_fails(terminal, monkeypatch):
    from sktransfer._activations.prefix import Prefix

    def fail(*args):
        if "encode" in terminal.getvalue():
            raise MemoryError
        return encode(*args)

    encode = Prefix.encode
    monkeypatch.setattr(Prefix, "encode", fail)
    with pytest.raises(MemoryError):
        transfer().fit(*pictures())
    assert "".join(terminal.screen()) == ""


@pytest.mark.parametrize("cache", [ActivationCache(), None])
def test_encoding_counts_the_images(terminal, cache):
    X, _ = pictures()
    features = ResNetFeatureExtractor(
        "mini_resnet18", image_size=8, activation_cache=cache, verbose=1
    )
    features.fit(X).transform(X)
    assert re.search(r"encode: +71%\|.*?\| 32/45, .* images/s", terminal.getvalue())
    assert re.search(r"encode: +100%\|.*?\| 45/45, .* images/s", terminal.getvalue())


def test_cached_activations_are_fetched_without_a_second_bar(terminal):
    X, _ = pictures()
    features = ResNetFeatureExtractor(
        "mini_resnet18", image_size=8, activation_cache=ActivationCache(), verbose=1
    ).fit(X)
    features.transform(X)
    assert len(re.findall(r"100%\|.*?\| 45/45,", terminal.getvalue())) == 1
    terminal.truncate(0)
    features.transform(X)
    assert terminal.getvalue() == ""


def test_images_that_do_not_fit_the_cache_have_a_bar(terminal):
    X, _ = pictures()
    cache = ActivationCache(10_000)  # some of the images
    features = ResNetFeatureExtractor(
        "mini_resnet18", image_size=8, activation_cache=cache, verbose=1
    )
    features.fit(X).transform(X)
    assert re.search(r"encode: +100%\|.*?\| 45/45,", terminal.getvalue())


@pytest.mark.parametrize("make", [transfer, scratch])
def test_a_batch_is_counted_once_it_is_done(terminal, monkeypatch, make):
    X, y = pictures()
    clf = make(activation_cache=None) if make is transfer else make()
    clf.fit(X, y)
    stages = type(clf.net_.module_)
    decode = stages.decode

    def spy(self, rows, n_stages):
        seen.append(sum(counted))
        return decode(self, rows, n_stages)

    seen, counted = [], []
    advance = Bar.advance
    monkeypatch.setattr(stages, "decode", spy)
    monkeypatch.setattr(
        Bar, "advance", lambda bar, n: (counted.append(n), advance(bar, n))
    )
    clf.predict(X)
    assert seen == [0, 32]
    assert sum(counted) == N_IMAGES


def test_encoding_in_fit_has_a_bar_of_its_own(terminal):
    transfer(augment=None, head_init="random").fit(*pictures())
    before, after = terminal.getvalue().split("epoch 1/2", 1)
    assert "| 45/45," in before
    assert "encode" in before
    assert "encode" not in after


def test_warming_a_cache_counts_the_views_of_all_images(terminal):
    ActivationCache().warm(transfer(head_init="random"), pictures()[0])
    assert len(re.findall(r"encode: +100%\|.*?\| 90/90,", terminal.getvalue())) == 1


@pytest.mark.parametrize("make", [transfer, scratch])
def test_predictions_count_the_images(terminal, make):
    X, y = pictures()
    clf = make().fit(X, y)
    terminal.truncate(0)
    clf.predict(X)
    assert re.search(r"predict: +100%\|.*?\| 45/45,", terminal.getvalue())


def test_quick_work_shows_nothing(terminal, monkeypatch):
    monkeypatch.setattr("sktransfer._feedback.EVERY_SECONDS", 1e6)
    transfer().fit(*pictures())
    assert terminal.getvalue().strip("\r") == ""


def test_the_note_is_asked_for_only_when_the_bar_is_drawn(terminal, monkeypatch):
    monkeypatch.setattr("sktransfer._feedback.EVERY_SECONDS", 1e6)
    asked = []
    with Bar("epoch 1/1", 10, verbose=1) as bar:
        for _ in range(10):
            bar.advance(1, lambda: asked.append(1))
    assert asked == []


def test_what_others_print_through_tqdm_asks_for_no_note(terminal):
    asked = []

    def note():
        asked.append(1)
        return "epoch 1/1", "loss 0.5"

    with Bar("epoch 1/1", 10, verbose=1) as bar:
        bar.advance(1, note)
        tqdm.write("a line", file=terminal)
    assert asked == [1]
    assert terminal.getvalue().count("loss 0.5") == 2


@pytest.mark.parametrize("make", [transfer, scratch])
def test_a_bar_changes_no_result(terminal, make):
    X, y = pictures()
    quiet, shown = make(verbose=0).fit(X, y), make(verbose=1).fit(X, y)
    assert "images/s" in terminal.getvalue()
    np.testing.assert_array_equal(quiet.predict_proba(X), shown.predict_proba(X))
    losses = [[row["train_loss"] for row in clf.history_] for clf in (quiet, shown)]
    assert losses[0] == losses[1]


def test_an_estimator_that_showed_a_bar_can_be_pickled(terminal):
    X, y = pictures()
    clf = scratch().fit(X, y)
    again = pickle.loads(pickle.dumps(clf))
    np.testing.assert_array_equal(again.predict(X), clf.predict(X))


def test_tqdm_starts_no_thread(terminal):
    before = threading.active_count()
    with Bar("encode", 10, verbose=1) as bar:
        bar.advance(5)
        assert threading.active_count() == before
