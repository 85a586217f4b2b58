"""Is one classifier better than another? Tests and intervals for predictions of the same images.

What counts is where two classifiers disagree: McNemar's exact test asks whether the images that only one of them
gets right are more than a fair coin would give it. Where images of one group belong together, whole groups are
swapped instead. The predictions of a cross-validation hang together in another way, by the models that made them;
there the folds must agree on the difference too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.evaluation.intervals import NORMAL_95, RESAMPLES, Interval

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVEL = 0.05
POWER = 0.8
# No one labels more to settle an argument; a difference that needs them is none.
MAX_IMAGES = 1_000_000
# From here on the approximation of the images needed is right to 1 %.
MANY_DISAGREEMENTS = 500


@dataclass(frozen=True)
class Pair:
    """Two classifiers on the same images.

    Attributes:
        first: Which of the classifiers the difference speaks for, by number.
        second: Which it is taken from.
        n: Images, all predicted by both.
        only_first: Images that the first alone gets right.
        only_second: Images that the second alone gets right.
        difference: Accuracy of the first less that of the second, in -1..1.
        difference_interval: Of 95 %, for this pair alone.
        p_value: Of the test of this pair alone: how often two equally good classifiers would differ as much.
        p_corrected: The same by Holm's correction for all pairs of the comparison; what a verdict may go by.
        test: What gave the p-value, in words.
        log_loss_difference: Mean log loss of the first less that of the second, in nats: negative speaks for it.
        log_loss_difference_interval: Of 95 %, by the bootstrap.
        more_images: About how many more held-out images would show a difference as large as this one at the level
            that the strictest correction leaves, four times out of five; 0 where it is shown, None where no number
            up to `MAX_IMAGES` would.
    """

    first: int
    second: int
    n: int
    only_first: int
    only_second: int
    difference: float
    difference_interval: Interval
    p_value: float
    p_corrected: float
    test: str
    log_loss_difference: float
    log_loss_difference_interval: Interval
    more_images: int | None

    @property
    def resolved(self) -> bool:
        """Whether the images tell the two apart."""
        return self.p_corrected < LEVEL


def compare(
    right: NDArray[np.bool_],
    losses: NDArray[np.float64],
    *,
    groups: Sequence[int] | None = None,
    folds: NDArray[np.int64] | None = None,
) -> tuple[Pair, ...]:
    """Compare each classifier with each other.

    Args:
        right: Whether each of M classifiers gets each image right, bool (M, N).
        losses: Negative log likelihood of the true class, float64 (M, N), in nats.
        groups: Group number of each image, (N,): images of one group are no independent evidence. None: all are.
        folds: Fold of each image in a cross-validation, (N,); None where one model predicted all.

    Raises:
        ValueError: There is no image, or the shapes do not fit.
    """
    if right.shape != losses.shape or right.ndim != 2 or not right.shape[1]:
        raise ValueError(f"right {right.shape} and losses {losses.shape}; expected (M, N) of at least one image")
    clusters = np.unique(np.arange(right.shape[1]) if groups is None else groups, return_inverse=True)[1]
    places = list(combinations(range(len(right)), 2))
    means = resampled_means(losses, clusters)
    pairs = [_pair(right, losses, means, place, clusters, folds, LEVEL / len(places)) for place in places]
    corrected = holm([pair.p_value for pair in pairs])
    return tuple(
        replace(pair, p_corrected=p, more_images=0 if p < LEVEL else pair.more_images)
        for pair, p in zip(pairs, corrected, strict=True)
    )


def _pair(
    right: NDArray[np.bool_],
    losses: NDArray[np.float64],
    means: NDArray[np.float64],
    place: tuple[int, int],
    clusters: NDArray[np.int64],
    folds: NDArray[np.int64] | None,
    level: float,
) -> Pair:
    """One pair, before the correction."""
    first, second = place
    gains = right[first].astype(np.int64) - right[second]  # (N,) of -1, 0, 1
    losses_more = losses[first] - losses[second]
    n, only_first, only_second = len(gains), int((gains > 0).sum()), int((gains < 0).sum())
    grouped = clusters.max() + 1 < n
    p_value = swap_test(np.bincount(clusters, gains).astype(np.int64)) if grouped else mcnemar(only_first, only_second)
    test = "exact swaps of whole groups" if grouped else "McNemar's exact test"
    # Images that hang together count for fewer (Rao and Scott 1992).
    effect = design_effect(gains, clusters)
    interval = score_interval(only_first / effect, only_second / effect, n / effect)
    loss_interval = _middle(means[first] - means[second], int(clusters.max()) + 1)[1]
    needed = images_needed(only_first / n, only_second / n, level=level)
    needed = needed and math.ceil(needed * effect)
    if folds is not None:
        fold_p, fold_interval = fold_test(gains.astype(np.float64), folds)
        p_value, interval = max(p_value, fold_p), _wider(interval, fold_interval)
        loss_interval = _wider(loss_interval, fold_test(losses_more, folds)[1])
        test += ", and the corrected t-test over folds"
        needed = needed and max(needed, _needed_of_folds(n, fold_p, len(np.unique(folds)), level))
    return Pair(
        first, second, n, only_first, only_second, float(gains.mean()), interval, p_value, p_value, test,
        float(losses_more.mean()), loss_interval, needed and max(needed - n, 1),
    )  # fmt: skip


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


def _needed_of_folds(n: int, p_value: float, folds: int, level: float) -> int:
    """Images with which the test over folds would find a difference that has this p-value with n images."""
    from scipy.special import stdtrit

    found, asked = (-float(stdtrit(folds - 1, tail / 2)) for tail in (max(p_value, 1e-300), level))
    return math.ceil(n * ((asked + float(stdtrit(folds - 1, POWER))) / max(found, 1e-6)) ** 2)


def score_interval(only_first: float, only_second: float, n: float) -> Interval:
    """95 % interval of the difference of two accuracies on the same images (Tango 1998).

    It holds all differences that a score test does not refuse. Of four that were tried its coverage is nearest to
    95 % (94 to 97 %), also with few disagreements, where Newcombe's is 99 %.

    Args:
        only_first: Images that the first classifier alone gets right; of images in groups, an effective number.
        only_second: Images that the second alone gets right.
        n: All images.
    """
    difference = (only_first - only_second) / n

    def score(guess: float) -> float:
        """Standard errors between the difference and a guess of it, in -1..1."""
        b = (2 * n - only_first + only_second) * guess - only_first - only_second
        c = -only_second * guess * (1 - guess)
        share = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)  # most likely share of the second alone
        variance = n * (2 * share + guess * (1 - guess))
        apart = n * (difference - guess)
        return apart / math.sqrt(variance) if variance > 1e-12 else math.copysign(math.inf, apart) if apart else 0.0

    return _edge(score, difference, -1.0), _edge(score, difference, 1.0)


def _edge(score: Any, inside: float, outside: float) -> float:
    """Where a score leaves the middle 95 %, by bisection between a point within and the end of the scale."""
    if abs(score(outside)) <= NORMAL_95:
        return outside
    for _ in range(60):
        middle = (inside + outside) / 2
        inside, outside = (middle, outside) if abs(score(middle)) <= NORMAL_95 else (inside, middle)
    return inside


def bootstrap(values: NDArray[np.float64], clusters: NDArray[np.int64], seed: int = 0) -> tuple[float, Interval]:
    """P-value and 95 % interval of a mean difference by the bootstrap over clusters of images.

    Args:
        values: Difference of each image, (N,).
        clusters: Cluster of each, int64 (N,), in 0..K-1; each image its own, where they are independent.
        seed: Seeds the draws.
    """
    return _middle(resampled_means(values[None], clusters, seed)[0], int(clusters.max()) + 1)


def resampled_means(values: NDArray[np.float64], clusters: NDArray[np.int64], seed: int = 0) -> NDArray[np.float64]:
    """Means of values (M, N) over the same draws of whole clusters, (M, B)."""
    images = np.bincount(clusters)
    sums = np.array([np.bincount(clusters, one) for one in values])  # (M, K)
    rng = np.random.default_rng(seed)
    draws = (rng.integers(0, len(images), len(images)) for _ in range(RESAMPLES))
    return np.array([sums[:, rows].sum(1) / images[rows].sum() for rows in draws]).T


def _middle(means: NDArray[np.float64], clusters: int) -> tuple[float, Interval]:
    """P-value and 95 % interval of bootstrap means (B,).

    Percentiles, expanded for few clusters as Student's t is against the normal (Hesterberg 2015).
    """
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    if clusters < 2:
        return 1.0, (-math.inf, math.inf)
    stretch = math.sqrt(clusters / (clusters - 1))
    tail = float(ndtr(stretch * stdtrit(clusters - 1, LEVEL / 2)))
    low, high = np.quantile(means, [tail, 1 - tail])
    beyond = (1 + min(int((means <= 0).sum()), int((means >= 0).sum()))) / (RESAMPLES + 1)
    p_value = 2 * float(stdtr(clusters - 1, ndtri(min(beyond, 0.5)) / stretch))
    return min(1.0, p_value), (float(low), float(high))


def design_effect(values: NDArray[Any], clusters: NDArray[np.int64]) -> float:
    """By how much clusters raise the variance of a mean, at least 1 (Kish 1965).

    Args:
        values: Value of each image, (N,).
        clusters: Cluster of each, int64 (N,), in 0..K-1.
    """
    apart = values - values.mean()
    single, count = float((apart**2).sum()), int(clusters.max()) + 1
    if not single or count < 2:
        return 1.0
    together = float((np.bincount(clusters, apart) ** 2).sum()) * count / (count - 1)
    return max(1.0, together / (single * len(values) / max(len(values) - 1, 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values corrected for their number (Holm 1979): the chance of one false finding among all stays at the level."""
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda place: p_values[place])):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[place]))
        corrected[place] = highest
    return corrected


