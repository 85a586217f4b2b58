"""What the threshold of a label does, and whether the probabilities of labels are true: what a report draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.proportions import Interval, wilson, wilson_of_share
from headstart.evaluation.calibration import Bin
from headstart.evaluation.metrics import CALIBRATION_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

STEPS = 200  # of the thresholds from 0 to 1


@dataclass(frozen=True)
class ThresholdCurve:
    """What a label's threshold finds on the images of which the label is known.

    Attributes:
        cuts: Thresholds in 0..1, ascending, (T,).
        correct: Images that have the label and are found at each of them, (T,).
        found: Images that are predicted to have it, (T,).
        positives: Images that have it.
        images: All of them.
    """

    cuts: tuple[float, ...]
    correct: tuple[int, ...]
    found: tuple[int, ...]
    positives: int
    images: int


def threshold_curve(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_], *, threshold: float
) -> ThresholdCurve:
    """The curve of one label at `STEPS` equal steps, and at the threshold that it has.

    Args:
        probabilities: Of the images, (N,).
        truth: Whether they have the label, (N,).
        threshold: Its own, in 0..1.
    """
    cuts = np.unique([*(np.arange(STEPS + 1) / STEPS), threshold])
    found, correct = (len(some) - np.searchsorted(np.sort(some), cuts, side="left")
                      for some in (probabilities, probabilities[truth]))  # fmt: skip
    return ThresholdCurve(
        tuple(cuts.tolist()), tuple(correct.tolist()), tuple(found.tolist()), int(truth.sum()), len(truth)
    )


def f1_interval(correct: int, found: int, positives: int) -> Interval | None:
    """95 % interval of a label's F1; None where no image has the label and none was found.

    F1 = 2 J / (1 + J) rises with J, the share of the correct among the images that have the label or were found, of
    which Wilson's interval is known. In simulations (`tests/test_label_report.py`) it covers 93 to 97 %.

    Args:
        correct: Images that have the label and were found.
        found: Images that were predicted to have it.
        positives: Images that have it.
    """
    either = found + positives - correct
    if not either:
        return None
    low, high = wilson(correct, either)
    return 2 * low / (1 + low), 2 * high / (1 + high)


def label_reliability(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_], images: NDArray[np.int64]
) -> tuple[Bin, ...]:
    """The reliability diagram over pairs of image and label, in bins of equal width, of which those with pairs.

    In a bin, `confidence` is the mean probability, and `accuracy` the share of the pairs that are true. The pairs of
    one image count only as far as they are independent: Wilson's interval has as many trials as give the variance that
    is seen between images (the design effect of a cluster sample, Kish 1965), at most the pairs; where all are true, or
    none, as many as there are images.

    Args:
        probabilities: Of each pair, (P,).
        truth: Whether the image has the label, (P,).
        images: The number of the image of each, (P,).
    """
    place = np.clip(np.ceil(probabilities * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)
    bins = []
    for i in np.unique(place).tolist():
        own = place == i
        count, share = int(own.sum()), float(truth[own].mean())
        single, which = np.unique(images[own], return_inverse=True)
        variance = float((np.bincount(which, truth[own] - share) ** 2).sum()) / count**2
        trials = min(share * (1 - share) / variance, count) if variance > 0 else len(single)
        bins.append(Bin(
            low=i / CALIBRATION_BINS, high=(i + 1) / CALIBRATION_BINS, images=count,
            confidence=float(probabilities[own].mean()), accuracy=share,
            accuracy_interval=wilson_of_share(share, max(trials, 1.0)),
        ))  # fmt: skip
    return tuple(bins)
