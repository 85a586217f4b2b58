"""C and whitening of each label, chosen by the rule of `headstart.heads.penalty`, on the same out-of-fold fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.heads import logistic
from headstart.heads.penalty import POWERS, SELECTION_LIMIT, WHITENING, pays, whitening_factors
from headstart.targets.classes.temperature import smoothed_losses
from headstart.targets.labels import TRUE
from headstart.targets.labels.sigmoid import of_two, temperature_of_label, to_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

MIN_OF_A_LABEL = 50  # in a sample of the images, where as many have it
ATTEMPTS = len(POWERS) + 1


class OutOfFold(NamedTuple):
    """What was chosen for each label, and what the heads that have it gave out of fold.

    Attributes:
        rows: Which rows were predicted, (M,), rising; all but where there are more than `SELECTION_LIMIT`.
        probabilities: After the temperature of each label, float64 (M, C).
        powers: Powers of ten of the C of each label, (C,).
        whitenings: Likewise, (C,).
        temperatures: What the scores of each label are divided by, (C,).
        losses: Cross-validated log loss of each label, (C,), in nats.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    powers: NDArray[np.int64]
    whitenings: NDArray[np.float64]
    temperatures: NDArray[np.float64]
    losses: NDArray[np.float64]


def choose(
    z: NDArray[np.float32],
    labels: NDArray[np.int8],
    folds: NDArray[np.int64],
    *,
    weights: NDArray[np.float32],
    pool: ThreadPoolExecutor,
    advance: Callable[[int], None],
) -> OutOfFold:
    """Choose C and whitening of each label, as `headstart.heads.penalty.choose` does of classes.

    Args:
        z: Features along their principal axes, float32 (N, R).
        labels: 1, 0, or below 0 for not known, (N, C).
        folds: Fold of each image, (N,).
        weights: Of each image for each label, (N, C).
        pool: Threads, of which each fold takes one.
        advance: Called after each attempt, at most ``len(POWERS) + 1`` of them.
    """
    rows = _some(labels)
    trial = _Trial(z[rows], labels[rows], folds[rows], weights[rows], pool)
    every = np.arange(labels.shape[1])
    best, whitened = (trial.attempt(POWERS[0], whitening, every, None) for whitening in (0.0, WHITENING))
    advance(2)
    better = trial.pays(best, whitened)
    best.replace(better, whitened.take(better))
    going = every
    for power in POWERS[1:]:
        weaker = trial.again(power, going, best)
        advance(1)
        won = trial.pays(best.take(going), weaker)
        best.replace(going[won], weaker.take(won))
        going = going[won]
        if not len(going):
            break
    probabilities = to_probabilities(best.scores / best.temperatures)
    losses = np.array([_mean(best.losses[:, i], trial.weights[:, i]) for i in every])
    return OutOfFold(rows, probabilities, best.powers, best.whitenings, best.temperatures, losses)


class _Attempt(NamedTuple):
    """Heads of some labels, L of them, with a penalty each, fitted without each fold."""

    powers: NDArray[np.int64]  # (L,)
    whitenings: NDArray[np.float64]  # (L,)
    scores: NDArray[np.float64]  # out of fold, (N, L)
    temperatures: NDArray[np.float64]  # (L,)
    losses: NDArray[np.float64]  # after the temperature, (N, L); 0 where the label is not known
    found: list[logistic.Solution]  # of each fold

    def take(self, labels: NDArray[np.int64]) -> _Attempt:
        found = [one.take(labels) for one in self.found]
        return _Attempt(self.powers[labels], self.whitenings[labels], self.scores[:, labels],
                        self.temperatures[labels], self.losses[:, labels], found)  # fmt: skip

    def replace(self, labels: NDArray[np.int64], other: _Attempt) -> None:
        """Put that of some labels in place, in the arrays themselves."""
        for mine, theirs in zip(self[:2] + self[3:4], other[:2] + other[3:4], strict=True):
            mine[labels] = theirs
        self.scores[:, labels], self.losses[:, labels] = other.scores, other.losses
        for one, new in zip(self.found, other.found, strict=True):
            one.weights[:, labels], one.bias[labels], one.converged[labels] = new


