"""What to try next, computed from the results of a study."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sktransfer._displays.content.confusions import ConfusedPair
from sktransfer._study.verdict import compare

PHOTO_BACKBONE = "efficientnet_lite0"
# A network that sees fewer pixels to a side is made for small images.
SMALL_NETWORK = 128
# Images that are so many times larger than what is seen lose details.
TIMES_LARGER = 2
# With so few mistakes, larger images cannot gain much.
GOOD_ACCURACY = 0.95
# Training accuracy further above that on test images is a sign of too few labels.
LARGE_GAP = 0.10
# A loss that falls less than this share in the last epoch has nearly settled.
STILL_FALLS = {"valid_loss": 0.02, "train_loss": 0.10}
LEARNED = 0.98
# Fewer images of one confused pair, or fewer points of difference, are noise.
LEAST_CONFUSED, LEAST_POINTS = 3, 0.5


@dataclass(frozen=True)
class Facts:  # numpydoc ignore=PR02
    """What advice rests on: about the images, and about transfer, subject of the study.

    Parameters
    ----------
    transfer, scratch : sequence of float
        Accuracies in [0, 1], one per seed.

    n_train, n_test, n_classes : int
        Numbers of images and of classes.

    image_size : tuple of (int, int)
        Median height and width of the images.

    backbone : str or None
        Name of the pretrained network; None if unknown, as are all of the following.

    seen_size : tuple of (int, int) or None
        Height and width that it sees.

    history : sequence of dict
        One row per epoch of the last seed, as in ``history_``.

    best_epoch, max_epochs : int or None
        Epoch, from 1, whose weights were kept, and the most that there might have been.

    starts_solved : bool
        Whether the first epoch was the linear probe, which is not trained.

    confused : ConfusedPair or None
        The pair of classes that the last seed confused most often.

    n_wrong : int
        Its wrong predictions.
    """

    transfer: Sequence[float]
    scratch: Sequence[float]
    n_train: int
    n_test: int
    n_classes: int
    image_size: tuple[int, int]
    backbone: str | None = None
    seen_size: tuple[int, int] | None = None
    history: Sequence[Mapping[str, Any]] = ()
    best_epoch: int | None = None
    max_epochs: int | None = None
    starts_solved: bool = False
    confused: ConfusedPair | None = None
    n_wrong: int = 0


def advise(facts: Facts) -> list[str]:
    """Return what to try next, one sentence each, the most promising first."""
    rules = (
        suggest_backbone,
        suggest_labels,
        suggest_epochs,
        suggest_look,
        suggest_test_images,
    )
    advice = [sentence for rule in rules if (sentence := rule(facts)) is not None]
    return advice or ["These results suggest no change."]


def describe_size(size: Sequence[int]) -> str:
    """Return a (height, width) in words, width first as people say it."""
    return f"{size[1]} x {size[0]}"


def suggest_backbone(facts: Facts) -> str | None:
    """Suggest to see more of the images."""
    if facts.seen_size is None or facts.backbone is None:
        return None
    side = max(facts.seen_size)
    if min(facts.image_size) < TIMES_LARGER * side:
        return None
    found = (
        f"The images have {describe_size(facts.image_size)} pixels, but "
        f"{facts.backbone} sees {describe_size(facts.seen_size)}"
    )
    if side < SMALL_NETWORK:
        return f"{found}: pass --backbone {PHOTO_BACKBONE}, made for photographs."
    if facts.transfer[-1] >= GOOD_ACCURACY:
        return None
    return (
        f"{found}: if small details tell the classes apart, pass --image-size "
        f"{TIMES_LARGER * side}, which takes about {TIMES_LARGER**2} times as long."
    )


def find_gap(facts: Facts) -> tuple[float, float] | None:
    """Return accuracy on training and test images if the first is far higher."""
    if not facts.history:
        return None
    row = facts.history[(facts.best_epoch or len(facts.history)) - 1]
    in_training, in_test = row.get("train_accuracy", 0.0), facts.transfer[-1]
    return (in_training, in_test) if in_training - in_test > LARGE_GAP else None


def suggest_labels(facts: Facts) -> str | None:
    """Suggest more labels where training images are known far better than others."""
    gap = find_gap(facts)
    if gap is None:
        return None
    return (
        f"Transfer gets {gap[0]:.1%} of the training images right, but {gap[1]:.1%} of "
        "the test images: more labelled images would help, of which there are "
        f"{facts.n_train / facts.n_classes:,.0f} per class."
    )


def suggest_epochs(facts: Facts) -> str | None:
    """Suggest more epochs where the last one still made the loss smaller."""
    trained = facts.history[1 if facts.starts_solved else 0 :]
    is_whole = len(facts.history) == facts.max_epochs
    if len(trained) < 2 or not is_whole or find_gap(facts) is not None:
        return None
    key = "valid_loss" if "valid_loss" in trained[-1] else "train_loss"
    before, last = trained[-2].get(key, math.nan), trained[-1][key]
    if not last < (1 - STILL_FALLS[key]) * before:
        return None
    if key == "train_loss":
        if trained[-1]["train_accuracy"] >= LEARNED:
            return None
    elif facts.best_epoch != len(facts.history):
        return None
    word = "validation" if key == "valid_loss" else "training"
    return (
        f"The {word} loss of transfer still fell in the last epoch, from {before:.3f} "
        f"to {last:.3f}: pass --max-epochs {2 * len(facts.history)}."
    )


def suggest_look(facts: Facts) -> str | None:
    """Suggest to look at the images of the pair that is confused most often."""
    pair = facts.confused
    if pair is None or pair.count < LEAST_CONFUSED:
        return None
    return (
        f"“{pair.true}” was taken for “{pair.predicted}” {pair.count} times, "
        f"{pair.count / facts.n_wrong:.0%} of all mistakes of transfer: look at these "
        "images, since labels may be wrong or the classes overlap."
    )


def suggest_test_images(facts: Facts) -> str | None:
    """Suggest more test images where a difference may be chance."""
    difference = compare(facts.transfer, facts.scratch, facts.n_test)
    gain, error = abs(difference.gain), difference.error
    if gain < LEAST_POINTS or gain > error:
        return None
    needed = facts.n_test * (error / gain) ** 2
    rounded = math.ceil(needed / 10 ** (len(str(int(needed))) - 2))
    needed = rounded * 10 ** (len(str(int(needed))) - 2)
    return (
        f"With {facts.n_test:,} test images, a difference of {gain:.1f} points between "
        f"the models may be chance: it takes about {needed:,.0f} to tell."
    )