def power(n: int, only_first: float, only_second: float, *, level: float = LEVEL) -> float:
    """Chance that McNemar's exact test tells two classifiers apart.

    Args:
        n: Images.
        only_first: Share of images that the first alone gets right, in 0..1.
        only_second: Share that the second alone gets right.
        level: Of the test.
    """
    from scipy.special import bdtr, bdtrik, gammaln, xlog1py, xlogy

    differ = only_first + only_second
    if not differ:
        return 0.0
    spread = 8 * math.sqrt(n * differ) + 8
    trials = np.arange(max(1, int(n * differ - spread)), min(n, int(n * differ + spread)) + 1)
    chances = np.exp(
        gammaln(n + 1) - gammaln(trials + 1) - gammaln(n - trials + 1)
        + xlogy(trials, differ) + xlog1py(n - trials, -min(differ, 1.0))
    )  # fmt: skip
    # The most images that the loser may have alone for a p-value below the level, of each number of disagreements.
    most = np.floor(np.nan_to_num(bdtrik(level / 2, trials, 0.5), nan=-1.0))
    most -= np.where((most >= 0) & (2 * bdtr(np.maximum(most, 0), trials, 0.5) >= level), 1, 0)
    share = min(1.0, only_first / differ)
    found = [np.where(most >= 0, bdtr(np.maximum(most, 0), trials, one), 0.0) for one in (share, 1 - share)]
    return float((chances * (found[0] + found[1])).sum())


