import ast
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import sktransfer


def test_every_public_name_is_there():
    for name in sktransfer.__all__:
        assert getattr(sktransfer, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = sktransfer.nothing_of_that_name


def test_importing_the_package_loads_neither_torch_nor_skorch():
    names = "{*sys.modules} & {'torch', 'torchvision', 'skorch'}"
    code = f"import sys, sktransfer; print({names})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize(
    "name",
    [n for n in sktransfer.__all__ if n not in ("datasets",)],
)
def test_public_names_say_that_they_come_from_the_package_itself(name):
    # Pickles and printed classes name this place, not the file of the day.
    assert getattr(sktransfer, name).__module__ == "sktransfer"


@pytest.mark.parametrize("name", sktransfer.__all__)
def test_public_names_survive_a_pickle(name):
    public = getattr(sktransfer, name)
    if name != "datasets":
        assert pickle.loads(pickle.dumps(public)) is public


def test_every_file_of_a_room_begins_with_what_it_is_for():
    for path in Path(sktransfer.__file__).parent.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path
