import numpy as np
import pytest
from sklearn.metrics import log_loss

from sktransfer._displays.content.calibration import (
    compute_calibration_error,
    compute_log_loss,
)


def sure_to(share, n=100):
    """Probabilities of two classes of which the first has `share`."""
    return np.tile([share, 1 - share], (n, 1))


def test_the_log_loss_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    proba, truth = rng.dirichlet(np.ones(3), 50), rng.integers(0, 3, 50)
    expected = log_loss(truth, proba, labels=range(3))
    assert compute_log_loss(proba, truth) == pytest.approx(expected)


def test_the_log_loss_is_finite_where_the_true_class_has_no_probability():
    loss = compute_log_loss(sure_to(1.0, 1).astype(np.float32), np.array([1]))
    assert 50 < loss < 100


@pytest.mark.parametrize(
    ("n_right", "expected"), [(80, 0.0), (100, 0.2), (60, 0.2), (0, 0.8)]
)
def test_the_calibration_error_is_confidence_less_accuracy(n_right, expected):
    truth = np.arange(100) >= n_right
    error = compute_calibration_error(sure_to(0.8), truth.astype(int))
    assert error == pytest.approx(expected)


def test_too_sure_and_too_unsure_do_not_cancel_out():
    proba = np.vstack([sure_to(0.9, 50), sure_to(0.6, 50)])
    truth = np.repeat([1, 0], 50)  # sure and wrong, unsure and right
    assert compute_calibration_error(proba, truth) == pytest.approx(0.65)
    assert compute_calibration_error(proba, truth, n_bins=1) == pytest.approx(0.25)


def test_a_certain_prediction_is_in_the_last_bin():
    truth = np.zeros(100, int)
    assert compute_calibration_error(sure_to(1.0), truth) == 0
