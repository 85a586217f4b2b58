"""Are the probabilities of labels true? The expected calibration error over pairs of image and label."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.metrics import CALIBRATION_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray


def labels_calibration_error(probabilities: NDArray[np.float64], truth: NDArray[np.bool_]) -> float:
    """The expected calibration error, in 0..1, with 15 bins of equal width of the probability that the label is true.

    Args:
        probabilities: Of each pair of image and label, (P,).
        truth: Whether the image has the label, (P,).
    """
    if not len(truth):
        return 0.0
    bins = np.clip(np.ceil(probabilities * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, probabilities - truth, CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(truth))
