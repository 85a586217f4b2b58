"""The head `linear`: multinomial logistic regression with an L2 penalty, calibrated by a temperature.

The strength of the penalty is the one with the smallest cross-validated log loss (not accuracy: a handful of images
decides that), and the temperature (Guo et al. 2017) is fitted on the same out-of-fold predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from headstart.core.errors import SourceError
from headstart.core.recipe import ClassWeight
from headstart.heads import softmax
from headstart.heads.common import add_probabilities, to_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

# Powers of ten of the strength, which is scikit-learn's C. The best one is near the first for most sets, so that the
# search, which assumes one valley, ends after five.
FIRST_POWER = -1.0
MAX_POWER_STEPS = 4
MAX_STEPS = 2 + MAX_POWER_STEPS + 2 + 1
# More images than this change the chosen strength no more; they would only cost time.
SELECTION_LIMIT = 10_000


class OutOfFold(NamedTuple):
    """Predictions on rows, each by a head that was fitted on the other folds.

    Attributes:
        rows: Which rows, (M,), rising; all but where there are more than `SELECTION_LIMIT`.
        probabilities: Calibrated, float64 (M, C).
        strength: The strength that all these heads have; see `LinearHead`.
        temperature: What the scores were divided by.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    strength: float
    temperature: float


@dataclass(frozen=True)
class LinearHead:
    """A fitted head.

    Attributes:
        weights: float32 (D, C).
        bias: float32 (C,).
        temperature: Scores are divided by it before the softmax.
        strength: The chosen C of scikit-learn's LogisticRegression, for features of variance 1; None where `fit` did
            not find the weights.
        log_loss: Its cross-validated log loss, before the temperature; see `smoothed_log_loss`. None likewise.
        notes: Sentences that a person should read.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float
    strength: float | None = None
    log_loss: float | None = None
    notes: tuple[str, ...] = ()

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class scores (N, C) of embeddings (N, D), before temperature and softmax."""
        result: NDArray[np.float32] = features @ self.weights + self.bias
        return result

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities (N, C); each row sums to 1."""
        return to_probabilities(self.scores(features) / self.temperature)

    def add_nodes(self, graph: Graph, embedding: str) -> str:
        """Add the head to a graph; the name of the probabilities, float32 (N, C)."""
        weights = graph.constant("head.weights", self.weights)
        scores = graph.node("Gemm", [embedding, weights, graph.constant("head.bias", self.bias)], "head.scores")
        return add_probabilities(graph, scores, self.temperature)


def fit(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    classes: int,
    class_weight: ClassWeight = "none",
    workers: int = 1,
    advance: Callable[[int], None] = lambda steps: None,
) -> LinearHead:
    """Fit a head.

    Args:
        features: Embeddings, float32 (N, D).
        labels: Class index of each, int64 (N,), in 0..classes-1; every class occurs.
        folds: Fold of each, int64 (N,); the folds keep groups together.
        classes: Number C of classes, at least 2.
        class_weight: ``balanced`` gives every class the same total weight.
        workers: Threads; they change the time and nothing else.
        advance: Called with the number of steps done, `MAX_STEPS` in all.

    Raises:
        SourceError: The features are not finite, or all the same.
    """
    _check(features, labels, classes)
    sample_weight = _weights(labels, class_weight)
    # One thread a fold, and none inside the matrix products: those wait for each other, and when another program runs
    # they wait long (on two cores 3 s became 14 to 68 s).
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        z, axes, centre, scale = _along_axes(features)
        chosen = _choose(z, labels, folds, classes, sample_weight, pool, advance)
        strength, loss, temperature = chosen.strength, chosen.loss, chosen.temperature()
        found = softmax.solve(z, labels, classes=classes, strength=strength, sample_weight=sample_weight)
    advance(1)
    return _head(found, axes, centre, scale, temperature, strength, loss)


def fit_as_chosen(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    classes: int,
    strength: float,
    temperature: float,
    class_weight: ClassWeight = "none",
) -> LinearHead:
    """Fit a head whose strength and temperature are known, from `cross_validate` say; otherwise as `fit`."""
    _check(features, labels, classes)
    with threadpool_limits(1, user_api="blas"):
        z, axes, centre, scale = _along_axes(features)
        weights = _weights(labels, class_weight)
        found = softmax.solve(z, labels, classes=classes, strength=strength, sample_weight=weights)
    return _head(found, axes, centre, scale, temperature, strength)


def cross_validate(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    classes: int,
    class_weight: ClassWeight = "none",
    workers: int = 1,
    advance: Callable[[int], None] = lambda steps: None,
) -> OutOfFold:
    """Predict each row by a head that was fitted on the other folds; arguments and errors are those of `fit`.

    The strength and the temperature, two numbers, are chosen on the same predictions. That flatters them a little, and
    embeddings that are compared with each other by them alike.
    """
    _check(features, labels, classes)
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(workers) as pool:
        z = _along_axes(features)[0]
        chosen = _choose(z, labels, folds, classes, _weights(labels, class_weight), pool, advance)
    advance(1)
    temperature = chosen.temperature()
    return OutOfFold(chosen.rows, to_probabilities(chosen.scores / temperature), chosen.strength, temperature)


def smoothed_log_loss(
    scores: NDArray[Any], labels: NDArray[np.int64], weights: NDArray[np.float32] | None = None
) -> float:
    """Mean negative log likelihood of scores (N, C), in nats, where one imagined image more is of any class.

    Labels count as certain to (N + 1) / (N + 2) only (Platt 1999). Without that, a few images that are all told right
    would ask for boundless scores.

    Args:
        scores: (N, C).
        labels: Class index of each row, (N,).
        weights: Weight of each row, (N,); None for 1.
    """
    scores = scores.astype(np.float64)
    top = scores.max(1)
    normaliser = top + np.log(np.exp(scores - top[:, None]).sum(1))
    count, classes = scores.shape
    doubt = 1 / (count + 2) * classes / (classes - 1)  # of the label, spread evenly over all classes
    expected = (1 - doubt) * scores[np.arange(count), labels] + doubt * scores.mean(1)
    return float(np.average(normaliser - expected, weights=weights))


def fit_temperature(
    scores: NDArray[Any], labels: NDArray[np.int64], weights: NDArray[np.float32] | None = None
) -> float:
    """The temperature, in 0.05..20, by which scores must be divided for the smallest log loss (Guo et al. 2017).

    The arguments are those of `smoothed_log_loss`.
    """
    from scipy.optimize import minimize_scalar

    limit = float(np.log(20))
    result = minimize_scalar(
        lambda power: smoothed_log_loss(scores / np.exp(power), labels, weights),
        bounds=(-limit, limit),
        method="bounded",
    )
    return float(np.exp(result.x))


def _check(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> None:
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(1)))
        raise SourceError(f"The features of row {row} hold values that are not finite.")
    if len(np.unique(labels)) != classes:
        raise SourceError(f"Of {classes} classes, {len(np.unique(labels))} have images to learn from.")
    if np.all(features == features[0]):
        raise SourceError(
            "All images have the same embedding: there is nothing to tell the classes apart by.",
            "Look at the images: are they all the same picture?",
        )


class _Chosen(NamedTuple):
    """The strength with the smallest log loss, and the out-of-fold scores (M, C) that it gave on some rows."""

    strength: float
    loss: float
    rows: NDArray[np.int64]
    scores: NDArray[np.float64]
    labels: NDArray[np.int64]
    weights: NDArray[np.float32]

    def temperature(self) -> float:
        return fit_temperature(self.scores, self.labels, self.weights)


def _along_axes(
    features: NDArray[np.float32],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float64], float]:
    """Features (N, R) in the basis of their principal axes (D, R), after a shift (D,) and a scale."""
    # One shift for all and one scale for all: unlike a scale for each feature it keeps the geometry that the
    # backbone learnt, and it commutes with the rotation below.
    centre = features.mean(0, dtype=np.float64)
    scale = float(np.sqrt(features.var(0, dtype=np.float64).mean()))
    centred = ((features - centre.astype(np.float32)) / np.float32(scale)).astype(np.float32)
    axes = softmax.principal_axes(centred)
    return centred @ axes, axes, centre, scale


def _head(
    found: softmax.Solution,
    axes: NDArray[np.float32],
    centre: NDArray[np.float64],
    scale: float,
    temperature: float,
    strength: float,
    loss: float | None = None,
) -> LinearHead:
    """The head of a solution along the principal axes, for embeddings as they come."""
    weights = axes @ found.weights / scale
    return LinearHead(
        weights.astype(np.float32),
        (found.bias - centre @ weights).astype(np.float32),
        temperature,
        strength,
        loss,
        () if found.converged else (f"The head's fit was stopped after {softmax.MAX_ITERATIONS} iterations.",),
    )


def _weights(labels: NDArray[np.int64], class_weight: ClassWeight) -> NDArray[np.float32]:
    return _balanced(labels) if class_weight == "balanced" else np.ones(len(labels), np.float32)


def _balanced(labels: NDArray[np.int64]) -> NDArray[np.float32]:
    """Weights (N,) that give every class the same total, and 1 on average (scikit-learn's ``balanced``)."""
    counts = np.bincount(labels)
    return (len(labels) / (len(counts) * counts[labels])).astype(np.float32)


def _choose(
    z: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    classes: int,
    weights: NDArray[np.float32],
    pool: ThreadPoolExecutor,
    advance: Callable[[int], None],
) -> _Chosen:
    """The strength with the smallest log loss.

    From the first strength the search goes downhill in steps of ten, then looks half a step to each side.
    """
    chosen = np.arange(len(z))
    if len(z) > SELECTION_LIMIT:
        by_class = np.argsort(labels, kind="stable")
        some = np.sort(by_class[np.linspace(0, len(z) - 1, SELECTION_LIMIT).astype(int)])
        if len(np.unique(labels[some])) == classes:
            chosen, z, labels, folds, weights = some, z[some], labels[some], folds[some], weights[some]
    splits = [(folds != fold, folds == fold) for fold in np.unique(folds)]
    inside = [(z[rows], labels[rows], weights[rows]) for rows, _ in splits]
    starts: list[softmax.Solution | None] = [None] * len(splits)
    tried: dict[float, tuple[float, NDArray[np.float64]]] = {}

    def solve(fold: int, power: float) -> softmax.Solution:
        rows, known, weight = inside[fold]
        return softmax.solve(rows, known, classes=classes, strength=10**power, sample_weight=weight, start=starts[fold])

    def attempt(power: float) -> float:
        if power not in tried:
            scores = np.empty((len(z), classes))
            for fold, found in enumerate(pool.map(lambda fold: solve(fold, power), range(len(splits)))):
                starts[fold], outside = found, splits[fold][1]
                scores[outside] = z[outside] @ found.weights + found.bias
            tried[power] = smoothed_log_loss(scores, labels, weights), scores
            advance(1)
        return tried[power][0]

    best = FIRST_POWER
    for step in (1.0, -1.0):
        while abs(best + step - FIRST_POWER) <= MAX_POWER_STEPS and attempt(best + step) < attempt(best):
            best += step
        if best != FIRST_POWER:
            break
    best = min((best, best - 0.5, best + 0.5), key=attempt)
    advance(MAX_STEPS - 1 - len(tried))
    loss, scores = tried[best]
    return _Chosen(10**best, loss, chosen, scores, labels, weights)
