"""The verdict: who is right how often, and whether that is a difference."""

import pytest

from sktransfer._study.verdict import compare, count_right, judge


@pytest.mark.parametrize(
    ("transfer", "scratch", "sentence"),
    [
        (
            [0.94, 0.95, 0.96],
            [0.76, 0.77, 0.78],
            "Transfer got 95 of 100 images right, training from scratch 77: use "
            "transfer.",
        ),
        (
            [0.76, 0.78],
            [0.94, 0.96],
            "Transfer got 77 of 100 images right, training from scratch 95: train from "
            "scratch.",
        ),
        (
            [0.80, 0.90],
            [0.79, 0.88],
            "Transfer got 85 of 100 images right, training from scratch 84: no "
            "difference can be seen.",
        ),
        (
            [0.80, 0.80],
            [0.80, 0.80],
            "Transfer got 80 of 100 images right, training from scratch 80: no "
            "difference can be seen.",
        ),
        (
            [0.99],
            [0.10],
            "Transfer got 99 of 100 images right, training from scratch 10: one seed "
            "is too few to tell which is better.",
        ),
    ],
)
def test_the_verdict_says_who_is_right_how_often_and_what_to_use(
    transfer, scratch, sentence
):
    assert judge(transfer, scratch, n_test=10_000).sentence == sentence


def test_the_reason_gives_the_range_over_seeds_and_what_chance_can_do():
    reason = judge([0.94, 0.95, 0.96], [0.76, 0.77, 0.78], n_test=1000).reason
    assert "Over 3 seeds, transfer had 94.0 to 96.0 % and scratch 76.0 to" in reason
    assert "The difference of 18.0 points is more than the spread over" in reason
    assert "(2.0 points) and the uncertainty of 1,000 test images (3.0 p" in reason


def test_few_test_images_leave_a_difference_open():
    gain = ([0.94, 0.95], [0.84, 0.85])
    assert judge(*gain, n_test=1000).sentence.endswith("use transfer.")
    verdict = judge(*gain, n_test=48)
    assert verdict.sentence.endswith("no difference can be seen.")
    assert "the uncertainty of 48 test images (12.3 points)" in verdict.reason


def test_seeds_that_differ_more_than_the_models_leave_a_difference_open():
    assert compare([0.9, 0.9], [0.8, 0.8], 10_000).is_clear
    assert not compare([0.9, 0.9], [0.74, 0.86], 10_000).is_clear


def test_one_seed_is_never_clear_and_asks_for_more():
    assert not compare([1.0], [0.1], 10_000).is_clear
    assert judge([1.0], [0.1], 10_000).reason.endswith("pass --seeds 3.")


@pytest.mark.parametrize(
    ("transfer", "scratch", "n_test", "is_clear", "expected"),
    [
        ([0.95], [0.77], 10_000, True, (95, 77, 100)),
        ([0.75], [0.5], 48, True, (36, 24, 48)),  # not 75 of 48
        ([0.9961], [0.98], 10_000, True, (9961, 9800, 10_000)),  # not all of 100
        ([1.0], [0.98], 500, True, (100, 98, 100)),
        ([0.904], [0.896], 50_000, True, (45_200, 44_800, 50_000)),
        ([0.904], [0.896], 50_000, False, (90, 90, 100)),
    ],
)
def test_images_are_counted_per_hundred_unless_that_would_mislead(
    transfer, scratch, n_test, is_clear, expected
):
    assert count_right(transfer, scratch, n_test, is_clear) == expected
