"""Advice: each rule fires on the numbers it names, and only on these."""

from dataclasses import replace

import pytest

from sktransfer import ConfusedPair
from sktransfer._study.advice import Facts, advise

NOTHING = ["These results suggest no change."]


def make_history(losses, accuracy=0.9, key="train_loss"):
    return [
        {"train_loss": loss, "train_accuracy": accuracy, key: loss} for loss in losses
    ]


GOOD = Facts(
    transfer=[0.90, 0.90],
    scratch=[0.60, 0.60],
    n_train=100,
    n_test=1000,
    n_classes=4,
    image_size=(375, 500),
    backbone="efficientnet_lite0",
    seen_size=(224, 224),
    history=make_history([0.9, 0.5, 0.49]),
    best_epoch=3,
    max_epochs=3,
)


def change(**facts):
    return advise(replace(GOOD, **facts))


def test_good_results_suggest_nothing():
    assert advise(GOOD) == NOTHING
    assert advise(Facts([0.9], [0.5], 100, 1000, 4, (8, 8))) == NOTHING


def test_a_backbone_for_small_images_is_advised_against_for_large_ones():
    small = {"backbone": "mini_resnet18", "seen_size": (32, 32)}
    assert change(**small) == [
        "The images have 500 x 375 pixels, but mini_resnet18 sees 32 x 32: pass "
        "--backbone efficientnet_lite0, made for photographs."
    ]
    assert change(**small, image_size=(32, 32)) == NOTHING


def test_a_larger_size_is_advised_where_there_are_mistakes_to_mend():
    (advice,) = change(image_size=(900, 1200))
    assert "1200 x 900 pixels, but efficientnet_lite0 sees 224 x 224" in advice
    assert "pass --image-size 448" in advice
    assert change(image_size=(900, 1200), transfer=[0.96, 0.96]) == NOTHING


def test_more_labels_are_advised_where_training_images_are_known_far_better():
    known = make_history([0.1, 0.01], accuracy=0.999)
    (advice,) = change(history=known, best_epoch=2, max_epochs=2, transfer=[0.8, 0.8])
    assert "99.9% of the training images right, but 80.0% of the test" in advice
    assert "of which there are 25 per class" in advice


def test_the_accuracy_of_the_epoch_that_was_kept_counts():
    history = [*make_history([0.5], accuracy=0.85), *make_history([0.1], accuracy=1.0)]
    kept = {"history": history, "transfer": [0.85, 0.85], "max_epochs": 9}
    assert change(best_epoch=1, **kept) == NOTHING
    assert len(change(best_epoch=2, **kept)) == 1


def test_more_epochs_are_advised_while_the_training_loss_still_falls():
    (advice,) = change(history=make_history([0.9, 0.6, 0.5]))
    assert "training loss" in advice
    assert "from 0.600 to 0.500: pass --max-epochs 6." in advice


@pytest.mark.parametrize(
    "facts",
    [
        {"history": make_history([0.9, 0.6, 0.59])},  # has settled
        {"max_epochs": 5},  # stopped by itself
        {
            "history": make_history([0.9, 0.5]),
            "best_epoch": 2,
            "max_epochs": 2,
            "starts_solved": True,
        },
    ],
)
def test_more_epochs_are_not_advised_without_need(facts):
    falls = {"history": make_history([0.9, 0.6, 0.5])}
    assert change(**{**falls, **facts}) == NOTHING


def test_with_validation_images_the_best_epoch_must_be_the_last():
    falls = {"history": make_history([0.9, 0.6, 0.5], key="valid_loss")}
    assert "validation loss" in change(**falls)[0]
    assert change(**falls, best_epoch=2) == NOTHING


def test_the_most_confused_pair_is_worth_a_look_unless_it_is_rare():
    (advice,) = change(confused=ConfusedPair("cat", "dog", 12), n_wrong=50)
    assert "“cat” was taken for “dog” 12 times, 24% of all mistakes" in advice
    assert "labels may be wrong or the classes overlap" in advice
    assert change(confused=ConfusedPair("cat", "dog", 2), n_wrong=2) == NOTHING


def test_more_test_images_are_advised_where_a_difference_may_be_chance():
    (advice,) = change(scratch=[0.88, 0.88])
    assert "With 1,000 test images, a difference of 2.0 points" in advice
    # 4 (0.9 x 0.1 + 0.88 x 0.12) / 0.02 squared, rounded up
    assert "it takes about 2,000 to tell" in advice
    assert change(scratch=[0.898, 0.898]) == NOTHING  # too small to matter


def test_several_pieces_of_advice_come_together():
    several = change(
        backbone="mini_resnet18",
        seen_size=(32, 32),
        confused=ConfusedPair("cat", "dog", 12),
        n_wrong=50,
        scratch=[0.88, 0.88],
    )
    assert len(several) == 3
    assert all(line.endswith(".") for line in several)
