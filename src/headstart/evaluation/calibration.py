"""Are the probabilities true? The reliability diagram, and the expected calibration error with its interval.

The error is a sum of absolute values, so that chance alone makes it positive: with 153 perfectly calibrated predictions
it is around 4 %. A bootstrap draws chance once more on top: in simulations its percentile intervals cover next to never
where the probabilities are true. The interval here takes the bias away, and begins at 0 wherever the error is one that
true probabilities would show too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.evaluation.intervals import NORMAL_95, RESAMPLES, Interval, wilson
from headstart.evaluation.metrics import CALIBRATION_BINS

if TYPE_CHECKING:
    from numpy.typing import NDArray

# With more images than this, the sums of the bins are normal, and drawn as such.
MAX_DRAWN = 2000
# Prior predictions of each bin, right as often as they claim: a bin without a mistake is not assumed to be unable to
# make one.
_BEFORE = 2


@dataclass(frozen=True)
class Bin:
    """A bar of the reliability diagram: predictions whose probability is in (low, high].

    Attributes:
        low: In 0..1.
        high: In 0..1.
        images: Their number, at least 1.
        confidence: Mean probability of the predicted class.
        accuracy: Share of them that is right.
        accuracy_interval: 95 % Wilson interval of it.
    """

    low: float
    high: float
    images: int
    confidence: float
    accuracy: float
    accuracy_interval: Interval


class CalibrationError(NamedTuple):
    """The expected calibration error (Naeini et al. 2015; Guo et al. 2017), with 15 bins of equal width, in 0..1.

    Attributes:
        error: The mean distance between the probability of the predicted class and the share of such predictions that
            are right, over bins of the probability, weighted by their size.
        interval: 95 % interval of what it would be with endless images.
        by_chance: What it would be on average, were all probabilities true.
    """

    error: float
    interval: Interval
    by_chance: float


class Sums(NamedTuple):
    """Sums over the predictions of each bin, (B,)."""

    images: NDArray[np.int64]
    confidence: NDArray[np.float64]
    correct: NDArray[np.float64]
    squares: NDArray[np.float64]  # of the distance between the probability and 1 where right, 0 where wrong


def reliability(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[Bin, ...]:
    """The reliability diagram (DeGroot and Fienberg 1983) with 15 bins of equal width, of which those with images.

    Args:
        probabilities: (N, C).
        labels: (N,).
    """
    sums = sums_of_bins(*_top(probabilities, labels))
    return tuple(
        Bin(
            low=i / CALIBRATION_BINS,
            high=(i + 1) / CALIBRATION_BINS,
            images=(images := int(sums.images[i])),
            confidence=float(sums.confidence[i] / images),
            accuracy=float(sums.correct[i] / images),
            accuracy_interval=wilson(int(sums.correct[i]), images),
        )
        for i in np.flatnonzero(sums.images).tolist()
    )


def calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64], seed: int = 0) -> CalibrationError:
    """The expected calibration error of predictions.

    The interval covers 93 to 98 % in simulations from 50 images on, and more where fewer than 5 predictions are wrong.

    Args:
        probabilities: (N, C), N at least 1.
        labels: (N,).
        seed: Of the draws that show what true probabilities would give.
    """
    confidence, correct = _top(probabilities, labels)
    sums, count = sums_of_bins(confidence, correct), len(labels)
    variances = variances_of_bins(sums)
    chance = _by_chance(confidence, np.random.default_rng(seed))
    error = float(math.sqrt(float(variances.sum()))) / count
    return with_interval(sums, variances, error, chance, wilson(int(correct.sum()), count))


def with_interval(
    sums: Sums, variances: NDArray[np.float64], standard_error: float, chance: NDArray[np.float64], right: Interval
) -> CalibrationError:
    """The error of bins, with its interval.

    Args:
        sums: Of the bins.
        variances: Of each bin's sum of probability minus right, (B,).
        standard_error: Of the sum of all gaps.
        chance: Errors that true probabilities would give, (R,).
        right: 95 % interval of the share that is right of all predictions.
    """
    gaps, count = gaps_of_bins(sums), int(sums.images.sum())
    error = float(gaps.sum())
    spreads = np.sqrt(variances) / count
    unbiased = error - sum(_folded(*pair) - pair[0] for pair in zip(gaps.tolist(), spreads.tolist(), strict=True))
    half = NORMAL_95 * standard_error
    low = 0.0 if error <= np.quantile(chance, 0.95) else min(max(unbiased - half, 0.0), error)
    # No more is known of the bins than of all predictions together.
    mean = float(sums.confidence.sum()) / count
    high = max(unbiased + half, mean - right[0], right[1] - mean, error)
    return CalibrationError(error, (low, min(high, 1.0)), float(chance.mean()))


def expected_calibration_error(probabilities: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The error alone, in 0..1; see `calibration_error`."""
    return float(gaps_of_bins(sums_of_bins(*_top(probabilities, labels))).sum())


def gaps_of_bins(sums: Sums) -> NDArray[np.float64]:
    """What each bin adds to the error, (B,)."""
    result: NDArray[np.float64] = np.abs(sums.confidence - sums.correct) / sums.images.sum()
    return result


def _top(
    probabilities: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability of the predicted class, and whether it is right; both (N,)."""
    return probabilities.max(1), probabilities.argmax(1) == labels


def bins_of(confidence: NDArray[np.float64]) -> NDArray[np.int64]:
    """The bin of each probability, (N,), in 0..14."""
    return np.clip(np.ceil(confidence * CALIBRATION_BINS).astype(np.int64) - 1, 0, CALIBRATION_BINS - 1)


def sums_of_bins(confidence: NDArray[np.float64], correct: NDArray[np.bool_]) -> Sums:
    """The sums over predictions, of their probabilities (N,) and whether each is right (N,)."""
    bins = bins_of(confidence)

    def total(values: NDArray[np.float64] | NDArray[np.bool_]) -> NDArray[np.float64]:
        return np.bincount(bins, values, CALIBRATION_BINS).astype(np.float64)

    images = np.bincount(bins, minlength=CALIBRATION_BINS)
    return Sums(images, total(confidence), total(correct), total((confidence - correct) ** 2))


def variances_of_bins(sums: Sums) -> NDArray[np.float64]:
    """Variance of each bin's sum of probability minus right, (B,)."""
    images = np.maximum(sums.images, 1)
    observed = sums.squares - (sums.confidence - sums.correct) ** 2 / images
    share = (sums.correct + _BEFORE * sums.confidence / images) / (images + _BEFORE)
    result: NDArray[np.float64] = np.maximum(observed, sums.images * share * (1 - share))
    return result


def _by_chance(confidence: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Calibration errors (B,) where each prediction is right with its own probability (Bröcker and Smith 2007)."""
    bins, count = bins_of(confidence), len(confidence)
    if count > MAX_DRAWN:
        spread = np.sqrt(np.bincount(bins, confidence * (1 - confidence), CALIBRATION_BINS))
        gaps = rng.normal(size=(RESAMPLES, CALIBRATION_BINS)) * spread
    else:
        right = rng.random((RESAMPLES, count), np.float32) < confidence
        gaps = (confidence - right) @ np.eye(CALIBRATION_BINS)[bins]
    result: NDArray[np.float64] = np.abs(gaps).sum(1) / count
    return result


def _folded(mean: float, std: float) -> float:
    """The mean of the absolute value of a normal variable."""
    if not std:
        return abs(mean)
    z = mean / std
    return std * math.sqrt(2 / math.pi) * math.exp(-(z**2) / 2) + mean * math.erf(z / math.sqrt(2))
