"""The study: its split, its report, its verdict, its files."""

import gc
import json
import re
import sys
import weakref
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.dummy import DummyClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.utils import Bunch
from skorch.callbacks import Callback

from sktransfer import (
    ResNetTransferClassifier,
    ScratchCNNClassifier,
    TransferClassifier,
)
from sktransfer.__main__ import main, quote_command
from sktransfer._networks.backbones.known import find_backbone
from sktransfer._study.data import draw_stratified, load_data, split_indices
from sktransfer._study.machine import CLEAR_REFS, PeakMemory, describe_hardware
from sktransfer._study.study import (
    Plan,
    collect_facts,
    define_models,
    list_output_files,
    plan_study,
    report_results,
    run_study,
    study,
)

# The files of a study whose models keep no history and have no network.
FILES = {
    "comparison.png",
    "samples.png",
    "confusion.png",
    "at_random.png",
    "top_losses.png",
    "most_confident_wrong.png",
    "confused_pairs.png",
    "report.html",
    "results.json",
}


class Rows(KNeighborsClassifier):
    """Nearest neighbours on flattened images."""

    def fit(self, X, y):
        return super().fit(X.reshape(len(X), -1), y)

    def predict_proba(self, X):
        return super().predict_proba(X.reshape(len(X), -1))


def make_good(seed):
    return Rows(n_neighbors=1)


def make_poor(seed):
    return DummyClassifier(strategy="most_frequent")


STUBS = {"transfer": make_good, "scratch": make_poor}


def silent(line):
    """Discard a report."""


@pytest.fixture(scope="module")
def digits():
    return load_data("digits", 100, 50)


@pytest.fixture(scope="module")
def stub_study(tmp_path_factory):
    out = tmp_path_factory.mktemp("study")
    lines = []
    plan = Plan(load_data("digits", 100, 100), STUBS, out, n_seeds=2)
    results = study(plan, report=lines.append)
    return out, "\n".join(lines), results


def test_every_seed_fits_every_model_and_reports_it():
    lines = []
    results = list(run_study(load_data("digits", 50, 50), STUBS, (4, 7), lines.append))
    assert [(r.seed, r.model) for r, _ in results] == [
        (4, "transfer"),
        (4, "scratch"),
        (7, "transfer"),
        (7, "scratch"),
    ]
    assert sum("accuracy" in line for line in lines) == 4


def test_the_report_holds_both_models_and_a_verdict(stub_study):
    _, text, _ = stub_study
    assert "digits: 100 training and 100 test images of 10 classes" in text
    assert "== transfer (report of seed 1) ==" in text
    assert "== scratch (report of seed 1) ==" in text
    assert text.count("macro avg") == 2
    assert "over 2 seeds" in text
    assert re.search(r"Verdict: Transfer got \d+ of 100 images right, .*use tr", text)
    assert "Over 2 seeds, transfer had " in text
    assert "What to try next:\n- " in text
    assert "probabilities: log loss " in text


def test_every_file_is_written(stub_study):
    out, _, _ = stub_study
    assert {file.name for file in out.iterdir()} == FILES
    for name in FILES - {"report.html", "results.json"}:
        with Image.open(out / name) as image:
            assert min(image.size) > 300


def test_the_json_repeats_the_results(stub_study):
    out, _, results = stub_study
    content = json.loads((out / "results.json").read_text())
    assert content["n_train"] == 100
    assert content["n_test"] == 100
    assert [run["accuracy"] for run in content["runs"]] == [
        result.accuracy for result in results
    ]
    assert content["verdict"].endswith("use transfer.")
    assert content["reason"].startswith("Over 2 seeds")
    assert content["advice"]
    assert content["image_size"] == [8, 8]
    accuracies = [run["accuracy"] for run in content["runs"][::2]]
    assert content["summary"]["transfer"]["accuracy"] == {
        "median": float(np.median(accuracies)),
        "least": min(accuracies),
        "greatest": max(accuracies),
    }
    assert content["summary"]["transfer"]["n_parameters"] is None
    assert [row["n_test"] for row in content["per_class"]["scratch"]] == [10] * 10
    assert {"numpy", "pillow", "torch", "sktransfer"} < set(content["versions"])
    assert content["hardware"]["n_cores"] >= 1


