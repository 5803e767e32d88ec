"""Whoever is killed while it writes leaves whole rows, which the next fit reuses."""

import os

import pytest

from tests.activations.killing import count_left, fit_after, kill_writers, sweep

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

N_KILLS = 6


def test_after_kills_no_row_is_corrupt_and_the_next_fit_computes_only_the_rest(
    tmp_path,
):
    path = tmp_path / "cache"
    kill_writers(path, N_KILLS)
    left = count_left(path)
    assert left["n_corrupt"] == 0
    assert left["n_whole_rows"] > 0
    after = fit_after(path, N_KILLS // 2)
    assert after["n_computed_by_next_fit"] == after["n_images"] - left["n_whole_rows"]
    assert after["same_probabilities_as_without_cache"]
    assert sweep(path) == 0