def images_needed(only_first: float, only_second: float, *, level: float = LEVEL) -> int | None:
    """Images with which McNemar's exact test would find such a difference four times out of five.

    Args:
        only_first: Share of images that the first alone gets right, in 0..1.
        only_second: Share that the second alone gets right.
        level: Of the test.

    Returns:
        The number, to about 1 %; None where the shares are equal, or where it is above `MAX_IMAGES`.
    """
    if only_first == only_second:
        return None

    from scipy.special import ndtri

    # Connor 1987, for the test by the normal distribution, and what the exact one needs on top of it (measured).
    differ, apart = only_first + only_second, abs(only_first - only_second)
    asked = float(-ndtri(level / 2) * math.sqrt(differ) + ndtri(POWER) * math.sqrt(differ - apart**2))
    low, high = 1, math.ceil((asked / apart) ** 2 + 2 / apart)
    if high > MAX_IMAGES:
        return None
    if high * differ > MANY_DISAGREEMENTS:
        return high
    while power(high, only_first, only_second, level=level) < POWER:
        low, high = high, math.ceil(1.1 * high)
    while high - low > max(1, high // 100):
        middle = (low + high) // 2
        low, high = (low, middle) if power(middle, only_first, only_second, level=level) >= POWER else (middle, high)
    return high


def _wider(one: Interval, other: Interval) -> Interval:
    return min(one[0], other[0]), max(one[1], other[1])
