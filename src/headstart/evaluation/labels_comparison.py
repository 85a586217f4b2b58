"""Is one model of several labels better than another? Tests and intervals for predictions of the same images.

The verdict goes by mean average precision. Were two models alike, it would not matter which of them an image's
predictions came from: so they are swapped, whole clusters of images at a time, and the difference is computed anew
(Fisher's permutation test). All that is computed is a number of the 2 N predictions of both models, each with a weight:
of a swap 0 or 1, of a bootstrap how often its cluster was drawn.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.average_precision import average_precisions, mean_average_precision_shares
from headstart.evaluation.comparison import Comparing, Difference, Pair, Predicted, clusters_of
from headstart.evaluation.intervals import RESAMPLES, Interval
from headstart.evaluation.labels import judged
from headstart.evaluation.paired_intervals import middle, resampled_means, wider
from headstart.evaluation.paired_tests import LEVEL, fold_test, holm, sign_flip_test
from headstart.evaluation.power import more_images

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Images times labels, beyond which the average precision is replaced by its linear part, which with so many is the same
# to the third digit: the draws themselves would take seconds.
MAX_VALUES = 50_000
_AT_ONCE = 2**21  # numbers of a block of draws
_SAME = 1e-12
NAMES = ("micro_f1", "macro_f1", "exact_match")


def compare(
    predicted: Sequence[Predicted],
    labels: NDArray[np.int8],
    *,
    groups: Sequence[int] | None = None,
    folds: NDArray[np.int64] | None = None,
) -> tuple[Pair, ...]:
    """Compare each model with each other.

    Args:
        predicted: Of each model the calibrated probabilities (N, C), and the labels above their thresholds (N, C).
        labels: 1, 0, or below 0 for not known, (N, C).
        groups: Group number of each image, (N,): images of one group are no independent evidence. None: all are.
        folds: Fold of each image in a cross-validation, (N,); None where one model predicted all.

    Raises:
        ValueError: There is no image, or the shapes do not fit.
    """
    if not len(labels) or any(one.probabilities.shape != labels.shape for one in predicted):
        raise ValueError(f"labels {labels.shape}, probabilities {[one.probabilities.shape for one in predicted]}")
    clusters = clusters_of(len(labels), groups)
    places = list(combinations(range(len(predicted)), 2))
    pairs = [
        _Two(predicted[i], predicted[j], labels, clusters).pair((i, j), folds, LEVEL / len(places)) for i, j in places
    ]
    corrected = holm([pair.p_value for pair in pairs])
    return tuple(
        replace(pair, p_corrected=p, more_images=0 if p < LEVEL else pair.more_images)
        for pair, p in zip(pairs, corrected, strict=True)
    )


class _Two:
    """Two models: their 2 N predictions, those of the first before those of the second."""

    def __init__(self, one: Predicted, two: Predicted, labels: NDArray[np.int8], clusters: NDArray[np.int64]) -> None:
        self.clusters, self.labels = clusters, labels
        self.known, self.truth = labels >= 0, labels == 1
        self.probabilities = np.vstack([one.probabilities, two.probabilities])
        found = np.vstack([one.found, two.found]) & np.tile(self.known, (2, 1))
        have = np.tile(self.truth, (2, 1))
        self.hits, self.either = (found & have).astype(np.float64), found.astype(np.float64) + have  # (2 N, C)
        right, losses = judged(self.probabilities, np.tile(labels, (2, 1)), found)
        self.right, self.losses = right.astype(np.float64), losses  # (2 N,)
        self.measured = [i for i in range(labels.shape[1]) if self.truth[:, i].any()]

    def pair(self, place: tuple[int, int], folds: NDArray[np.int64] | None, level: float) -> Pair:
        """The pair before the correction."""
        n, count = len(self.labels), int(self.clusters.max()) + 1
        slopes = self.slopes()
        test = "swaps of " + ("whole groups" if count < n else "images")
        if n * len(self.measured) > MAX_VALUES:
            difference = float(slopes[:, 0].mean())
            main = Difference(
                difference,
                middle(resampled_means(slopes[:, :1].T, self.clusters)[0], count)[1],
                sign_flip_test(slopes[:, 0], self.clusters),
            )
        else:
            main = self.differences(self.average_precision, 1)[0]
        gains = self.right[:n] - self.right[n:]
        others = self.differences(self.counted, 3)
        losses_more = self.losses[:n] - self.losses[n:]
        loss = middle(resampled_means(losses_more[None], self.clusters)[0], count)[1]
        if folds is not None:
            main, *others = (_with_folds(one, fold_test(slopes[:, i], folds)) for i, one in enumerate([main, *others]))
            loss = wider(loss, fold_test(losses_more, folds)[1])
            test += ", and the corrected t-test over folds"
        return Pair(
            *place, n, int((gains > 0).sum()), int((gains < 0).sum()), main.difference, main.interval, main.p_value,
            main.p_value, test, float(losses_more.mean()), loss,
            more_images(n, main.difference, main.interval, level=level), dict(zip(NAMES, others, strict=True)),
        )  # fmt: skip

    def differences(
        self, numbers: Callable[[NDArray[np.float64]], NDArray[np.float64]], count: int
    ) -> list[Difference]:
        """The differences of numbers (B, K) of weighted predictions (B, 2 N)."""
        n, size = len(self.labels), int(self.clusters.max()) + 1
        ones, none = np.ones((1, n)), np.zeros((1, n))
        seen = (numbers(np.hstack([ones, none])) - numbers(np.hstack([none, ones])))[0]
        if not np.isfinite(seen).all():  # no image has a label
            return [Difference(0.0, (-1.0, 1.0), 1.0)] * count
        swapped = np.vstack([
            numbers(np.hstack([one, 1 - one])) - numbers(np.hstack([1 - one, one]))
            for one in self._drawn(lambda rng, draws: rng.integers(0, 2, (draws, size)))
        ])  # fmt: skip
        drawn = np.vstack([
            numbers(np.hstack([one, 0 * one])) - numbers(np.hstack([0 * one, one]))
            for one in self._drawn(lambda rng, draws: rng.multinomial(size, np.full(size, 1 / size), draws))
        ])  # fmt: skip
        beyond = (np.abs(swapped) >= np.abs(seen) - _SAME).sum(0)
        return [
            Difference(
                float(seen[i]), middle(drawn[np.isfinite(drawn[:, i]), i], size)[1],
                float((beyond[i] + 1) / (len(swapped) + 1)),
            )
            for i in range(count)
        ]  # fmt: skip

    def _drawn(self, draw: Callable[[np.random.Generator, int], NDArray[np.int64]]) -> Iterator[NDArray[np.float64]]:
        """Blocks of weights of the images, (B, N), from weights of the clusters."""
        rng, done = np.random.default_rng(0), 0
        while done < RESAMPLES:
            draws = min(RESAMPLES - done, max(1, _AT_ONCE // (2 * len(self.labels))))
            yield draw(rng, draws)[:, self.clusters].astype(np.float64)
            done += draws

    def average_precision(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean average precision of weighted predictions (B, 2 N), over the labels that one has; (B, 1)."""
        total, labels = np.zeros(len(weights)), np.zeros(len(weights))
        for i in self.measured:
            own = np.tile(self.known[:, i], 2)
            found = average_precisions(self.probabilities[own, i], np.tile(self.truth[:, i], 2)[own], weights[:, own])
            total += np.nan_to_num(found)
            labels += np.isfinite(found)
        means: NDArray[np.float64] = np.divide(total, labels, out=np.full(len(weights), np.nan), where=labels > 0)
        return means[:, None]

    def counted(self, weights: NDArray[np.float64]) -> NDArray[np.float64]:
        """Micro F1, macro F1 and the share of images whose labels are all right, of weighted predictions; (B, 3)."""
        hits, either = weights @ self.hits, weights @ self.either  # (B, C)
        micro = 2 * hits.sum(1) / np.maximum(either.sum(1), _SAME)
        there = either > 0
        each = np.divide(2 * hits, either, out=np.zeros(hits.shape), where=there)
        macro = each.sum(1) / np.maximum(there.sum(1), 1)
        return np.stack([micro, macro, weights @ self.right / weights.sum(1)], 1)

    def slopes(self) -> NDArray[np.float64]:
        """What each image adds to the difference of each number to first order, (N, 4); their mean is the difference.

        These are the pseudo-values of the infinitesimal jackknife (Jaeckel 1972).
        """
        n = len(self.labels)
        sides = [self._slopes_of(slice(side * n, (side + 1) * n)) for side in (0, 1)]
        result: NDArray[np.float64] = sides[0] - sides[1]
        return result

    def _slopes_of(self, own: slice) -> NDArray[np.float64]:
        n = len(self.labels)
        slopes = np.zeros((n, 4))
        slopes[:, 0] = mean_average_precision_shares(self.probabilities[own], self.labels)
        hits, either = self.hits[own], self.either[own]
        micro = 2 * hits.sum() / max(either.sum(), _SAME)
        slopes[:, 1] = micro + n * (2 * hits.sum(1) - micro * either.sum(1)) / max(either.sum(), _SAME)
        there = either.sum(0) > 0
        sums = either[:, there].sum(0)
        each = 2 * hits[:, there].sum(0) / sums
        if there.any():
            slopes[:, 2] = (each + n * (2 * hits[:, there] - each * either[:, there]) / sums).mean(1)
        slopes[:, 3] = self.right[own]
        return slopes


def _with_folds(one: Difference, by_folds: tuple[float, Interval]) -> Difference:
    """A difference on which the folds of a cross-validation must agree too."""
    p_value, interval = by_folds
    interval = wider(one.interval, interval) if all(map(math.isfinite, interval)) else one.interval
    return Difference(one.difference, interval, max(one.p_value, p_value))


BY_AVERAGE_PRECISION = Comparing(
    measure="mean_average_precision",
    words="mean average precision",
    also=(("micro_f1", "Micro F1"), ("exact_match", "Exact match"), ("log_loss", "Log loss")),
    pairs=compare,
)
