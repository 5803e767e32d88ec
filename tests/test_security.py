"""What SECURITY.md and the page of faults promise is asserted by tests that exist."""

import ast
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[1]

# The first releases without holes that matter here.
SAFE = {
    "pillow": "12.3",
    "torch": "2.11",
    "jinja2": "3.1.6",
    "distributed": "2026.1.1",
    "ray": "2.52",
}


def named_tests(page):
    return re.findall(r"(tests/[\w/]+\.py)::(test_\w+)", page.read_text("utf-8"))


@pytest.mark.parametrize("page", ["SECURITY.md", "docs/faults.rst"])
def test_the_tests_that_a_page_names_exist(page):
    named = named_tests(ROOT / page)
    assert named
    for file, name in named:
        module = ast.parse((ROOT / file).read_text("utf-8"))
        functions = [n.name for n in module.body if isinstance(n, ast.FunctionDef)]
        assert name in functions, f"{file}::{name}"


def test_the_lowest_versions_exclude_known_holes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["plot"] + extras["dask"] + extras["ray"]
    floors = {r.name: r.specifier for r in map(Requirement, lines)}
    for name, version in SAFE.items():
        (floor,) = floors[name]
        assert floor.operator == ">="
        assert Version(floor.version) >= Version(version)
