"""The examples in the docstrings of public names, run as they stand."""

import doctest
import sys

import matplotlib
import pytest

import sktransfer
from sktransfer import datasets

matplotlib.use("Agg")


def public_objects():
    for name in sktransfer.__all__:
        if name != "datasets":
            yield name, getattr(sktransfer, name)
    for name in datasets.__all__:
        yield f"datasets.{name}", getattr(datasets, name)


def examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for name, public in public_objects():
        # Without a module: public names say that they are the package's own, so that
        # doctest would take what is in their file for imported.
        yield from finder.find(public, name, module=False, globs={})


EXAMPLES = [found for found in examples() if found.examples]


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda found: found.name)
def test_the_example_in_a_docstring_is_true(example):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    runner.run(example, out=sys.stdout.write)
    assert runner.failures == 0


def test_public_classes_have_examples():
    shown = {found.name.split(".")[0] for found in EXAMPLES}
    without = {"CacheInfo", "ModelFileError", "ModelInfo", "Stages", "UnfreezeSchedule"}
    assert {name for name, _ in public_objects() if "." not in name} - shown <= without
