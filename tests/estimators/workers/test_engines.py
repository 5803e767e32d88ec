"""A cache that is warmed by the workers of Dask, and by the ranks of torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from joblib import Parallel, delayed, parallel_config

from sktransfer import ActivationCache
from sktransfer._processes.cores import _count_cores, count_threads
from sktransfer.datasets import LazyImages
from tests.estimators.workers.folders import Deadly, extractor, read_folder
from tests.helpers import pictures, transfer

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def dask():
    """Two worker processes of Dask, of one thread each; what joblib uses."""
    from distributed import Client, LocalCluster

    options = {
        "n_workers": 2,
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
    }
    with (
        LocalCluster(**options) as cluster,
        Client(cluster) as client,
        parallel_config("dask"),
    ):
        yield client


def test_workers_of_dask_compute_each_row_once_with_the_bits_of_one_process(
    dask, tmp_path, monkeypatch
):
    X, _ = pictures(100)
    monkeypatch.chdir(tmp_path)  # which the workers do not know
    shared = ActivationCache(path="shared").warm(transfer(), X)
    with parallel_config("loky", n_jobs=1):
        alone = ActivationCache(path="alone").warm(transfer(), X)
    assert read_folder("shared") == read_folder("alone")
    assert (shared.hits, shared.misses) == (alone.hits, alone.misses)
    assert shared.misses > 0


def test_workers_of_dask_decode_in_as_many_threads_as_they_have(dask):
    assert Parallel()(delayed(count_threads)() for _ in range(2)) == [1, 1]


@pytest.mark.skipif(os.name == "nt", reason="nothing kills without notice here")
def test_dask_gives_the_shard_of_a_killed_worker_to_another(dask, tmp_path):
    X, _ = pictures(64)
    images = LazyImages(Deadly(X, tmp_path / "shared", dies_once=True))
    (tmp_path / "shared").mkdir()
    before = set(dask.run(os.getpid).values())
    cache = ActivationCache(path=tmp_path / "shared" / "cache")
    cache.warm(extractor(), images)
    with parallel_config("loky", n_jobs=1):
        ActivationCache(path=tmp_path / "alone").warm(extractor(), images)
    assert read_folder(tmp_path / "shared") == read_folder(tmp_path / "alone")
    dask.wait_for_workers(2)
    assert len(set(dask.run(os.getpid).values()) - before) == 1


SCRIPT = """
import json, sys
from pathlib import Path
from sktransfer import ActivationCache
from sktransfer._processes.cores import count_threads
from sktransfer._processes.ranks import find_rank
from tests.estimators.workers.folders import extractor, read_folder
from tests.helpers import pictures, transfer

folder, number = Path(sys.argv[1]), find_rank().number
X, _ = pictures(100)
found = {"threads": count_threads()}
cache = ActivationCache(path=folder / "shared")
for name in ("first", "again"):
    found[name] = cache.warm(transfer(), X)[:2]
    found[f"rows after {name}"] = len(read_folder(folder / "shared"))
found["one image"] = cache.warm(extractor(), X[:1])[:2]
refused = {"no path": (ActivationCache(), {}), "n_jobs": (cache, {"n_jobs": 2})}
for name, (tried, options) in refused.items():
    try:
        tried.warm(transfer(), X, **options)
    except ValueError as error:
        found[name] = str(error)
(folder / f"{number}.json").write_text(json.dumps(found))
"""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two ranks that torchrun has started say, and their folder."""
    folder = tmp_path_factory.mktemp("ranks")
    (folder / "script.py").write_text(SCRIPT)
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    subprocess.run(
        [*run, "--nproc-per-node", "2", str(folder / "script.py"), str(folder)],
        check=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    return [json.loads((folder / f"{n}.json").read_text()) for n in (0, 1)], folder


def test_ranks_compute_each_row_once_with_the_bits_of_one_process(ranks, tmp_path):
    told, folder = ranks
    X, _ = pictures(100)
    alone = ActivationCache(path=tmp_path / "alone")
    info = alone.warm(transfer(), X)
    alone.warm(extractor(), X[:1])
    assert read_folder(folder / "shared") == read_folder(tmp_path / "alone")
    for found in told:
        assert found["first"] == [info.hits, info.misses]
        assert found["again"] == [info.hits + info.misses, 0]


def test_no_rank_goes_on_before_all_rows_are_there(ranks):
    for found in ranks[0]:
        assert found["rows after first"] == sum(found["first"])


def test_a_rank_without_any_image_waits_for_the_others(ranks):
    for found in ranks[0]:
        assert found["one image"] == [0, 1]


def test_ranks_need_a_path_and_no_workers(ranks):
    for found in ranks[0]:
        assert "ActivationCache(path=...)" in found["no path"]
        assert found["n_jobs"].startswith("n_jobs=2 in one of 2 ranks")


def test_ranks_share_the_cores_of_their_machine_for_decoding(ranks):
    n_cores = _count_cores()
    for found in ranks[0]:
        assert found["threads"] == max(1, n_cores // 2)