def test_only_models_of_the_last_seed_are_kept(tmp_path, digits):
    alive = []

    def make(seed):
        model = Rows(n_neighbors=1)
        alive.append((seed, weakref.ref(model)))
        return model

    def still_alive(line):
        if line.startswith("seed 2, scratch: training"):
            gc.collect()
            seen.update(seed for seed, model in alive if model() is not None)
            raise KeyboardInterrupt  # nothing after this is asked for

    seen = set()
    plan = Plan(digits, {"transfer": make, "scratch": make}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        study(plan, report=still_alive)
    assert seen == {2}


def test_the_peak_memory_of_a_fit_counts_what_it_allocates_on_linux():
    peaks = []
    for n in (1, 25_000_000, 1):
        with PeakMemory() as memory:
            np.ones(n)
        peaks.append(memory.get_peak("cpu"))
    if not CLEAR_REFS.exists():  # another system
        assert peaks == [None] * 3
    else:
        before, large, after = peaks
        assert large - max(before, after) > 190e6


def test_without_a_high_water_mark_the_peak_memory_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr("sktransfer._study.machine.CLEAR_REFS", tmp_path / "none")
    with PeakMemory() as memory:
        pass
    assert memory.get_peak("cpu") is None


def test_the_cores_of_the_machine_count_where_a_process_has_no_affinity(monkeypatch):
    monkeypatch.setattr("sktransfer._study.machine.psutil.cpu_count", lambda: 7)
    monkeypatch.delattr("psutil.Process.cpu_affinity", raising=False)
    hardware = describe_hardware()
    assert hardware["n_cores"] == 7
    assert hardware["memory"] > 2**28


def test_the_split_is_disjoint_and_stratified():
    y = np.repeat([0, 1, 2], [60, 30, 10])
    train, test = split_indices(y, 20, 40)
    assert not set(train) & set(test)
    assert np.bincount(y[train]).tolist() == [12, 6, 2]
    assert np.bincount(y[test]).tolist() == [24, 12, 4]


def test_a_rare_class_keeps_one_image():
    y = np.repeat([0, 1], [99, 1])
    assert np.bincount(y[draw_stratified(y, 5, "n")]).tolist() == [4, 1]


def test_a_rare_class_is_both_trained_on_and_tested():
    y = np.repeat([0, 1], [98, 2])
    train, test = split_indices(y, 80, None)
    assert np.bincount(y[train]).tolist() == [79, 1]
    assert np.bincount(y[test]).tolist() == [19, 1]
    with pytest.raises(ValueError, match="class '1' has a single image; add one"):
        split_indices(np.repeat([0, 1], [99, 1]), 80, None)


class Interrupted(Rows):
    def fit(self, X, y):
        raise KeyboardInterrupt


def make_interrupted(seed):
    return Interrupted()


def test_a_study_that_is_cut_off_keeps_the_finished_runs(tmp_path, digits):
    models = {"transfer": make_good, "scratch": make_interrupted}
    with pytest.raises(KeyboardInterrupt):
        study(Plan(digits, models, tmp_path), report=silent)
    content = json.loads((tmp_path / "results.json").read_text())
    assert [run["model"] for run in content["runs"]] == ["transfer"]
    assert content["verdict"] is None


def test_the_files_of_an_earlier_study_are_deleted(tmp_path, digits):
    foreign = tmp_path / "holiday.png"
    study(Plan(digits, STUBS, tmp_path, n_seeds=1), report=silent)
    foreign.write_bytes(b"kept")
    assert (tmp_path / "report.html").exists()
    plan = Plan(digits, {**STUBS, "transfer": make_interrupted}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        study(plan, report=silent)
    assert list(tmp_path.iterdir()) == [foreign]


def test_files_of_others_with_the_names_of_a_study_stay(tmp_path, digits):
    own = tmp_path / "samples.png"
    own.write_bytes(b"kept")
    plan = Plan(digits, {**STUBS, "transfer": make_interrupted}, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        study(plan, report=silent)
    assert own.read_bytes() == b"kept"


def test_options_that_are_refused_leave_an_earlier_study_alone(tmp_path, capsys):
    (tmp_path / "results.json").write_text("{}")
    assert main(["--max-epochs", "0", "--out", str(tmp_path)]) == 2
    assert "'max_epochs'" in capsys.readouterr().err
    assert (tmp_path / "results.json").read_text() == "{}"


def test_only_the_fits_on_digits_use_one_thread(two_threads, tmp_path):
    class Counts(Rows):
        def fit(self, X, y):
            seen.append(torch.get_num_threads())
            return super().fit(X, y)

    seen = []
    plan = plan_study(n_test=50, out=tmp_path / "new", n_seeds=1)
    assert torch.get_num_threads() == 2
    models = {"transfer": lambda seed: Counts(n_neighbors=1), "scratch": make_poor}
    study(Plan(plan.data, models, plan.out, 1, plan.n_threads), report=silent)
    assert seen == [1]
    assert torch.get_num_threads() == 2
    content = json.loads((plan.out / "results.json").read_text())
    assert content["hardware"]["n_threads"] == 1


def test_max_epochs_applies_to_both_models():
    models = define_models("digits", max_epochs=3)
    assert [make(0).max_epochs for make in models.values()] == [3, 3]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("digits", "mini_resnet18"),
        ("cifar10", "mini_resnet18"),
        ("my_photographs", "efficientnet_lite0"),
    ],
)
def test_the_backbone_is_that_which_suits_the_images(data, expected):
    model = define_models(data)["transfer"](0)
    assert isinstance(model, TransferClassifier)
    assert model.backbone == expected
    assert define_models(data, "efficientnet_lite0")["transfer"](0).backbone == (
        "efficientnet_lite0"
    )


@pytest.mark.parametrize("backbone", ["mini_resnet18", "efficientnet_lite0"])
def test_on_digits_every_stage_of_any_backbone_learns(backbone):
    model = define_models("digits", backbone)["transfer"](0)
    assert model.unfreeze_depth == len(find_backbone(backbone).stages)


def test_both_models_resize_alike_and_transfer_takes_a_size():
    models = define_models("folder", image_size=96, resize="pad")
    transfer, scratch = (make(0) for make in models.values())
    assert (transfer.resize, scratch.resize) == ("pad", "pad")
    assert (transfer.image_size, scratch.image_size) == (96, "auto")
    assert define_models("folder")["transfer"](0).resize == TransferClassifier().resize


def test_every_option_of_the_command_reaches_the_plan(monkeypatch, tmp_path):
    def keep(plan, **kwargs):
        seen.append(plan)

    seen = []
    monkeypatch.setattr("sktransfer.__main__.study", keep)
    folder, out = make_folder(tmp_path / "in", 2, 9), tmp_path / "out"
    words = f"--data {folder} --n-train 8 --n-test 6 --seeds 2 --out {out} --backbone "
    words += "mini_resnet18 --max-epochs 4 --image-size 16 --resize crop"
    assert main(words.split()) == 0
    (plan,) = seen
    transfer = plan.models["transfer"](0)
    assert (len(plan.data.y_train), len(plan.data.y_test)) == (8, 6)
    assert (plan.n_seeds, plan.out) == (2, out)
    assert (transfer.backbone, transfer.image_size) == ("mini_resnet18", 16)
    assert (transfer.max_epochs, transfer.resize) == (4, "crop")


@pytest.mark.parametrize(
    ("n_train", "n_test", "message"),
    [
        (1790, None, "n_train=1790 is too large.*at most 1787"),
        (9, None, "n_train=9 is fewer than one image for each of the 10 classes"),
        (100, 1698, "n_test=1698 is too large.*at most 1697"),
    ],
)
def test_sizes_the_data_cannot_give_are_refused(n_train, n_test, message):
    with pytest.raises(ValueError, match=message):
        load_data("digits", n_train, n_test)


def test_unknown_data_exits_with_code_2(capsys, tmp_path):
    assert main(["--data", "no-such-data", "--out", str(tmp_path / "out")]) == 2
    assert "neither a known name nor a folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_no_seeds_exit_with_code_2(capsys, tmp_path):
    assert main(["--seeds", "0", "--out", str(tmp_path)]) == 2
    assert "seeds=0" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["matplotlib", "jinja2"])
