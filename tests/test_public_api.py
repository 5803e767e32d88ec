import subprocess
import sys

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
