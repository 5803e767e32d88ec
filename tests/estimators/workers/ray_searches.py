"""A program that searches on Ray and serially, and prints whether both agree."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import ray
from joblib import Parallel, delayed, parallel_config
from ray.util.joblib import register_ray

from sktransfer._processes.workers import is_worker
from tests.estimators.workers.clusters import (
    quick,
    save_pictures,
    search_in_three_ways,
)


def main() -> None:
    """Start two workers on this machine."""
    # Before Ray runs, to see that asking does not start it.
    asked_before = is_worker()
    here = {"env_vars": {"PYTHONPATH": os.environ["PYTHONPATH"]}}
    # Without an address it would join a cluster that somebody runs here.
    ray.init("local", num_cpus=2, include_dashboard=False, runtime_env=here)
    register_ray()
    paths, y = save_pictures(Path(sys.argv[1]))
    with parallel_config("ray", n_jobs=2):
        found = search_in_three_ways(quick(), paths, y)
        in_workers = Parallel()([delayed(is_worker)()] * 2)
    expected = search_in_three_ways(quick(), paths, y)
    same = {name: np.array_equal(found[name], expected[name]) for name in expected}
    knows = {"in workers": in_workers, "here": [asked_before, is_worker()]}
    print(json.dumps({"same": same, "is worker": knows}))
    ray.shutdown()


if __name__ == "__main__":
    main()
