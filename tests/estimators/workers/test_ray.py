"""Searches on Ray: as on one machine."""

import json
import subprocess
import sys

import pytest

from tests.estimators.workers.clusters import ENVIRONMENT

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What a program found, apart from this one, which Ray would end with itself."""
    folder = tmp_path_factory.mktemp("pictures")
    program = [sys.executable, "-m", "tests.estimators.workers.ray_searches", folder]
    done = subprocess.run(
        program,
        capture_output=True,
        text=True,
        env={**ENVIRONMENT, "RAY_USAGE_STATS_ENABLED": "0"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_searches_find_bit_for_bit_what_they_find_on_one_machine(found):
    names = ["grid", "refit", "halving", "halving refit", "scores"]
    assert found["same"] == dict.fromkeys(names, True)


def test_tasks_know_that_they_run_in_a_worker_and_others_that_they_do_not(found):
    assert found["is worker"] == {"in workers": [True, True], "here": [False, False]}
