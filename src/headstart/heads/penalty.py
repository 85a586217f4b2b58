"""The penalty of the head `linear`: its strength and its geometry, chosen so that rounding does not matter.

What is compared is the out-of-fold log loss after the temperature, from strong to weak penalties, each fit carried to
its minimum. The curve is nearly level on its weak side, where the smallest value is an accident; so a weaker penalty is
taken only if it pays off: by more than one standard error of the paired differences of the images, and by more than a
hundredth of the loss. The weak penalties, whose fits are the slow ones, are then hardly ever tried.

Before, by the same rule, half whitened features are tried. On images unlike those that the backbone has seen, the
classes differ in directions in which embeddings vary little, and an isotropic penalty shrinks these most. With 20
digits a class whitening takes the log loss from 0.224 to 0.191 (nested cross-validation); with ants and bees it raises
it, and is not taken.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.core.thinning import of_each
from headstart.heads import softmax
from headstart.targets.classes.temperature import fit_temperature, smoothed_losses

if TYPE_CHECKING:
    from numpy.typing import NDArray

    _Split = tuple[NDArray[np.bool_], NDArray[np.bool_]]  # the rows that a fold learns from, and those outside of it

# Powers of ten of C, the inverse strength of the penalty, as in scikit-learn.
POWERS = tuple(range(-2, 4))
WHITENING = 0.5
ATTEMPTS = len(POWERS) + 1
_FLOOR = 0.01  # of the mean variance of a feature: directions with less than this are not raised any further
ERRORS = 1.0  # standard errors of the gain that the gain must exceed
LEAST_GAIN = 0.01  # and of the loss
# More images than this no longer change the chosen C, nor do more of each class than the other number; they would only
# cost time. Fewer of a class do: of 100 made classes, 10 images each chose C = 1000, 20 chose 10, 40 chose 1, 80 chose
# 0.01, and heads fitted with these on all images were right about 74.6, 83.7, 87.9 and 88.5 % of others.
SELECTION_LIMIT, OF_A_CLASS = 10_000, 80
# Nor do more folds than hold as many images: the others are fitted with the chosen penalty alone.
DECIDING = 2_000


class Chosen(NamedTuple):
    """The chosen C, and what the heads that have it gave out of fold.

    Attributes:
        c: scikit-learn's C.
        loss: Cross-validated log loss after the temperature; see `smoothed_losses`.
        temperature: What the scores must be divided by.
        rows: Which rows were predicted, (M,), rising; all, or those of `some_of_each`.
        scores: Before the temperature, float64 (M, C).
        start: About the solution on all rows.
        whitening: See `whitening_factors`.
    """

    c: float
    loss: float
    temperature: float
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    start: softmax.Solution
    whitening: float


class _Tried(NamedTuple):
    power: int
    whitening: float
    losses: NDArray[np.float64]  # of each row of the folds that decide, after the temperature
    found: list[softmax.Solution]  # of each of these folds


@dataclass
class _Search:
    """Fits of the same rows with several penalties.

    Attributes:
        z: Features along their principal axes, float32 (M, R).
        labels: Class index of each, int64 (M,).
        weights: Weight of each, float32 (M,).
        deciding: The folds whose losses are compared.
        classes: Number C of classes.
        pool: Threads, of which each fold takes one.
        advance: Called with the number of steps done.
        done: Steps so far.
    """

    z: NDArray[np.float32]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]
    deciding: Sequence[_Split]
    classes: int
    pool: ThreadPoolExecutor
    advance: Callable[[int], None]
    done: int = 0

    def solved(
        self, power: int, whitening: float, splits: Sequence[_Split], starts: Sequence[softmax.Solution | None]
    ) -> list[softmax.Solution]:
        """The solution on the rows that each of some folds learns from."""
        x = self.z * whitening_factors(self.z, whitening)

        def solve(split: _Split, start: softmax.Solution | None) -> softmax.Solution:
            learn, _ = split
            return softmax.solve(
                x[learn], self.labels[learn], classes=self.classes, c=10.0**power, sample_weight=self.weights[learn],
                start=start, decrement=softmax.DECREMENT,
            )  # fmt: skip

        found = []
        for one in self.pool.map(solve, splits, starts):
            found.append(one)
            self.done += 1
            self.advance(1)
        return found

    def attempt(self, power: int, whitening: float, before: _Tried | None = None) -> _Tried:
        """The losses with one penalty; its fits start from the solutions of another one."""
        starts = [None] * len(self.deciding) if before is None else before.found
        found = self.solved(power, whitening, self.deciding, starts)
        decide = self.decide
        scores = _scores(self.z, whitening, self.deciding, found, self.classes)[decide]
        temperature = fit_temperature(scores, self.labels[decide], self.weights[decide])
        losses = smoothed_losses(scores / temperature, self.labels[decide])
        return _Tried(power, whitening, losses, found)

    @property
    def decide(self) -> NDArray[np.bool_]:
        """The rows outside of the deciding folds, bool (M,)."""
        rows: NDArray[np.bool_] = np.any([outside for _, outside in self.deciding], axis=0)
        return rows

    def best(self) -> tuple[_Tried, _Tried | None]:
        """The penalty that pays off, and the one before it, which is stronger; None if it is the strongest."""
        weights = self.weights[self.decide]
        best, whitened = (self.attempt(POWERS[0], whitening) for whitening in (0.0, WHITENING))
        if pays(best.losses, whitened.losses, weights):
            best = whitened
        stronger: _Tried | None = None
        for power in POWERS[1:]:
            weaker = self.attempt(power, best.whitening, best)
            if not pays(best.losses, weaker.losses, weights):
                break
            stronger, best = best, weaker
        return best, stronger


def choose(
    z: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    classes: int,
    weights: NDArray[np.float32],
    pool: ThreadPoolExecutor,
    advance: Callable[[int], None],
) -> Chosen:
    """Choose C; of several that cannot be separated, the strongest penalty.

    Args:
        z: Features along their principal axes, float32 (N, R).
        labels: Class index of each, int64 (N,).
        folds: Fold of each, int64 (N,).
        classes: Number C of classes.
        weights: Weight of each, float32 (N,).
        pool: Threads, of which each fold takes one.
        advance: Called with the number of steps done, `ATTEMPTS` for each fold in all.
    """
    rows = some_of_each(labels, classes)
    if len(rows) < len(z):
        z, labels, folds, weights = z[rows], labels[rows], folds[rows], weights[rows]
    splits = [(folds != fold, folds == fold) for fold in np.unique(folds)]
    deciding = splits[: _enough([int(outside.sum()) for _, outside in splits])]
    search = _Search(z, labels, weights, deciding, classes, pool, advance)
    best, stronger = search.best()
    others = splits[len(deciding) :]
    # From a solution with a stronger penalty the way is a third of that from one of other rows with the same.
    start = stronger and _mean(stronger.found)
    found = best.found + search.solved(best.power, best.whitening, others, [start] * len(others))
    advance(ATTEMPTS * len(splits) - search.done)
    scores = _scores(z, best.whitening, splits, found, classes)
    temperature = fit_temperature(scores, labels, weights)
    loss = float(np.average(smoothed_losses(scores / temperature, labels), weights=weights))
    return Chosen(10.0**best.power, loss, temperature, rows, scores, _mean(found), best.whitening)


def _enough(sizes: Sequence[int]) -> int:
    """How many of the folds hold `DECIDING` images; all where they do not hold so many together."""
    held = 0
    for number, size in enumerate(sizes, 1):
        held += size
        if held >= DECIDING:
            return number
    return len(sizes)


def _scores(
    z: NDArray[np.float32],
    whitening: float,
    splits: Sequence[_Split],
    found: Sequence[softmax.Solution],
    classes: int,
) -> NDArray[np.float64]:
    """Scores (N, C) of the rows outside of each fit; those of no fold are 0."""
    x = z * whitening_factors(z, whitening)
    scores = np.zeros((len(z), classes))
    for (_, outside), one in zip(splits, found, strict=True):
        scores[outside] = x[outside] @ one.weights + one.bias
    return scores


def _mean(found: Sequence[softmax.Solution]) -> softmax.Solution:
    """Between the solutions of the folds, where that of all rows is near."""
    return softmax.Solution(
        np.mean([one.weights for one in found], axis=0), np.mean([one.bias for one in found], axis=0), True
    )


def pays(losses: NDArray[np.float64], weaker: NDArray[np.float64], weights: NDArray[np.float32]) -> bool:
    """Whether another penalty, such as a weaker one, lowers the log loss significantly, and by enough to matter.

    Args:
        losses: Of each image with the penalty so far, (N,).
        weaker: With the other one, (N,).
        weights: Weight of each image, (N,).
    """
    gains = losses - weaker
    gain, total = float(np.average(gains, weights=weights)), float(weights.sum(dtype=np.float64))
    error = float(np.sqrt(np.square(weights * (gains - gain)).sum(dtype=np.float64))) / total
    return gain > ERRORS * error and gain > LEAST_GAIN * float(np.average(losses, weights=weights))


def whitening_factors(z: NDArray[np.float32], whitening: float) -> NDArray[np.float32]:
    """What the features along each axis (R,) are multiplied by; their variance in all stays what it is.

    Args:
        z: Features along their principal axes, float32 (N, R), centred.
        whitening: 0 leaves them as they are, 1 gives all axes the same variance.
    """
    variances = np.einsum("nr,nr->r", z, z, dtype=np.float64) / len(z)
    return whitening_factors_of(variances, whitening)


def whitening_factors_of(variances: NDArray[np.float64], whitening: float) -> NDArray[np.float32]:
    """The same from the variance along each axis, (R,)."""
    factors = (variances + _FLOOR) ** (-whitening / 2)
    factors *= np.sqrt(variances.sum() / (variances * factors**2).sum())
    result: NDArray[np.float32] = factors.astype(np.float32)
    return result


def some_of_each(labels: NDArray[np.int64], classes: int) -> NDArray[np.int64]:
    """Rows (M,) to choose on: all, or some in which every class has its share.

    They are `SELECTION_LIMIT`, or `OF_A_CLASS` of each class where that is more.

    Args:
        labels: Class index of each row, (N,).
        classes: Number C of classes.
    """
    some = np.sort(of_each(labels, max(SELECTION_LIMIT, OF_A_CLASS * classes)))
    return some if len(np.unique(labels[some])) == classes else np.arange(len(labels))
