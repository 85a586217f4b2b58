"""Are the probabilities of labels true? The expected calibration error over pairs of image and label.

The pairs of one image are not independent, so that variances are those of the images' sums (Liang and Zeger 1986).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.calibration import (
    CalibrationError,
    bins_of,
    sums_of_bins,
    variances_of_bins,
    with_interval,
)
from headstart.evaluation.intervals import RESAMPLES, with_variance
from headstart.evaluation.metrics import CALIBRATION_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_JITTER = 1e-9  # of the variances, for a Cholesky decomposition


def labels_calibration_error(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_], known: NDArray[np.bool_], seed: int = 0
) -> CalibrationError:
    """The expected calibration error, in 0..1, with 15 bins of equal width of the probability that a label is true.

    In simulations with 60 and 200 images of three labels that occur together, the interval covers 94 to 100 %.

    Args:
        probabilities: Of each image and label, (N, C).
        truth: Whether the image has the label, (N, C).
        known: Whether that is known, (N, C).
        seed: Of the draws that show what true probabilities would give.
    """
    count = int(known.sum())
    if not count:
        return CalibrationError(0.0, (0.0, 1.0), 0.0)
    sums = sums_of_bins(probabilities[known], truth[known])
    covariance = _covariance(probabilities, truth, known)
    least = variances_of_bins(sums)
    # Of few pairs a bin shows no more variance than of independent ones: as much more is assumed as in all together.
    least *= max(float(np.trace(covariance)) / float(least.sum()), 1.0)
    raised = np.sqrt(np.maximum(least / np.maximum(np.diag(covariance), 1e-300), 1.0))
    covariance *= np.outer(raised, raised)
    np.fill_diagonal(covariance, np.maximum(np.diag(covariance), least))
    signs = np.sign(sums.confidence - sums.correct)
    variances = np.diag(covariance)
    # Near a gap of 0 the sign is chance: not less than if the bins were independent.
    variance = max(float(signs @ covariance @ signs), float(variances.sum()))
    ones = np.ones(CALIBRATION_BINS)
    share = float(sums.correct.sum()) / count
    right = with_variance(share, float(ones @ covariance @ ones) / count**2, most=count)
    chance = _by_chance(covariance, count, np.random.default_rng(seed))
    return with_interval(sums, variances, math.sqrt(variance) / count, chance, right)


def _covariance(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_], known: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """Of the bins' sums of probability minus truth, (B, B): from what each image adds."""
    residuals = np.where(known, probabilities - truth, 0.0)
    bins = bins_of(probabilities)
    added = np.stack([np.where(bins == one, residuals, 0.0).sum(1) for one in range(CALIBRATION_BINS)], 1)  # (N, B)
    added -= added.mean(0)
    result: NDArray[np.float64] = added.T @ added
    return result


def _by_chance(covariance: NDArray[np.float64], count: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Calibration errors (R,) of true probabilities, whose bins' sums vary as these."""
    jitter = _JITTER * max(float(np.trace(covariance)), 1e-12)
    root = np.linalg.cholesky(covariance + jitter * np.eye(len(covariance)))
    result: NDArray[np.float64] = np.abs(rng.normal(size=(RESAMPLES, len(root))) @ root.T).sum(1) / count
    return result
