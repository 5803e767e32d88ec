"""The study's report: self-contained, escaped, and in agreement with the JSON."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.dummy import DummyClassifier

from sktransfer import (
    ActivationCache,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
)
from sktransfer._study.data import StudyData, load_data
from sktransfer._study.html import format_number, shorten_path
from sktransfer._study.pictures import PHONE, READABLE
from sktransfer._study.study import Plan, study

VOID = {"meta", "link", "img", "br"}


class Page(HTMLParser):
    """What a browser finds in the report."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.open, self.words, self.unclosed = [], [], [], []
        self.feed(html)
        self.text = re.sub(r"\s+", " ", "".join(self.words))

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if self.open.pop() != tag:
            self.unclosed.append(tag)
        if tag in {"dt", "dd", "td", "th", "p", "li"}:
            self.words.append(" ")

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


class Guess(DummyClassifier):
    """A model that predicts labels, but no probabilities."""

    predict_proba = property()


def make_guess(seed):
    return Guess(strategy="uniform", random_state=seed)


STUBS = {"transfer": make_guess, "scratch": make_guess}


def run(out, data, models=STUBS, n_seeds=1, command=None):
    """Return the page of a study, its JSON and its HTML."""
    plan = Plan(data, models, out, n_seeds)
    study(plan, report=lambda line: None, command=command)
    html = (out / "report.html").read_text(encoding="utf-8")
    return Page(html), json.loads((out / "results.json").read_text()), html


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    cache = ActivationCache()
    models = {
        "transfer": lambda seed: ResNetTransferClassifier(
            "mini_resnet18",
            unfreeze_depth=1,
            max_epochs=4,
            augment="flip",
            activation_cache=cache,
            random_state=seed,
        ),
        "scratch": lambda seed: ScratchCNNClassifier(
            width=4, max_epochs=2, augment=None, random_state=seed
        ),
    }
    command = "python -m sktransfer --out 'my folder'"
    data = load_data("digits", 40, 60)
    return run(tmp_path_factory.mktemp("real"), data, models, 2, command)


@pytest.fixture(scope="module")
def stub(tmp_path_factory):
    return run(tmp_path_factory.mktemp("stub"), load_data("digits", 100, 40))


def make_folder(path, names):
    """Write six grey pictures of each class."""
    for value, name in enumerate(names):
        (path / name).mkdir(parents=True)
        for i in range(6):
            image = Image.new("RGB", (9, 7), (60 * value + i,) * 3)
            image.save(path / name / f"{i}.png")
    return str(path)


def test_the_report_is_self_contained(real):
    page, _, html = real
    assert not page.all("script")
    targets = [
        attrs[name]
        for _, attrs in page.tags
        for name in ("src", "href", "srcset", "action", "data")
        if attrs.get(name) is not None
    ]
    assert all(target.startswith(("data:", "#")) for target in targets)
    assert "http:" not in html
    assert "https:" not in html
    assert "url(" not in html
    assert "@import" not in html


def test_every_tag_is_closed_and_every_link_leads_somewhere(real):
    page, _, html = real
    assert html.startswith("<!DOCTYPE html>")
    assert not page.unclosed
    assert not page.open
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {attrs["href"][1:] for attrs in page.all("a")} <= set(ids)


def test_there_are_a_language_and_one_main_heading(real):
    page, _, _ = real
    assert page.all("html") == [{"lang": "en"}]
    assert len(page.all("h1")) == 1
    assert len(page.all("main")) == 1


def test_every_number_is_one_of_results_json(real):
    page, content, _ = real

    def numbers(part):
        if isinstance(part, dict):
            return {n for value in part.values() for n in numbers(value)}
        if isinstance(part, list):
            return {n for value in part for n in numbers(value)}
        return {part} if isinstance(part, (int, float)) else set()

    known = numbers(content)
    found = [float(attrs["value"]) for attrs in page.all("data")]
    assert len(found) > 100
    assert set(found) <= known


@pytest.mark.parametrize(
    ("value", "kind", "text"),
    [
        (0.9812, "percent", "98.1 %"),
        (0.9812, "share", "0.981"),
        (1234.56, "seconds", "1,234.6"),
        (1234567, "count", "1,234,567"),
        (2.5, "count", "2.5"),
        (1536 * 2**20, "bytes", "1,536 MiB"),
        (24 * 2**29, "large_bytes", "12.0 GiB"),
    ],
)
def test_a_number_is_written_with_its_unit(value, kind, text):
    assert format_number(value, kind) == text