def test_a_missing_package_is_reported_before_the_training(
    monkeypatch, tmp_path, missing
):
    monkeypatch.setitem(sys.modules, missing, None)
    out = tmp_path / "out"
    with pytest.raises(ImportError, match=rf"{missing}.*sktransfer\[plot\]"):
        plan_study(out=out)
    assert not out.exists()


def make_folder(path, n_classes, n_images):
    """Write pictures of one grey level per class."""
    for i in range(n_classes):
        (path / f"grey{i}").mkdir(parents=True)
        for j in range(n_images):
            image = Image.new("RGB", (9, 7), (20 * i,) * 3)
            image.save(path / f"grey{i}" / f"{j}.png")
    return str(path)


def test_a_folder_is_split_four_to_one_and_its_pictures_are_drawn(tmp_path):
    data = load_data(make_folder(tmp_path / "in", 2, 5), None, None)
    out, lines = tmp_path / "out", []
    out.mkdir()
    models = {"transfer": make_poor, "scratch": make_poor}
    study(Plan(data, models, out, n_seeds=1), report=lines.append)
    assert "8 training and 2 test images of 2 classes" in lines[0]
    assert {file.name for file in out.iterdir()} == FILES


@pytest.mark.parametrize(("n_images", "n_train"), [(3, 20), (2, 10)])
def test_a_small_folder_keeps_an_image_of_each_class_to_test(
    tmp_path, n_images, n_train
):
    data = load_data(make_folder(tmp_path, 10, n_images), None, None)
    assert (len(data.y_train), len(data.y_test)) == (n_train, 10)
    assert len(set(data.y_test)) == 10


