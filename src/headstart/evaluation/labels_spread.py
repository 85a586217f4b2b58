"""How far the numbers of all labels together may be off: by a bootstrap of the images, which keeps labels together."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.evaluation.average_precision import average_precisions

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 200  # for a variance, which takes fewer than quantiles do


class LabelCounts(NamedTuple):
    """Of each label, in one sample or several: images that have it and were found to, that have it, that were found."""

    hits: NDArray[np.float64]  # (..., C)
    have: NDArray[np.float64]
    found: NDArray[np.float64]

    @classmethod
    def of(
        cls, known: NDArray[np.bool_], truth: NDArray[np.bool_], found: NDArray[np.bool_],
        weights: NDArray[np.float64] | None = None,
    ) -> LabelCounts:  # fmt: skip
        """The counts of images of which a label is known, has it, was found to have it (N, C), by weights (B, N)."""
        weights = np.ones((1, len(known))) if weights is None else weights
        return cls(*(weights @ part for part in (truth & found & known, truth, found & known)))

    def micro(self) -> NDArray[np.float64]:
        """F1 over all pairs of image and label, (...)."""
        return _ratio(2 * self.hits.sum(-1), (self.have + self.found).sum(-1))

    def macro(self) -> NDArray[np.float64]:
        """Mean F1 over the labels, (...)."""
        each = _ratio(2 * self.hits, self.have + self.found)
        there = np.isfinite(each)
        return _ratio(np.where(there, each, 0).sum(-1), there.sum(-1))


class Spread(NamedTuple):
    """Variances over bootstrap samples of the images."""

    mean_average_precision: float
    micro_f1: float
    macro_f1: float


def spread_of(
    probabilities: NDArray[np.float64], labels: NDArray[np.int8], found: NDArray[np.bool_], rng: np.random.Generator
) -> Spread:
    """The variances of the numbers of images, of which all arguments are (N, C)."""
    known, truth = labels >= 0, labels == 1
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), RESAMPLES).astype(np.float64)
    counts = LabelCounts.of(known, truth, found, weights)
    some = [i for i in range(labels.shape[1]) if truth[:, i].any()]
    average = np.full((RESAMPLES, len(some)), np.nan)
    for place, i in enumerate(some):
        own = known[:, i]
        average[:, place] = average_precisions(probabilities[own, i], truth[own, i], weights[:, own])
    there = np.isfinite(average)
    means = _ratio(np.where(there, average, 0).sum(1), there.sum(1))
    return Spread(_variance(means), _variance(counts.micro()), _variance(counts.macro()))


def micro_f1_by_frequency(positives: NDArray[np.int64], known: NDArray[np.int64]) -> float | None:
    """The largest micro F1 that predicting the same labels of every image gets; None where no image has one.

    Args:
        positives: Images that have each label, (C,).
        known: Images of which it is known, (C,).
    """
    if not positives.any():
        return None
    order = np.argsort(-positives / np.maximum(known, 1), kind="stable")
    taken, hits = np.cumsum(known[order]), np.cumsum(positives[order])
    return float((2 * hits / (taken + positives.sum())).max())


def exact_match_by_frequency(labels: NDArray[np.int8]) -> float:
    """What the commonest combination gets: its share of the images of which all is known."""
    whole = labels[(labels >= 0).all(1)]
    if not len(whole):
        return 0.0
    return float(np.unique(whole, axis=0, return_counts=True)[1].max() / len(whole))


def occurring_together(truth: NDArray[np.bool_]) -> tuple[tuple[int, int, int], ...]:
    """Each pair of labels (places, the first before the second) and the images that have both, at least one."""
    counts = truth.astype(np.int64).T @ truth
    return tuple((int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(np.triu(counts, 1)))


def _variance(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(values.var()) if len(values) else 0.0


def _ratio(above: NDArray[np.number], below: NDArray[np.number]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return result
