import html
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from sklearn.utils import estimator_html_repr
from skorch.callbacks import Checkpoint

import sktransfer._estimators.documentation as documentation
from sktransfer import (
    ActivationCache,
    ResNetFeatureExtractor,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
)

ROOT = Path(__file__).parents[2]
ESTIMATORS = [ResNetTransferClassifier, ScratchCNNClassifier, ResNetFeatureExtractor]


@pytest.fixture(scope="module")
def fitted():
    X = np.random.default_rng(0).random((12, 8, 8, 3))
    clf = ScratchCNNClassifier(width=4, max_epochs=1, random_state=0, device="cpu")
    return clf.fit(X, np.arange(12) % 2)


def text(estimator):
    """What a reader of the notebook sees, without styles, scripts and descriptions."""
    page = re.sub(r"(?s)<(style|script).*?</\1>", "", estimator._repr_html_())
    # Newer releases of scikit-learn describe each parameter when it is pointed at.
    page = re.sub(r'(?s)<span class="param-doc-description".*?</span>', "", page)
    # Versions of scikit-learn differ in where they put a space that does not break.
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_a_notebook_shows_every_parameter_and_that_nothing_is_fitted(kind):
    shown = text(kind())
    assert kind.__name__ in shown
    assert "Not fitted" in shown
    for name, value in kind().get_params().items():
        assert f" {name} {value!r} " in shown


def test_a_notebook_shows_that_an_estimator_is_fitted(fitted):
    shown = text(fitted)
    assert "Fitted" in shown
    assert "Not fitted" not in shown


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_link_leads_to_the_page_of_the_class_in_our_own_documentation(kind):
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    docs = settings["project"]["urls"]["Documentation"].rstrip("/")
    page = f"{docs}/generated/sktransfer.{kind.__name__}.html"
    assert kind()._get_doc_link() == page
    assert f'href="{page}"' in estimator_html_repr(kind())
    assert 'href="https://scikit-learn' not in estimator_html_repr(kind())


def test_without_an_address_of_the_documentation_there_is_no_link(monkeypatch):
    def not_installed(name):
        raise documentation.PackageNotFoundError(name)

    monkeypatch.setattr(documentation, "metadata", not_installed)
    documentation.find_documentation.cache_clear()
    try:
        assert ScratchCNNClassifier()._get_doc_link() == ""
        assert "href" not in estimator_html_repr(ScratchCNNClassifier())
    finally:
        documentation.find_documentation.cache_clear()


def test_parameters_that_are_objects_are_shown_in_short(fitted):
    clf = ResNetTransferClassifier(
        weights=fitted,
        callbacks=[Checkpoint()],
        activation_cache=ActivationCache(),
        net_params={f"optimizer__{i}": list(range(100)) for i in range(50)},
    )
    shown = text(clf)
    assert "net_params {'optimizer__0': [0, 1, ...]," in shown
    assert "callbacks [<skorch" in shown
    assert "ScratchCNNClassifier" in shown  # the weights have a box of their own
    assert len(shown) < 20_000


def test_names_of_classes_are_not_taken_for_html():
    X = np.random.default_rng(0).random((12, 8, 8, 3))
    clf = ScratchCNNClassifier(width=4, max_epochs=1, device="cpu")
    clf.fit(X, np.array(["<b>cat", "<script>dog"])[np.arange(12) % 2])
    assert "<b>cat" not in clf._repr_html_()
    assert "<script>dog" not in clf._repr_html_()


def test_the_picture_of_an_estimator_loads_neither_torch_nor_tqdm():
    program = (
        "import sys\n"
        "from sktransfer import ResNetTransferClassifier\n"
        "assert 'max_epochs' in ResNetTransferClassifier()._repr_html_()\n"
        "print([name for name in ('torch', 'tqdm') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
