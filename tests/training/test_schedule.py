import pytest

from sktransfer._training.schedule import (
    choose_unfreeze_depth,
    cosine_rate,
    count_batches,
    plan_unfreezing,
    resolve_batch_size,
)


@pytest.mark.parametrize(
    ("n_stages", "are_enlarged", "depth"),
    [(5, False, 2), (5, True, 3), (3, True, 2), (2, False, 1), (1, False, 0)],
)
def test_enlarged_images_open_one_stage_more_but_not_the_first(
    n_stages, are_enlarged, depth
):
    assert choose_unfreeze_depth(n_stages, True, are_enlarged)[0] == depth


def test_all_stages_of_random_weights_open():
    assert choose_unfreeze_depth(5, False, False)[0] == 5


def test_gradual_opens_one_stage_per_epoch_after_the_head():
    assert plan_unfreezing("gradual", 2, 5) == (0, 1, 2, 2, 2)


def test_gradual_opens_several_where_epochs_are_few():
    plan = plan_unfreezing("gradual", 5, 5)
    assert plan[0] == 0
    assert plan[2:] == (5, 5, 5)


def test_immediate_opens_all_at_once():
    assert plan_unfreezing("immediate", 3, 2) == (3, 3)


def test_a_mapping_sets_the_depth_from_an_epoch_on_and_is_clipped():
    assert plan_unfreezing({2: 1, 3: 4}, 2, 5) == (0, 0, 1, 2, 2)


@pytest.mark.parametrize("schedule", [{0: 2, 1: 1}, {-1: 0}, {0: 0.5}, {0: -1}])
def test_a_mapping_that_closes_a_stage_or_holds_no_depths_is_refused(schedule):
    with pytest.raises(ValueError, match="unfreeze_schedule="):
        plan_unfreezing(schedule, 2, 5)


def test_an_unknown_schedule_is_refused():
    with pytest.raises(ValueError, match="unfreeze_schedule='slowly'"):
        plan_unfreezing("slowly", 2, 5)


def test_the_rate_warms_up_from_where_a_stage_opened_and_ends_near_zero():
    rates = [
        cosine_rate(s, n_steps=100, opened_at=40, warmup_steps=10)
        for s in range(40, 50)
    ]
    assert rates == sorted(rates)
    assert rates[0] < 0.1
    assert cosine_rate(99, 100, 40, 10) < 0.001
    assert cosine_rate(0, 100, 0, 1) == 1.0


def test_no_batch_holds_a_single_image():
    for n in range(2, 200):
        for batch_size in (2, 3, 8, 128):
            assert n // count_batches(n, batch_size) >= 2, (n, batch_size)


def test_small_sets_get_small_batches():
    assert [resolve_batch_size("auto", n) for n in (50, 1000, 50_000)] == [8, 31, 128]
    assert resolve_batch_size(7, 50) == 7


def test_a_plan_is_taken_as_it_is_and_clipped():
    assert plan_unfreezing((0, 1, 3), 2, 3) == (0, 1, 2)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ((0, 1), r"\(0, 1\) has 2 depths for 3 epochs"),
        ([], r"\[\] has 0 depths"),
        ([1, 0, 0], r"\[1, 0, 0\] must hold depths"),
        ((0, 1, "2"), "must hold depths"),
        ((0, -1, 1), "must hold depths"),
        (None, "None is unknown"),
        (3, "3 is unknown"),
    ],
)
def test_a_plan_that_is_none_is_refused_in_the_users_own_words(plan, message):
    with pytest.raises(ValueError, match=f"^unfreeze_schedule=.*{message}"):
        plan_unfreezing(plan, 2, 3)


def test_a_single_epoch_opens_every_stage_that_may_learn():
    assert plan_unfreezing("gradual", 2, 1) == (2,)
