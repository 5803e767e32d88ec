"""How the cost of a search grows with images, folds and candidates.

    python benchmarks/growth.py

Time and peak memory of a linear probe on the bundled backbone: random images of 32
pixels, 5 epochs, each case in its own process with an empty cache. One fit takes 1,000
to 50,000 images; a ``GridSearchCV`` over 1,000 images takes 2 to 10 folds and 1 to 27
candidates (dropouts). Memory is the growth of the peak resident set beyond that after
loading the images and fitting 200 of them first. The bytes of the activations alone
are reported beside it.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np
from record import Record, spread

N_ROUNDS = 5
BASE = {"n_images": 1000, "n_folds": 1, "n_candidates": 1}
CASES = [
    *({**BASE, "n_images": n} for n in (1000, 5000, 20_000, 50_000)),
    *({**BASE, "n_folds": n} for n in (2, 3, 5, 10)),
    *({**BASE, "n_folds": 3, "n_candidates": n} for n in (3, 9, 27)),
]


def peak_bytes() -> int:
    """Return the peak resident set of this process so far (Linux counts in KiB)."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def run(n_images: int, n_folds: int, n_candidates: int) -> dict[str, Any]:
    """Return seconds and bytes of one search, or of one fit."""
    from sklearn.model_selection import GridSearchCV

    from sktransfer import ActivationCache, ResNetTransferClassifier

    chance = np.random.default_rng(0)
    X = chance.integers(0, 256, (n_images, 32, 32, 3), dtype=np.uint8)
    y = np.arange(n_images) % 10
    cache = ActivationCache()
    clf = ResNetTransferClassifier(
        "mini_resnet18",
        unfreeze_depth=0,
        augment=None,
        early_stopping=False,
        batch_size=128,
        device="cpu",
        random_state=0,
    )
    clf.fit(X[:200], y[:200])  # loads torch and the weights
    clf.set_params(activation_cache=cache)
    before, started = peak_bytes(), time.perf_counter()
    if n_folds == 1:
        clf.fit(X, y)
    else:
        grid = {"dropout": np.linspace(0, 0.8, n_candidates).tolist()}
        GridSearchCV(clf, grid, cv=n_folds, refit=False).fit(X, y)
    return {
        "seconds": time.perf_counter() - started,
        "more_bytes": peak_bytes() - before,
        "activation_bytes": cache.info().n_bytes,
        "misses": cache.info().misses,
    }


def main() -> None:
    """Measure what the record lacks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", help="one case as JSON, to run in this process")
    case = parser.parse_args().case
    if case:
        print(json.dumps(run(**json.loads(case))))
        return
    record = Record("growth")
    for key in CASES:
        if record.find(**key):
            continue
        made = []
        for _ in range(N_ROUNDS):
            command = [sys.executable, __file__, "--case", json.dumps(key)]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            made.append(json.loads(done.stdout.splitlines()[-1]))
        values = {name: [one[name] for one in made] for name in made[0]}
        record.add(
            **key,
            seconds=spread(values["seconds"], ".2f"),
            more_mib=spread([b / 2**20 for b in values["more_bytes"]], ".0f"),
            activation_mib=round(values["activation_bytes"][0] / 2**20, 1),
            misses=values["misses"][0],
        )


if __name__ == "__main__":
    main()
