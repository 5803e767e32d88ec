"""Five thousand damaged and forged model files are refused by name, or are models."""

import warnings
from collections import Counter
from random import Random

import pytest

import sktransfer
from sktransfer import ModelFileError
from tests.estimators.persistence.fitted import fit, outputs, see
from tests.files.mutants import FORGED, KINDS, mutate

N_MUTANTS = 5_000


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """How many of each kind were refused, read as they were, or read as others."""
    path, X = tmp_path_factory.mktemp("mutants") / "model", see("scratch")
    estimator = fit("scratch")
    estimator.save(path)
    packed, right = path.read_bytes(), outputs(estimator, X).tobytes()
    counts, escaped = Counter(), []
    for seed in range(N_MUTANTS):
        kind, mutant = mutate(Random(seed), packed)
        path.write_bytes(mutant)
        try:
            counts[kind, find_out(path, X, right)] += 1
        except Exception as error:  # everything else is a fault, with its seed
            escaped.append((seed, kind, repr(error)[:200]))
    return counts, escaped


def find_out(path, X, right):
    """Load a file, and predict with what it holds."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            loaded = sktransfer.load(path)
        except ModelFileError:
            return "refused"
        try:
            found = outputs(loaded, X).tobytes()
        except FloatingPointError:  # of weights that overflow
            return "overflows"
    return "same" if found == right else "other"


def test_no_other_error_escapes(seen):
    _, escaped = seen
    assert escaped == []


@pytest.mark.parametrize("kind", KINDS)
def test_enough_of_each_kind_is_tried_and_most_is_refused(seen, kind):
    counts, _ = seen
    n = sum(counts[kind, how] for how in ("refused", "same", "other", "overflows"))
    assert n > N_MUTANTS / len(KINDS) * 0.8
    assert counts[kind, "refused"] > n / 2


@pytest.mark.parametrize("kind", sorted(set(KINDS) - FORGED))
def test_what_is_read_in_spite_of_damage_predicts_the_same(seen, kind):
    counts, _ = seen
    assert counts[kind, "other"] == counts[kind, "overflows"] == 0