class _Trial:
    """Attempts on the same images, and which of two is better."""

    def __init__(
        self,
        z: NDArray[np.float32],
        labels: NDArray[np.int8],
        folds: NDArray[np.int64],
        weights: NDArray[np.float32],
        pool: ThreadPoolExecutor,
    ) -> None:
        self.weights = weights
        self._z, self._labels, self._pool = z, labels, pool
        self._truth = (labels == TRUE).astype(np.float32)
        self._splits = [(folds != fold, folds == fold) for fold in np.unique(folds)]

    def attempt(
        self,
        power: int,
        whitening: float,
        labels: NDArray[np.int64],
        starts: Sequence[logistic.Solution] | None,
    ) -> _Attempt:
        x = self._z * whitening_factors(self._z, whitening)
        c = np.full(len(labels), 10.0**power)

        def solve(split: tuple[NDArray[np.bool_], NDArray[np.bool_]], number: int) -> logistic.Solution:
            some = np.ix_(split[0], labels)
            # A label that is known of no image of these has no weight to divide by.
            weights = np.where(self.weights[some].any(0), self.weights[some], np.float32(1e-6))
            return logistic.solve(x[split[0]], self._truth[some], c=c, weights=weights,
                                  start=None if starts is None else starts[number])  # fmt: skip

        found = list(self._pool.map(solve, self._splits, range(len(self._splits))))
        scores = np.zeros((len(x), len(labels)))
        for (_, outside), one in zip(self._splits, found, strict=True):
            scores[outside] = one.scores(x[outside])
        temperatures, losses = np.ones(len(labels)), np.zeros(scores.shape)
        for place, label in enumerate(labels):
            own, known = self._labels[:, label], self._labels[:, label] >= 0
            temperatures[place] = temperature_of_label(scores[:, place], own, self.weights[:, label])
            losses[known, place] = smoothed_losses(
                of_two(scores[known, place]) / temperatures[place], own[known].astype(np.int64)
            )
        shape = len(labels)
        return _Attempt(np.full(shape, power), np.full(shape, whitening), scores, temperatures, losses, found)

    def again(self, power: int, labels: NDArray[np.int64], best: _Attempt) -> _Attempt:
        """The same labels with a weaker penalty, each with the whitening that it has."""
        result = best.take(labels)
        for whitening in np.unique(result.whitenings):
            own = np.flatnonzero(result.whitenings == whitening)
            starts = [one.take(own) for one in result.found]
            result.replace(own, self.attempt(power, float(whitening), labels[own], starts))
        return result

    def pays(self, one: _Attempt, other: _Attempt) -> NDArray[np.int64]:
        """The places of the labels for which the other attempt is better by more than noise."""
        won = []
        for place in range(one.losses.shape[1]):
            own = one.losses[:, place] != 0  # where it is known
            if own.any() and pays(one.losses[own, place], other.losses[own, place], np.ones(own.sum(), np.float32)):
                won.append(place)
        return np.array(won, np.int64)


def _some(labels: NDArray[np.int8]) -> NDArray[np.int64]:
    """Rows (M,) to choose on: all, or about `SELECTION_LIMIT` of them with enough of each label."""
    if len(labels) <= SELECTION_LIMIT:
        return np.arange(len(labels))
    order = np.random.default_rng(0).permutation(len(labels))
    taken = np.zeros(len(labels), bool)
    taken[order[:SELECTION_LIMIT]] = True
    for column in labels.T:
        taken[order[column[order] == TRUE][:MIN_OF_A_LABEL]] = True
    return np.flatnonzero(taken)


def _mean(losses: NDArray[np.float64], weights: NDArray[np.float32]) -> float:
    return float(np.average(losses, weights=weights)) if weights.any() else 0.0
