"""95 % intervals."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.metrics import Confusion, Counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

Interval = tuple[float, float]
NORMAL_95 = 1.959963984540054  # the 97.5 % point of the standard normal distribution
RESAMPLES = 1000


def wilson(successes: int, trials: int) -> Interval:
    """Wilson's score interval of a proportion (Wilson 1927; Brown, Cai and DasGupta 2001 recommend it).

    Args:
        successes: In 0..trials.
        trials: At least 1.
    """
    z2 = NORMAL_95**2
    share = successes / trials
    centre = (share + z2 / (2 * trials)) / (1 + z2 / trials)
    half = NORMAL_95 / (1 + z2 / trials) * math.sqrt(share * (1 - share) / trials + z2 / (4 * trials**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def resampled_counts(confusion: Confusion, seed: int = 0) -> Counts:
    """Counts (B, C) of bootstrap samples of the images: draws from the multinomial of the confusion matrix's cells."""
    rng = np.random.default_rng(seed)
    total = int(confusion.images.sum())
    shares = confusion.images / total
    resamples = RESAMPLES if confusion.classes <= 1000 else RESAMPLES // 5  # of 10,000 classes 240 MB instead of 1.2 GB
    samples = [Counts.of(confusion, rng.multinomial(total, shares)) for _ in range(resamples)]
    return Counts(*(np.array(part, np.float32) for part in zip(*samples, strict=True)))


def bootstrap_mean(values: NDArray[np.float64], seed: int = 0) -> Interval:
    """Percentile bootstrap interval of the mean of one value for each image (N,)."""
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(0, len(values), len(values))].mean() for _ in range(RESAMPLES)]
    return percentiles(np.array(means))


def percentiles(statistics: NDArray[np.float64]) -> Interval:
    """The middle 95 % of bootstrap statistics (B,)."""
    low, high = np.nanpercentile(statistics, [2.5, 97.5])
    return float(low), float(high)
