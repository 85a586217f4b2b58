"""The head `linear` of several labels an image: one logistic regression for each, on the same embeddings.

C and the whitening of each label are chosen by the rule of `headstart.heads.penalty`, and each is calibrated by a
temperature of its own, on out-of-fold predictions. On the same ones its threshold is chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.text import listed
from headstart.core.threads import one_blas_thread
from headstart.heads import logistic, softmax
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead, along_axes
from headstart.heads.penalty import POWERS, SELECTION_LIMIT, WHITENING, pays, whitening_factors
from headstart.settings.recipe import ClassWeight
from headstart.settings.thresholds import threshold_rule
from headstart.targets.classes.temperature import fit_temperature, smoothed_losses
from headstart.targets.labels import TRUE
from headstart.targets.labels.sigmoid import Sigmoid, to_probabilities
from headstart.targets.labels.thresholds import choose as choose_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.runtime import Runtime
    from headstart.settings.recipe import Recipe
    from headstart.targets import Targets

MIN_OF_A_LABEL = 50  # in a sample of the images, where as many have it


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


def fit_recipe(
    features: NDArray[np.float32],
    targets: Targets,
    folds: NDArray[np.int64],
    recipe: Recipe,
    runtime: Runtime,
) -> Calibrated[LinearHead]:
    """Fit a head as a recipe says, and show how far it is.

    Args:
        features: Embeddings, float32 (N, D).
        targets: Labels of each image, (N,).
        folds: Fold of each, int64 (N,); the folds keep groups together.
        recipe: The weight of rare labels, and the rule for thresholds.
        runtime: Threads and progress; they change the time and nothing else.

    Raises:
        SourceError: The features are not finite, or all the same.
    """
    check(features, targets.labels, len(targets.names))
    with runtime.progress.stage("Fitting", len(POWERS) + 2) as advance:
        head, found = fit(
            features, targets.labels, folds, class_weight=recipe.class_weight, workers=runtime.workers, advance=advance
        )
    rule = threshold_rule(recipe.threshold)
    thresholds, kept = choose_thresholds(rule, found.probabilities, targets.labels[found.rows])
    if missed := [name for name, one in zip(targets.names, kept, strict=True) if not one]:
        note = f"No threshold gives {listed(missed)} a precision of {rule.value:g}: the one with the highest was taken."
        head = replace(head, notes=(*head.notes, note))
    return Calibrated(head, Sigmoid(1.0, thresholds))


def fit(
    features: NDArray[np.float32],
    labels: NDArray[np.int8],
    folds: NDArray[np.int64],
    *,
    class_weight: ClassWeight = "none",
    workers: int = 1,
    advance: Callable[[int], None] = lambda steps: None,
) -> tuple[LinearHead, OutOfFold]:
    """Fit a head whose scores are calibrated; arguments are those of `fit_recipe`, with labels (N, C)."""
    with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
        z, axes, centre, scale = along_axes(features)
        weights = _weights(labels, class_weight)
        truth = (labels == TRUE).astype(np.float32)
        found = choose(z, labels, folds, weights=weights, pool=pool, advance=advance)
        v, converged = np.zeros((z.shape[1] + 1, labels.shape[1])), np.ones(labels.shape[1], bool)
        for whitening in np.unique(found.whitenings):
            own = np.flatnonzero(found.whitenings == whitening)
            factors = whitening_factors(z, float(whitening))
            one = logistic.solve(
                z * factors, truth[:, own], c=np.power(10.0, found.powers[own]), weights=weights[:, own]
            )
            v[:-1, own], v[-1, own] = one.weights * factors[:, None], one.bias
            converged[own] = one.converged
    advance(1)
    v /= found.temperatures
    into = axes @ v[:-1] / scale
    notes = () if converged.all() else (f"The head's fit was stopped after {softmax.MAX_ITERATIONS} iterations.",)
    return LinearHead(
        into.astype(np.float32), (v[-1] - centre @ into).astype(np.float32), notes=notes,
        log_loss=float(found.losses.mean()),
    ), found  # fmt: skip


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
            known = self._labels[:, label] >= 0
            both = np.stack([np.zeros(known.sum()), scores[known, place]], 1)
            truth = self._labels[known, label].astype(np.int64)
            temperatures[place] = fit_temperature(both, truth, self.weights[known, label])
            losses[known, place] = smoothed_losses(both / temperatures[place], truth)
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


def check(features: NDArray[np.float32], labels: NDArray[np.int8], count: int) -> None:
    """Refuse embeddings (N, D) that no head can be fitted on.

    Raises:
        SourceError: They are not finite, or all the same.
    """
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(1)))
        raise SourceError(f"The features of row {row} hold values that are not finite.")
    if np.all(features == features[0]):
        raise SourceError(
            "All images have the same embedding: nothing distinguishes the labels.",
            "Look at the images: are they all the same picture?",
        )


def _weights(labels: NDArray[np.int8], class_weight: ClassWeight) -> NDArray[np.float32]:
    """The weight of each image for each label, (N, C): 0 where it is not known.

    With ``balanced``, images with a label weigh as much in all as those without, and 1 on average.
    """
    known = (labels >= 0).astype(np.float32)
    if class_weight == "none":
        return known
    have = (labels == TRUE).sum(0)
    of = known.sum(0)
    lack = of - have
    each = np.where(labels == TRUE, of / np.maximum(2 * have, 1), of / np.maximum(2 * lack, 1))
    result: NDArray[np.float32] = (known * each).astype(np.float32)
    return result


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
