import ast
import pickle
import subprocess
import sys
import typing
from pathlib import Path

import pytest

import sktransfer


def test_every_public_name_is_there():
    for name in sktransfer.__all__:
        assert getattr(sktransfer, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_of_that_name"):
        _ = sktransfer.nothing_of_that_name


def test_importing_the_package_loads_no_library_that_it_may_not_need():
    names = "{'torch', 'torchvision', 'skorch', 'matplotlib', 'tqdm', 'jinja2'}"
    code = f"import sys, sktransfer; print({{*sys.modules}} & {names})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


@pytest.mark.parametrize("name", [n for n in sktransfer.__all__ if n != "datasets"])
def test_public_names_say_that_they_come_from_the_package_itself(name):
    # Pickles and printed classes name this place, whatever file a class moves to.
    assert getattr(sktransfer, name).__module__ == "sktransfer"


@pytest.mark.parametrize("name", [n for n in sktransfer.__all__ if n != "datasets"])
def test_type_hints_of_public_classes_can_be_resolved(name):
    public = getattr(sktransfer, name)
    if isinstance(public, type):
        typing.get_type_hints(public)  # raises a NameError for a name it cannot find


@pytest.mark.parametrize("name", sktransfer.__all__)
def test_public_names_survive_a_pickle(name):
    public = getattr(sktransfer, name)
    if name != "datasets":
        assert pickle.loads(pickle.dumps(public)) is public


def test_every_file_begins_with_what_it_is_for():
    for path in Path(sktransfer.__file__).parent.rglob("*.py"):
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_the_door_of_a_room_holds_a_docstring_and_nothing_else():
    package = Path(sktransfer.__file__).parent
    for path in package.rglob("_*/__init__.py"):
        module = ast.parse(path.read_text(encoding="utf-8"))
        assert len(module.body) == 1, path


def test_no_room_has_more_than_ten_modules():
    package = Path(sktransfer.__file__).parent
    for folder in {path.parent for path in package.rglob("*.py")}:
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= 10, folder