def test_the_table_shows_median_least_and_greatest_of_the_runs(real):
    page, content, _ = real
    for model in ("transfer", "scratch"):
        runs = [r for r in content["runs"] if r["model"] == model]
        values = sorted(100 * r["accuracy"] for r in runs)
        cell = f"{np.median(values):.1f} %"
        if values[0] != values[-1]:
            cell += f" ({values[0]:.1f} to {values[-1]:.1f})"
        assert cell in page.text
    for word in ("Log loss", "Calibration error"):
        assert word in page.text
    for word in ("Seconds per fit", "Parameters trained", "Epochs", "Peak memory"):
        assert word in page.text


def test_every_picture_has_words_and_a_size(real):
    page, _, _ = real
    pictures = page.all("img")
    assert len(pictures) == 10
    assert len({attrs["alt"] for attrs in pictures}) == 10
    for attrs in pictures:
        assert len(attrs["alt"]) > 30
        assert int(attrs["width"]) > 300
        assert attrs["src"].startswith("data:image/png;base64,")
    n_figures = len(page.all("figure"))
    assert len(page.all("figcaption")) == n_figures


def test_all_displays_are_there(real):
    page, _, _ = real
    for title in (
        "Accuracy against time",
        "Training images",
        "Training of transfer",
        "Training of scratch",
        "Confusion matrices",
        "Drawn at random",
        "Most confident mistakes",
        "Highest losses",
        "Most confused classes",
        "What the model looks at",
    ):
        assert f"{title}." in page.text
    assert "Not in this report" not in page.text


def test_the_command_versions_and_hardware_are_shown(real):
    page, content, _ = real
    assert "python -m sktransfer --out 'my folder'" in page.text
    for name, version in content["versions"].items():
        assert f"{name} {version}" in page.text
    assert " ".join(content["hardware"]["processor"].split()) in page.text
    assert page.all("time") == [{"datetime": content["date"]}]


def test_the_stages_that_learn_are_shown(real):
    page, content, _ = real
    stages = content["networks"]["transfer"]["stages"]
    assert [stage["first_epoch"] for stage in stages][-2:] == [2, 1]
    assert all(stage["n_trained"] == 0 for stage in stages[:-2])
    assert f"layer3 {stages[3]['n_parameters']:,} 0 frozen" in page.text
    assert f"head {stages[-1]['n_parameters']:,} " in page.text
    assert page.text.count(" 1 (solved)") == 1
    assert "The first epoch is the linear probe: the head is solved" in page.text
    trained = content["summary"]["transfer"]["n_parameters"]["median"]
    assert sum(stage["n_trained"] for stage in stages) == trained


NOTE = "fits after the first find most of them there"


def test_the_report_notes_that_a_fit_found_most_of_its_activations(real):
    page, content, _ = real
    network = content["networks"]["transfer"]
    assert 9 * network["n_activations_new"] < network["n_activations_found"]
    assert NOTE in page.text


def test_the_report_notes_that_the_models_differ_in_more_than_pretraining(real):
    page, _, _ = real
    assert "The models differ in more than pretraining" in page.text


def test_boxes_that_scroll_are_groups_with_names_of_their_own(real):
    page, _, _ = real
    assert not [attrs for _, attrs in page.tags if attrs.get("role") == "region"]
    boxes = [attrs for attrs in page.all("div") if attrs.get("class") == "scroll"]
    assert {attrs["role"] for attrs in boxes} == {"group"}
    names = [attrs["aria-label"] for attrs in boxes]
    assert len(names) == len(set(names)) > 10


def test_the_result_and_one_picture_come_before_everything_else(real):
    page, content, html = real
    header = html[html.index("<header>") : html.index("<main>")]
    places = [
        header.index(part)
        for part in ('<p class="verdict">', "<img ", "Over 2 seeds", "<nav ")
    ]
    assert places == sorted(places)
    assert header.count("<img ") == 1
    assert content["verdict"] in page.text