def test_a_file_that_is_no_image_is_reported_before_anything_is_trained(
    tmp_path, capsys
):
    folder, out = make_folder(tmp_path / "in", 2, 5), tmp_path / "out"
    for file in Path(folder, "grey1").iterdir():
        file.write_bytes(b"text")
    assert main(["--data", folder, "--out", str(out)]) == 2
    assert str(Path(folder, "grey1")) in capsys.readouterr().err
    assert not out.exists()


def test_a_folder_with_train_and_test_inside_keeps_that_split(tmp_path):
    for part, value, n in (("train", 0, 4), ("test", 255, 2)):
        for name in ("a", "b"):
            (tmp_path / part / name).mkdir(parents=True)
            for i in range(n):
                image = Image.new("RGB", (9, 7), (value,) * 3)
                image.save(tmp_path / part / name / f"{i}.png")
    data = load_data(str(tmp_path), None, None)
    assert data.names == ("a", "b")
    assert (len(data.y_train), len(data.y_test)) == (8, 4)
    assert {Path(path).parts[-3] for path in data.X_train} == {"train"}
    assert {Path(path).parts[-3] for path in data.X_test} == {"test"}
    (tmp_path / ".ipynb_checkpoints").mkdir()
    assert load_data(str(tmp_path), None, None).names == ("a", "b")
    (tmp_path / "test" / "a").rename(tmp_path / "test" / "c")
    with pytest.raises(ValueError, match="missing from the training images: c"):
        load_data(str(tmp_path), None, None)


def test_a_folder_train_without_one_to_test_on_is_refused(tmp_path):
    (tmp_path / "train" / "a").mkdir(parents=True)
    with pytest.raises(ValueError, match="has a folder train but none of test, val"):
        load_data(str(tmp_path), None, None)


def test_cifar10_keeps_its_own_training_and_test_images(monkeypatch):
    def fetch(subset):
        value = {"train": 1, "test": 2}[subset]
        return Bunch(
            data=np.full((40, 32, 32, 3), value, dtype=np.uint8),
            target=np.arange(40) % 4,
            target_names=["a", "b", "c", "d"],
        )

    monkeypatch.setattr("sktransfer.datasets.fetch_cifar10", fetch)
    data = load_data("cifar10", 8, None)
    assert (np.unique(data.X_train), np.unique(data.X_test)) == (1, 2)
    assert (len(data.y_train), len(data.y_test)) == (8, 40)
    assert data.names == ("a", "b", "c", "d")


