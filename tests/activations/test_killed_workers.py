"""A search whose workers are killed fails with an error, and loses no activation."""

import os
import signal

import pytest
from joblib import parallel_config
from joblib.externals.loky.process_executor import TerminatedWorkerError
from sklearn.model_selection import GridSearchCV
from skorch.callbacks import Callback

from sktransfer import ActivationCache
from sktransfer._activations.storage.segments import read_segment
from tests.helpers import files, pictures, transfer


class Kill(Callback):
    """Kills its own process, as the system does when memory is short."""

    def on_epoch_end(self, net, **kwargs):
        os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(os.name == "nt", reason="nothing kills without notice here")
def test_after_a_worker_was_killed_a_search_reuses_what_it_had_computed(tmp_path):
    X, y = pictures(30)
    clf = transfer(unfreeze_depth=1, augment=None, head_init="random", max_epochs=1)
    clf.set_params(activation_cache=ActivationCache(path=tmp_path / "cache"))
    search = GridSearchCV(clf, {"dropout": [0.0, 0.5]}, cv=2, n_jobs=2, refit=False)
    search.set_params(estimator__callbacks=[Kill()])
    with (
        parallel_config("loky", inner_max_num_threads=1),
        pytest.raises(TerminatedWorkerError),
    ):
        search.fit(X, y)
    published = {key for path in files(tmp_path) for key in read_segment(path).keys}
    assert len(published) > 0
    cache = ActivationCache(path=tmp_path / "cache")
    search.set_params(estimator__callbacks=None, estimator__activation_cache=cache)
    search.set_params(n_jobs=1).fit(X, y)
    assert cache.info().misses == len(X) - len(published)
