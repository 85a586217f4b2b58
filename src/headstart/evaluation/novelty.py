"""Is an image like the training images? The threshold on its distance to them, at a stated rate of false alarms.

The distance is that of `headstart.heads.references`. Measured on ants-bees with 5 neighbours, it flags all digits,
where a Mahalanobis distance with shrinkage flags half to nine tenths of such images. The threshold is the finite-sample
quantile of conformal prediction (Vovk et al. 2005; Bates et al. 2023, "Testing for outliers with conformal p-values"):
of new images that are drawn as the training images were, at most the stated share lies above it, on average.

The references are a sample that does not look at the embeddings. Greedy k-centres cover the set better, but they are
its outliers, and the rate is no longer the stated one: of digits with 50 to 200 references, 2.8 % of the held-out ones
were flagged at a stated 5 %, and 5.1 to 5.6 % with a sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.heads.references import References
from headstart.modelfile.familiarity import FalseAlarms

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEIGHBOURS = 5
FALSE_ALARM_RATE = 0.04
# With so few images that no threshold has that rate, the smallest rate possible, but none above this one.
MAX_FALSE_ALARM_RATE = 0.1
MAX_REFERENCES = 1000
# Distances that the threshold is the quantile of; more would cost seconds and change it by less than a tenth.
MAX_CALIBRATED = 5000


@dataclass(frozen=True)
class Detector:
    """What novelty detection needs: references and a threshold.

    Attributes:
        references: Embeddings to compare with.
        threshold: An image at a larger distance is unlike them.
        false_alarm_rate: Share of images like them that lies above the threshold, at most, on average; in 0..1.
        calibrated_on: Number of images whose distances the threshold is the quantile of.
    """

    references: References
    threshold: float
    false_alarm_rate: float
    calibrated_on: int

    def unfamiliar(self, embeddings: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which embeddings (N, D) are unlike the references, (N,)."""
        result: NDArray[np.bool_] = self.references.distances(embeddings) > self.threshold
        return result


def fit(
    embeddings: NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64],
    others: NDArray[np.float32] | None = None,
) -> Detector | None:
    """Choose references, and the threshold by leave-one-out: images of an image's own group are not its neighbours.

    A network places the images that it was trained on closer together than new ones; then other images set the
    threshold.

    Args:
        embeddings: Of the training images, (N, D), in an order that has nothing to do with what they show: of more than
            there is room for, the first of each class are taken.
        labels: Class of each, (N,).
        groups: Copies, near duplicates and images of one group have the same number, (N,).
        others: Embeddings of images that the network was not trained on, (V, D), if it was trained on the others; None
            if it was trained on neither.

    Returns:
        None where too few images are given to tell.
    """
    usable = np.abs(embeddings).max(1) > 0
    chosen = sample(labels, usable, MAX_REFERENCES)
    if len(chosen) <= NEIGHBOURS:
        return None
    references = References.of(embeddings[chosen], NEIGHBOURS)
    if others is None:
        rows = np.flatnonzero(usable)[:MAX_CALIBRATED]
        distances = references.distances(embeddings[rows], groups[rows], groups[chosen])
        distances = distances[np.isfinite(distances)]
    else:
        distances = references.distances(others[:MAX_CALIBRATED])
    count = len(distances)
    rate = max(FALSE_ALARM_RATE, 1 / (count + 1))
    if rate > MAX_FALSE_ALARM_RATE:
        return None
    return Detector(references, quantile(distances, 1 - rate), rate, count)


def quantile(values: NDArray[np.float32], level: float) -> float:
    """The value that a new one, drawn like these, is at most with the probability `level`: of rank ceil(level (M + 1)).

    Args:
        values: (M,).
        level: In 0..1.

    Returns:
        Infinity where M is too small for this level.
    """
    rank = math.ceil(level * (len(values) + 1) - 1e-9)  # of a product that is whole but for rounding
    return float(np.partition(values, rank - 1)[rank - 1]) if rank <= len(values) else math.inf


def held_out_folds(
    embeddings: NDArray[np.float32], labels: NDArray[np.int64], groups: NDArray[np.int64], folds: NDArray[np.int64]
) -> FalseAlarms | None:
    """False alarms where every image is held out once: each fold by references and threshold of the others.

    Args:
        embeddings: As for `fit`.
        labels: As for `fit`.
        groups: As for `fit`.
        folds: Fold of each image, (N,).

    Returns:
        None where too few images are given to tell.
    """
    flagged = np.zeros(len(labels), bool)
    for fold in np.unique(folds):
        inside = folds != fold
        one = fit(embeddings[inside], labels[inside], groups[inside])
        if one is None:
            return None
        flagged[~inside] = one.unfamiliar(embeddings[~inside])
    return FalseAlarms.of(flagged)


def sample(
    labels: NDArray[np.int64], usable: NDArray[np.bool_] | None = None, size: int = MAX_REFERENCES
) -> NDArray[np.int64]:
    """Rows of a sample, ascending: the first row of each class, then the second of each, until there are enough.

    Args:
        labels: Class of each row, (N,).
        usable: Which rows may be taken, (N,); None for all.
        size: How many rows are enough.
    """
    rows = np.arange(len(labels)) if usable is None else np.flatnonzero(usable)
    by_class = np.argsort(labels[rows], kind="stable")
    _, starts, counts = np.unique(labels[rows][by_class], return_index=True, return_counts=True)
    turn = np.empty(len(rows), np.int64)
    turn[by_class] = np.arange(len(rows)) - np.repeat(starts, counts)
    return np.sort(rows[np.argsort(turn, kind="stable")[:size]])