def test_the_real_models_run_and_count_their_parameters(tmp_path):
    lines = []
    models = {
        "transfer": lambda seed: ResNetTransferClassifier(
            "mini_resnet18", max_epochs=1, augment=None, random_state=seed
        ),
        "scratch": lambda seed: ScratchCNNClassifier(
            width=4, max_epochs=1, augment=None, random_state=seed
        ),
    }
    plan = Plan(load_data("digits", 20, 20), models, tmp_path, n_seeds=1)
    results = study(plan, report=lines.append)
    assert all(r.n_parameters > 0 and r.n_epochs == 1 for r in results)
    text = "\n".join(lines)
    assert "transfer: ResNetTransferClassifier(augment=None, backbone='mini_" in text
    content = json.loads((tmp_path / "results.json").read_text())
    network = content["networks"]["transfer"]
    assert (network["backbone"], network["image_size"]) == ("mini_resnet18", [32, 32])
    assert network["starts_solved"]
    assert not content["networks"]["scratch"]["starts_solved"]
    assert content["networks"]["scratch"]["backbone"] is None
    assert network["depth_reason"].endswith("a single epoch is the linear probe.")
    assert network["depth_reason"] in (tmp_path / "report.html").read_text()
    assert content["networks"]["scratch"]["depth_reason"] is None
    (row,) = network["history"]
    assert row["train_accuracy"] <= 1
    assert "scratch: ScratchCNNClassifier(augment=None, max_epochs=1" in text
    assert "trainable parameters" in text
    assert set(tmp_path.iterdir()) == set(list_output_files(plan))


def test_a_long_fit_reports_its_progress(monkeypatch):
    monkeypatch.setattr("sktransfer._training.callbacks.progress.EVERY_SECONDS", 0)
    lines = []
    make = define_models("digits", max_epochs=2)["scratch"]
    list(run_study(load_data("digits", 50, 50), {"scratch": make}, (3,), lines.append))
    said = (
        r"seed 3, scratch: epoch 2 of 2 after \d+ s, training loss \d\.\d+, training "
    )
    assert any(re.fullmatch(said + r"accuracy \d+\.\d%", line) for line in lines)


def test_a_models_own_callbacks_are_kept():
    class Notes(Callback):
        def on_train_end(self, net, **kwargs):
            heard.append(len(net.history))

    def make(seed):
        return ScratchCNNClassifier(
            width=4, max_epochs=1, random_state=seed, callbacks=[("mine", Notes())]
        )

    heard = []
    list(run_study(load_data("digits", 20, 20), {"scratch": make}, (0,), silent))
    assert heard == [1]


def test_log_loss_and_calibration_error_are_measured_on_the_test_images(digits):
    ((run, model),) = run_study(digits, {"transfer": make_good}, (0,), silent)
    proba = model.predict_proba(digits.X_test)
    right = (digits.labels[proba.argmax(axis=1)] == digits.y_test).mean()
    # One neighbour is always certain, so the error is the share of mistakes.
    assert run.calibration_error == pytest.approx(1 - right)
    assert run.log_loss > 1


def test_advice_rests_on_the_fit_whose_mistakes_are_shown(digits):
    runs = [run for run, _ in run_study(digits, STUBS, (0, 1), silent)]
    names = tuple(f"the {label}" for label in digits.labels)
    network = {"backbone": "mini_resnet18", "image_size": [32, 32]}
    facts = collect_facts(replace(digits, names=names), runs, network)
    assert facts.transfer == [runs[0].accuracy, runs[2].accuracy]
    assert facts.n_wrong == (runs[2].predictions != digits.y_test).sum()
    assert facts.confused.true in names
    assert (facts.image_size, facts.seen_size) == ((8, 8), [32, 32])
    assert collect_facts(digits, runs, None).backbone is None


def test_the_size_of_files_is_the_median_of_each_side(tmp_path):
    for i, size in enumerate([(9, 7), (90, 70), (12, 40), (9, 7), (12, 40)]):
        for name in ("a", "b"):
            (tmp_path / name).mkdir(exist_ok=True)
            Image.new("RGB", size).save(tmp_path / name / f"{i}.png")
    data = load_data(str(tmp_path), 8, None)
    sizes = [Image.open(path).size for path in data.X_train]
    expected = tuple(int(np.median([size[i] for size in sizes])) for i in (1, 0))
    assert data.image_size == expected


