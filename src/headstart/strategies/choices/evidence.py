"""The evidence for choices: a cross-validated probe of each candidate on the same train images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.runtime import Runtime
from headstart.core.tables import resolve
from headstart.evaluation.paired_tests import LEVEL, mcnemar, swap_test
from headstart.features.dataset import Dataset
from headstart.heads import linear
from headstart.runs.chosen import Chosen, Scored
from headstart.settings.recipe import Recipe
from headstart.strategies.choices.basis import Basis, named
from headstart.targets import TARGETS, judge_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

MEASURES = 2  # accuracy and log loss: each is tested


@dataclass(frozen=True)
class Outcome:
    """The results of a cross-validated probe with one candidate.

    Attributes:
        name: Of the candidate.
        right: Whether each image was predicted right, bool (M,).
        losses: Negative log likelihood of each, float64 (M,), in nats.
        groups: Group number of each, (M,).
        parameters: Of a backbone; else None.
        licence: Of its weights; likewise.
        ms: Time of an image on one core, in milliseconds; likewise, and where it was measured.
    """

    name: str
    right: NDArray[np.bool_]
    losses: NDArray[np.float64]
    groups: NDArray[np.int64]
    parameters: int | None = None
    licence: str | None = None
    ms: float | None = None

    @property
    def accuracy(self) -> float:
        """Share predicted right."""
        return float(self.right.mean())

    @property
    def log_loss(self) -> float:
        """Mean of the losses."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class Choice:
    """What was chosen, and why.

    Attributes:
        chosen: Name of the candidate.
        outcomes: All candidates, in the order of preference among equals.
        p_values: For each but the first, how often chance alone would make it look that much better than the first;
            corrected for the number of candidates and measures.
        skipped: Candidates that could not be tried, with reasons.
        reasons: Sentences that a person should read.
    """

    chosen: str
    outcomes: tuple[Outcome, ...]
    p_values: tuple[float, ...]
    skipped: tuple[tuple[str, str], ...]
    reasons: tuple[str, ...]

    def told(self) -> Chosen:
        """The choice without the images that it rests on."""
        candidates = tuple(
            Scored(
                name=one.name, accuracy=one.accuracy, log_loss=one.log_loss, p_value=p, parameters=one.parameters,
                licence=one.licence, ms=None if one.ms is None else round(one.ms, 2),
            )
            for one, p in zip(self.outcomes, (None, *self.p_values), strict=False)
        )  # fmt: skip
        return Chosen(self.chosen, candidates, self.skipped, self.reasons)


def try_out(name: str, basis: Basis, data: Dataset, recipe: Recipe, runtime: Runtime) -> Outcome:
    """Cross-validate a probe on the embeddings of a candidate; the folds are the same for all."""
    cross_validate: Callable[..., linear.OutOfFold] = resolve(TARGETS[basis.table.task].cross_validate)
    with named(runtime, name).progress.stage("Fitting", linear.steps(basis.folds)) as advance:
        found = cross_validate(
            data.matrix, basis.labels, basis.folds, classes=len(basis.classes),
            class_weight=recipe.class_weight, workers=runtime.workers, advance=advance,
        )  # fmt: skip
    return Outcome(
        name,
        *judge_of(basis.table.task)(found.probabilities, basis.labels[found.rows]),
        np.array(basis.groups, np.int64)[found.rows],
    )


def choose(outcomes: Sequence[Outcome]) -> tuple[int, tuple[float, ...]]:
    """The place of the candidate to take, and the p-value of each other against the first.

    The first stays, unless others are significantly better; then the first of those that none of them is better than.
    Better means an accuracy no lower, a log loss no higher, and a significant difference in one of the two at the 5 %
    level, corrected (Bonferroni) for the number of candidates and measures. So the first is replaced without need in
    about 5 % of cases.

    Args:
        outcomes: On the same images, in the order of preference among equals.
    """
    tests = MEASURES * max(len(outcomes) - 1, 1)
    p_values = tuple(min(1.0, better(other, outcomes[0]) * tests) for other in outcomes[1:])
    winners = [place for place, p in enumerate(p_values, 1) if p < LEVEL]
    best = (
        place
        for place in winners
        if all(better(outcomes[other], outcomes[place]) * tests >= LEVEL for other in winners)
    )
    return next(best, 0), p_values


def better(one: Outcome, other: Outcome) -> float:
    """The smaller p-value, uncorrected, of two tests that `one` is better than `other`; 1 where it is not in both.

    Accuracy: McNemar's exact test, or exact swaps of whole groups. Log loss: a paired t-test over groups.
    """
    gains = one.right.astype(np.int64) - other.right
    saved = other.losses - one.losses
    if gains.sum() < 0 or saved.mean() < 0:
        return 1.0
    clusters = np.unique(one.groups, return_inverse=True)[1]
    if clusters.max() + 1 == len(gains):
        by_accuracy = mcnemar(int((gains > 0).sum()), int((gains < 0).sum()))
    else:
        by_accuracy = swap_test(np.bincount(clusters, gains).astype(np.int64))
    return min(by_accuracy, paired_test(saved, clusters))


def paired_test(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """P-value, two-sided, of the t-test that a mean is zero; with clusters of one it is SciPy's ``ttest_1samp``.

    Args:
        values: One for each image, (N,).
        clusters: Cluster of each, int64 (N,), in 0..K-1; their sums are what varies (Cochran 1977, ratio estimate).
    """
    from scipy.special import stdtr

    mean, count = float(values.mean()), int(clusters.max()) + 1
    error = standard_error(values, clusters)
    if not error:
        return float(mean == 0)
    return 2 * float(stdtr(count - 1, -abs(mean) / error)) if math.isfinite(error) else 1.0


def standard_error(values: NDArray[np.float64], clusters: NDArray[np.int64]) -> float:
    """Standard error of a mean over images of which whole clusters vary; infinite for a single cluster."""
    count = int(clusters.max()) + 1
    if count < 2:
        return math.inf
    deviations = np.bincount(clusters, values - values.mean())
    return math.sqrt(count / (count - 1) * float((deviations**2).sum())) / len(values)


def numbers(outcome: Outcome, p_value: float | None = None) -> str:
    """A candidate for a sentence, with the p-value that it is better than the first, where it looks so."""
    words = f"{100 * outcome.accuracy:.1f} %, log loss {outcome.log_loss:.3f}"
    return words if p_value is None or p_value == 1 else f"{words}, {p_words(p_value)}"


def p_words(p_value: float) -> str:
    """A p-value for a sentence."""
    if p_value < 0.001:
        return "p < 0.001"
    return f"p = {p_value:.2f}" if p_value >= 0.095 else f"p = {p_value:.3f}"
