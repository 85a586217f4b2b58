"""Tests of paired results: two or more classifiers on the same images, or the same images in two ways."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.intervals import Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.05


def mcnemar(only_first: int, only_second: int) -> float:
    """P-value of McNemar's exact test, two-sided (McNemar 1947; the binomial form, as in SciPy's ``binomtest``).

    Args:
        only_first: Images that the first classifier alone gets right.
        only_second: Images that the second alone gets right.
    """
    from scipy.special import bdtr

    trials = only_first + only_second
    return min(1.0, 2 * float(bdtr(min(only_first, only_second), trials, 0.5))) if trials else 1.0


def swap_test(gains: NDArray[np.int64]) -> float:
    """P-value of the exact test over swaps of whole groups; with groups of one image it is McNemar's.

    Were both classifiers alike, each group's gain would have either sign with the same chance. All 2^G ways are
    counted, by the distribution of their sum.

    Args:
        gains: For each group, images that the first alone gets right less those that the second alone does, (G,).
    """
    from scipy.special import bdtr

    sizes, counts = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    chances = np.ones(1)  # of the sums -total, -total + 2, ..., total
    for size, count in zip(sizes.tolist(), counts.tolist(), strict=True):
        up = np.diff(bdtr(np.arange(count + 1), count, 0.5), prepend=0.0)
        spread = np.zeros(size * count + 1)
        spread[::size] = up
        chances = np.convolve(chances, spread)
    total = len(chances) - 1
    sums = 2 * np.arange(total + 1) - total
    return min(1.0, float(chances[np.abs(sums) >= abs(int(gains.sum()))].sum()))


def sign_flip_test(differences: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """How often chance alone makes a mean difference this large, two-sided: the p-value of Fisher's permutation test.

    Which of two candidates is better on a cluster would be a coin's throw, so that its sum keeps its size and takes
    either sign. Exact for few clusters, else by 9,999 draws of a fixed seed (`scipy.stats.permutation_test`).

    Args:
        differences: Of paired values, float64 (N,).
        clusters: Cluster of each, (N,); images of one cluster flip together.
    """
    from scipy.stats import permutation_test

    sums = np.bincount(np.unique(clusters, return_inverse=True)[1], differences)
    if len(sums) < 2 or not sums.any():
        return 1.0
    found = permutation_test(
        (sums,), lambda values, axis: values.mean(axis=axis), permutation_type="samples", vectorized=True,
        n_resamples=9999, batch=1000, rng=np.random.default_rng(0),
    )  # fmt: skip
    return float(found.pvalue)


def fold_test(values: NDArray[np.float64], folds: NDArray[np.int64]) -> tuple[float, Interval]:
    """P-value and 95 % interval of a mean difference over the folds of a cross-validation (Nadeau and Bengio 2003).

    The images of a fold were predicted by one model of each kind, and the models of two folds share most of what they
    learnt from: so the folds count, not the images, and their variance is raised by the share that was tested. A
    bootstrap over five folds would find a difference where there is none in 15 % of cases, not in 5 %.

    Args:
        values: Difference of each image, (N,).
        folds: Fold of each, (N,), at least two of them.
    """
    from scipy.special import stdtr, stdtrit

    numbers = np.unique(folds, return_inverse=True)[1]
    images = np.bincount(numbers)
    means, count = np.bincount(numbers, values) / images, len(images)
    error = math.sqrt(float(means.var(ddof=1)) * (1 / count + 1 / (count - 1)))
    mean = float(values.mean())
    half = float(stdtrit(count - 1, 0.5 + (1 - LEVEL) / 2)) * error
    if not error:
        return float(mean == 0), (mean, mean)
    return 2 * float(stdtr(count - 1, -abs(mean) / error)), (mean - half, mean + half)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979): the chance of one false finding among all stays at the level."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected
