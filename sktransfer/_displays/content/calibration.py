"""How good probabilities are: log loss and calibration error."""

from __future__ import annotations

import numpy as np

N_BINS = 15


def compute_log_loss(proba: np.ndarray, truth: np.ndarray) -> float:
    """Compute the mean of -log of the probability of the true class.

    Parameters
    ----------
    proba : ndarray of shape (n_images, n_classes)
        Probabilities, in [0, 1].

    truth : ndarray of shape (n_images,), int
        Column of the true class of each image.

    Returns
    -------
    float
        0 or more, and finite even where the true class has a probability of 0.
    """
    own = proba[np.arange(len(truth)), truth]
    return float(-np.log(np.clip(own, np.finfo(own.dtype).tiny, 1)).mean())


def compute_calibration_error(
    proba: np.ndarray, truth: np.ndarray, n_bins: int = N_BINS
) -> float:
    """Compute how far confidence is from accuracy: the expected calibration error.

    Predictions are put into bins of equal width by the probability of the predicted
    class. The error is the mean distance between this probability and the share of
    right predictions in a bin, weighted by the images in it (Guo et al., "On
    Calibration of Modern Neural Networks", ICML 2017).

    Parameters
    ----------
    proba, truth
        As for :func:`compute_log_loss`.

    n_bins : int, default=15
        Number of bins, 1 or more.

    Returns
    -------
    float
        In [0, 1]; 0 if a prediction made with 80 % is right 80 times out of 100.
    """
    confidence = proba.max(axis=1).astype(float)
    is_right = proba.argmax(axis=1) == truth
    # Of a limit between two bins, the lower one gets the predictions.
    bins = np.clip(np.ceil(confidence * n_bins).astype(int) - 1, 0, n_bins - 1)
    surplus = np.bincount(bins, weights=confidence - is_right, minlength=n_bins)
    return float(np.abs(surplus).sum() / len(truth))
