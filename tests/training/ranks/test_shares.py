"""Every image of a set belongs to one rank, and so does its part of every batch."""

import numpy as np
import pytest

from sktransfer._training.ranks.shares import assign, cut_epoch


@pytest.mark.parametrize("n_ranks", [1, 2, 3, 8])
def test_every_image_of_a_set_has_one_rank_and_ranks_have_about_as_many(n_ranks):
    rows = np.random.default_rng(0).permutation(50)[:29]
    every = [assign(rows, 50, number, n_ranks) for number in range(n_ranks)]
    assert np.array_equal(np.sum(every, 0), np.isin(np.arange(50), rows))
    counts = [is_own.sum() for is_own in every]
    assert max(counts) - min(counts) <= 1


def test_a_process_alone_has_whole_batches_of_about_one_size():
    shares = cut_epoch(10, 3, None, are_mixed=False)
    assert [share.read.tolist() for share in shares] == [
        [0, 1, 2, 3],
        [4, 5, 6],
        [7, 8, 9],
    ]
    assert [share.n_whole for share in shares] == [4, 3, 3]
    assert all(share.own is None for share in shares)


@pytest.mark.parametrize("are_mixed", [False, True])
@pytest.mark.parametrize("n_ranks", [2, 3, 7])
def test_the_shares_of_all_ranks_are_the_batches_of_one_process(n_ranks, are_mixed):
    owners = np.random.default_rng(0).integers(n_ranks, size=40)
    alone = cut_epoch(40, 6, None, are_mixed)
    every = [cut_epoch(40, 6, owners == i, are_mixed) for i in range(n_ranks)]
    for shares, whole in zip(zip(*every, strict=True), alone, strict=True):
        own = [share.read[share.own] for share in shares]
        assert np.array_equal(np.sort(np.concatenate(own)), whole.read)
        assert all(share.n_whole == len(whole.read) for share in shares)
        assert all(share.first == whole.first for share in shares)


def test_an_image_that_is_mixed_comes_with_the_one_before_it_in_its_batch():
    owners = np.random.default_rng(1).integers(3, size=40)
    for share in cut_epoch(40, 6, owners == 1, are_mixed=True):
        own, places = share.read[share.own], share.find_places()
        before = share.first + (places[share.own] - 1) % share.n_whole
        assert np.array_equal(share.read[share.before], before)
        assert set(share.read) == {*own, *before}


def test_a_rank_may_have_no_image_of_a_batch():
    is_own = np.array([True, True, True, False, False, False])
    first, second = cut_epoch(6, 2, is_own, are_mixed=False)
    assert (len(first.own), len(second.own)) == (3, 0)
    assert second.n_whole == 3