def test_an_unknown_backbone_is_reported_before_anything_is_trained(tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["--backbone", "foo", "--out", str(out)]) == 2
    assert "backbone='foo' is unknown" in capsys.readouterr().err
    assert not out.exists()


def test_a_size_that_the_backbone_cannot_take_is_reported_before_anything_is_trained(
    monkeypatch, tmp_path, capsys
):
    def refuse(self, n_classes, dropout, image_shape):
        raise ValueError(
            f"{self.backbone} takes no {self.image_size} for {image_shape}"
        )

    monkeypatch.setattr(TransferClassifier, "_load_backbone", refuse)
    out = tmp_path / "out"
    assert main(["--image-size", "7", "--out", str(out)]) == 2
    assert "mini_resnet18 takes no 7 for (8, 8, 1)" in capsys.readouterr().err
    folder = make_folder(tmp_path / "in", 2, 5)
    assert main(["--data", folder, "--image-size", "7", "--out", str(out)]) == 2
    assert "efficientnet_lite0 takes no 7 for (7, 9, 3)" in capsys.readouterr().err
    assert not out.exists()


def run_failing(monkeypatch, out, error):
    """Return the exit code of the command when a study raises `error`."""

    def fail(plan, **kwargs):
        raise error

    plan = SimpleNamespace(out=out)
    monkeypatch.setattr("sktransfer.__main__.plan_study", lambda *args, **kwargs: plan)
    monkeypatch.setattr("sktransfer.__main__.study", fail)
    return main(["--out", str(out)])


def test_an_interrupted_study_ends_in_one_line(monkeypatch, capsys, tmp_path):
    assert run_failing(monkeypatch, tmp_path, KeyboardInterrupt()) == 130
    assert capsys.readouterr().err.endswith("interrupted. No fit was saved.\n")
    (tmp_path / "results.json").write_text("{}")
    assert run_failing(monkeypatch, tmp_path, KeyboardInterrupt()) == 130
    printed = capsys.readouterr().err
    assert f"Finished fits are in {tmp_path / 'results.json'}." in printed
    assert printed.count("\n") == 1


def test_a_loss_that_is_no_number_ends_in_one_line(monkeypatch, capsys, tmp_path):
    assert (
        run_failing(monkeypatch, tmp_path, FloatingPointError("The loss is nan.")) == 2
    )
    assert "The loss is nan. No fit was saved." in capsys.readouterr().err


def test_an_error_in_a_fit_is_not_mistaken_for_a_bad_option(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match="a fault"):
        run_failing(monkeypatch, tmp_path, ValueError("a fault"))


@pytest.mark.parametrize(
    ("system", "folder", "data", "expected"),
    [
        ("posix", None, "cifar10", "python -m sktransfer --out 'my runs'"),
        (
            "posix",
            "/my data",
            "cifar10",
            "SKTRANSFER_DATA='/my data' python -m sktransfer --out 'my runs'",
        ),
        ("posix", "/my data", "digits", "python -m sktransfer --out 'my runs'"),
        ("nt", None, "cifar10", 'python -m sktransfer --out "my runs"'),
        (
            "nt",
            "C:\\my data",
            "cifar10",
            'set "SKTRANSFER_DATA=C:\\my data" & python -m sktransfer --out "my runs"',
        ),
    ],
)
def test_the_command_is_quoted_for_the_shell_of_the_system(
    monkeypatch, system, folder, data, expected
):
    environ = {} if folder is None else {"SKTRANSFER_DATA": folder}
    there = SimpleNamespace(name=system, environ=environ)
    monkeypatch.setattr("sktransfer.__main__.os", there)
    assert quote_command(["--out", "my runs"], data) == expected


def test_one_seed_has_no_range():
    lines = []
    data = load_data("digits", 50, 50)
    runs = [run for run, _ in run_study(data, STUBS, (0,), lines.append)]
    report_results(data, runs, [], lines.append)
    assert any("%, one seed" in line for line in lines)
