"""From what probability on an image has a label, chosen on predictions of images that the model has not learnt from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.settings.thresholds import ThresholdRule

if TYPE_CHECKING:
    from numpy.typing import NDArray

EVEN = 0.5


def choose(
    rule: ThresholdRule, probabilities: NDArray[np.float64], labels: NDArray[np.int8]
) -> tuple[tuple[float, ...], tuple[bool, ...]]:
    """The threshold of each label, (C,), in 0..1, and whether the rule could be kept, (C,).

    Args:
        rule: How it is chosen.
        probabilities: Of images that were not learnt from, (N, C).
        labels: 1, 0, or below 0 for not known, (N, C).
    """
    found = [_of_one(rule, *known(probabilities[:, i], labels[:, i])) for i in range(labels.shape[1])]
    return tuple(one for one, _ in found), tuple(kept for _, kept in found)


def known(
    probabilities: NDArray[np.float64], labels: NDArray[np.int8]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Probability and truth of one label, of the images (M,) of which it is known."""
    some = labels >= 0
    return probabilities[some], labels[some] == 1


def _of_one(rule: ThresholdRule, probabilities: NDArray[np.float64], truth: NDArray[np.bool_]) -> tuple[float, bool]:
    if rule.kind == "fixed":
        return rule.value, True
    if not truth.any():
        return EVEN, False
    cuts, hits, taken = _steps(probabilities, truth)
    precision, recall = hits / taken, hits / truth.sum()
    if rule.kind == "f1":
        return _nearest_to_even(cuts, 2 * hits / (taken + truth.sum())), True
    if rule.kind == "precision":  # as many as possible are found
        enough = precision >= rule.value
        return (_nearest_to_even(cuts, np.where(enough, recall, -1)) if enough.any()
                else _nearest_to_even(cuts, precision), bool(enough.any()))  # fmt: skip
    return _nearest_to_even(cuts, np.where(recall >= rule.value, precision, -1)), True


def _steps(
    probabilities: NDArray[np.float64], truth: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """All thresholds that differ in what they take, (T,): in the middle between two probabilities that follow.

    With how many of the images that are taken have the label, and how many are taken, (T,).
    """
    order = np.argsort(-probabilities, kind="stable")
    falling, hits = probabilities[order], np.cumsum(truth[order], dtype=np.float64)
    ends = np.flatnonzero(np.append(np.diff(falling) < 0, True))  # equal probabilities are taken together
    following = np.append(falling, 0.0)[ends + 1]
    cuts: NDArray[np.float64] = (falling[ends] + following) / 2
    return cuts, hits[ends], (ends + 1).astype(np.float64)


def _nearest_to_even(cuts: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Of the thresholds with the highest score the one nearest to a half."""
    best = np.flatnonzero(scores >= scores.max() - 1e-12)
    return float(cuts[best[np.argmin(np.abs(cuts[best] - EVEN))]])
