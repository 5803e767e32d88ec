"""scikit-learn's own checks, all of them, with their number written down."""

import pytest
import sklearn
from sklearn.utils.estimator_checks import check_estimator

from sktransfer import (
    ResNetFeatureExtractor,
    ResNetTransferClassifier,
    ScratchCNNClassifier,
)

TINY = {
    "image_shape": (1, -1, 1),
    "image_size": 8,
    "resize": "squash",  # of rows of pixels, a crop would keep one
    "device": "cpu",
    "random_state": 0,
}
NO_CHANCE = {"augment": None, "dropout": 0.0}
MINIBATCHES = {
    "check_sample_weight_equivalence_on_dense_data": (
        "SGD draws other minibatches from repeated rows than from weighted ones"
    )
}
# Releases of scikit-learn differ in their checks of classifiers.
N_CLASSIFIER_CHECKS = 62 if sklearn.__version__.startswith("1.7.") else 63


@pytest.mark.parametrize(
    ("estimator", "expected_failures", "n_checks"),
    [
        pytest.param(
            ScratchCNNClassifier(
                width=8, max_epochs=10, **{**TINY, "image_size": 9}, **NO_CHANCE
            ),
            MINIBATCHES,
            N_CLASSIFIER_CHECKS,
            id="scratch",
        ),
        pytest.param(
            ResNetTransferClassifier(
                "mini_resnet18",
                weights=None,
                unfreeze_depth=0,
                max_epochs=10,
                lr=0.1,
                **TINY,
                **NO_CHANCE,
            ),
            MINIBATCHES,
            N_CLASSIFIER_CHECKS,
            id="transfer, head only",
        ),
        pytest.param(
            ResNetTransferClassifier(
                "mini_resnet18",
                weights=None,
                unfreeze_depth=5,
                unfreeze_schedule="immediate",
                backbone_lr_factor=1.0,
                max_epochs=5,
                lr=0.05,
                **TINY,
                **NO_CHANCE,
            ),
            MINIBATCHES,
            N_CLASSIFIER_CHECKS,
            id="transfer, every stage",
        ),
        pytest.param(
            ResNetTransferClassifier(
                "mini_resnet18", max_epochs=2, **TINY, **NO_CHANCE
            ),
            MINIBATCHES,
            N_CLASSIFIER_CHECKS,
            id="transfer, defaults",
        ),
        pytest.param(
            ResNetFeatureExtractor("mini_resnet18", weights=None, **TINY),
            {},
            47,
            id="feature extractor",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_every_check_of_scikit_learn_passes(estimator, expected_failures, n_checks):
    results = check_estimator(
        estimator,
        expected_failed_checks=expected_failures,
        on_fail=None,
        on_skip=None,
    )
    others = {r["check_name"]: r for r in results if r["status"] != "passed"}
    assert {name: r["status"] for name, r in others.items()} == dict.fromkeys(
        expected_failures, "xfail"
    ), [r["exception"] for r in others.values()]
    # Fewer would mean that a tag has switched some off.
    assert len(results) == n_checks
