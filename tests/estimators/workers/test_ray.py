"""Searches on Ray: as on one machine."""

import os

import pytest
from joblib import Parallel, delayed, parallel_config

from sktransfer._processes.workers import is_worker
from tests.estimators.workers.clusters import (
    assert_same,
    quick,
    save_pictures,
    search_in_three_ways,
)

ray = pytest.importorskip("ray")


@pytest.fixture(scope="module")
def backend():
    """The name of joblib's backend for two workers on this machine."""
    from ray.util.joblib import register_ray

    with pytest.MonkeyPatch.context() as quiet:
        quiet.setenv("RAY_USAGE_STATS_ENABLED", "0")
        here = {"env_vars": {"PYTHONPATH": os.getcwd()}}
        # Without an address it would join a cluster that somebody runs here.
        ray.init("local", num_cpus=2, include_dashboard=False, runtime_env=here)
        register_ray()
        yield "ray"
        ray.shutdown()


def test_searches_find_bit_for_bit_what_they_find_on_one_machine(backend, tmp_path):
    paths, y = save_pictures(tmp_path / "pictures")
    with parallel_config(backend, n_jobs=2):
        found = search_in_three_ways(quick(), paths, y)
    assert_same(found, search_in_three_ways(quick(), paths, y))


def test_tasks_know_that_they_run_in_a_worker(backend):
    with parallel_config(backend, n_jobs=2):
        assert Parallel()([delayed(is_worker)()] * 2) == [True, True]
    assert not is_worker()