def test_the_first_picture_fits_into_a_phone(real):
    page, _, html = real
    first = page.all("img")[0]
    assert "accuracy against training time" in first["alt"]
    assert int(first["width"]) * READABLE <= PHONE
    figure = html[: html.index("<img ")].rsplit("<figure", 1)[1]
    assert not figure.startswith(' class="large"')


def test_what_does_not_fit_into_a_phone_scrolls_and_says_so(real):
    page, _, html = real
    assert f"calc(var(--wide) * {READABLE:.2f})".replace("0.", ".") in html
    boxes = re.findall(r'<figure( class="large")?>\s*<div [^>]*>\s*<img', html)
    wide = [READABLE * int(attrs["width"]) > PHONE for attrs in page.all("img")]
    assert [bool(box) for box in boxes] == wide
    assert any(wide)
    assert re.search(r"\.scroll \{[^}]*overflow-x: auto; max-width: 100%", html)
    phone = html[html.index("@media (max-width: 40rem)") : html.index("@media print")]
    hint = r'\.wide > figcaption::after, \.large > figcaption::after \{ content: "[^"]'
    assert re.search(hint, phone)


def test_the_sizes_of_the_images_and_of_what_is_seen_are_named(real):
    page, content, _ = real
    seen = {name: n["image_size"] for name, n in content["networks"].items()}
    assert content["image_size"] == [8, 8]
    assert seen["transfer"] == [32, 32]
    side = seen["scratch"][0]
    assert "The images have 8 x 8 pixels (width x height)." in page.text
    assert "Transfer (mini_resnet18) sees 32 x 32." in page.text
    assert f"Scratch sees {side} x {side}." in page.text


def test_the_report_ends_in_advice(real):
    page, content, html = real
    end = html[html.rindex("<section") : html.index("</main>")]
    assert 'id="advice"' in end
    assert end.count("<li>") == len(content["advice"]) > 0
    for line in content["advice"]:
        assert line in page.text


def test_of_a_path_the_heading_names_the_last_folder():
    assert shorten_path("/my/photographs/pets") == "pets"
    assert shorten_path("digits") == "digits"
    assert shorten_path("/") == "/"


def test_unknown_numbers_are_called_unknown(stub):
    page, _, _ = stub
    assert "Parameters trained unknown unknown" in page.text


def test_stub_models_leave_out_what_they_do_not_have(stub):
    page, content, _ = stub
    assert content["runs"][0]["n_parameters"] is None
    assert "This model has no network of stages." in page.text
    assert "The model gives no probabilities." in page.text
    assert "The training history of transfer: this model keeps none." in page.text
    assert "What the model looks at" not in page.text.split("Not in this report")[0]
    assert "Drawn at random." in page.text


def test_one_seed_has_no_spread(stub):
    page, _, _ = stub
    assert "one seed, so the spread is unknown" in page.text
    assert not [attrs for attrs in page.all("span") if attrs.get("class") == "range"]


def test_a_study_from_python_has_no_command(stub):
    page, _, _ = stub
    assert "This study was run from Python, not from the command line." in page.text


def test_names_of_classes_are_escaped(tmp_path):
    names = ("<b>cat</b>", "dog & 'cow'", '"><script>alert(1)</script>')
    y = np.repeat(np.arange(3), 6)
    X = np.repeat(np.linspace(0, 1, 18), 64).reshape(18, 8, 8)
    data = StudyData("<i>pets", X, y, X, y, np.arange(3), names)
    page, content, _ = run(tmp_path, data)
    assert content["classes"] == list(names)
    assert not page.all("b")
    assert not page.all("i")
    assert not page.all("script")
    assert not page.unclosed
    for name in (*names, "<i>pets"):
        assert name in page.text


def test_a_model_without_mistakes_has_none_to_show(tmp_path):
    class Perfect(DummyClassifier):
        def predict_proba(self, X):
            labels = [int(Path(path).parent.name == "light") for path in X]
            return np.eye(2)[labels]

    models = {"transfer": lambda seed: Perfect(), "scratch": make_guess}
    folder = make_folder(tmp_path / "in", ["dark", "light"])
    (tmp_path / "out").mkdir()
    page, _, _ = run(tmp_path / "out", load_data(folder, None, None), models)
    assert "The mistakes of transfer: there are none." in page.text
    assert "Highest losses." in page.text
    assert "Most confused classes." not in page.text
