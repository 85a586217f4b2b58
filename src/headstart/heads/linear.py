"""The head `linear`: multinomial logistic regression with an L2 penalty, calibrated by a temperature.

The strength of the penalty is the one with the smallest cross-validated log loss (not accuracy: a handful of images
decides that), and the temperature (Guo et al. 2017) is fitted on the same out-of-fold predictions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.recipe import ClassWeight

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph

# scikit-learn's C: how much the images weigh against the penalty. Weak penalties cost most of the time, so the
# search goes from strong to weak, and stops after two steps without a gain.
STRENGTHS = tuple(10.0**power for power in range(-4, 4))
REFINEMENT = (10**-0.5, 10**0.5)
MAX_STEPS = len(STRENGTHS) + len(REFINEMENT) + 1
# More images than this change the chosen strength no more; they would only cost time.
SELECTION_LIMIT = 10_000
MAX_ITERATIONS = 1000


@dataclass(frozen=True)
class LinearHead:
    """A fitted head.

    Attributes:
        weights: float32 (D, C).
        bias: float32 (C,).
        temperature: Scores are divided by it before the softmax.
        strength: The chosen C of scikit-learn's LogisticRegression, for features of variance 1.
        log_loss: Its cross-validated log loss, before the temperature.
        notes: Sentences that a person should read.
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float
    strength: float
    log_loss: float
    notes: tuple[str, ...] = ()

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Class scores (N, C) of embeddings (N, D), before temperature and softmax."""
        result: NDArray[np.float32] = features @ self.weights + self.bias
        return result

    def probabilities(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Calibrated probabilities (N, C); each row sums to 1."""
        return softmax(self.scores(features) / self.temperature)

    def add_nodes(self, graph: Graph, embedding: str) -> str:
        """Add the head to a graph; the name of the probabilities, float32 (N, C)."""
        weights = graph.constant("head.weights", self.weights)
        scores = graph.node("Gemm", [embedding, weights, graph.constant("head.bias", self.bias)], "head.scores")
        temperature = graph.constant("head.temperature", np.float32(self.temperature))
        return graph.node(
            "Softmax", [graph.node("Div", [scores, temperature], "head.calibrated")], "probabilities", axis=1
        )


def fit(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    classes: int,
    class_weight: ClassWeight = "none",
    advance: Callable[[int], None] = lambda steps: None,
) -> LinearHead:
    """Fit a head.

    Args:
        features: Embeddings, float32 (N, D).
        labels: Class index of each, int64 (N,), in 0..classes-1; every class occurs.
        folds: Fold of each, int64 (N,); the folds keep groups together.
        classes: Number C of classes, at least 2.
        class_weight: ``balanced`` gives every class the same total weight.
        advance: Called with the number of steps done, `MAX_STEPS` in all.

    Raises:
        SourceError: The features are not finite, or all the same.
    """
    _check(features, labels, classes)
    # One shift for all and one scale for all: unlike a scale for each feature it keeps the geometry that the
    # backbone learnt, and it commutes with the rotation below.
    centre = features.mean(0, dtype=np.float64)
    scale = float(np.sqrt(np.mean(np.square(features - centre))))
    z, basis = _rotate((features - centre) / scale)
    weight = None if class_weight == "none" else "balanced"
    strength, out_of_fold, loss = _choose(z, labels, folds, classes, weight, advance)
    temperature = fit_temperature(*out_of_fold)
    coefficients, bias, converged = _solve(z, labels, strength, classes, weight)
    advance(1)
    weights = (basis @ coefficients.T if basis is not None else coefficients.T) / scale
    notes = () if converged else (f"The head's fit was stopped after {MAX_ITERATIONS} iterations.",)
    return LinearHead(
        weights.astype(np.float32),
        (bias - centre @ weights).astype(np.float32),
        temperature,
        strength,
        loss,
        notes,
    )


def softmax(scores: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of scores (N, C) along the last axis, in float64."""
    shifted = scores.astype(np.float64) - scores.max(-1, keepdims=True)
    powers = np.exp(shifted)
    result: NDArray[np.float64] = powers / powers.sum(-1, keepdims=True)
    return result


def log_loss(scores: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """Mean negative log likelihood of scores (N, C), in nats."""
    scores = scores.astype(np.float64)
    top = scores.max(1)
    normaliser = top + np.log(np.exp(scores - top[:, None]).sum(1))
    return float(np.mean(normaliser - scores[np.arange(len(labels)), labels]))


def fit_temperature(scores: NDArray[Any], labels: NDArray[np.int64]) -> float:
    """The temperature, in 0.05..20, by which scores must be divided for the smallest log loss (Guo et al. 2017)."""
    from scipy.optimize import minimize_scalar

    limit = float(np.log(20))
    result = minimize_scalar(
        lambda power: log_loss(scores / np.exp(power), labels), bounds=(-limit, limit), method="bounded"
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


def _rotate(z: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Fewer columns for the same problem: with an L2 penalty the solution lies in the span of the rows.

    Returns:
        Coordinates (N, R) with R <= N, and the basis (D, R) that leads back; no basis where nothing is gained.
    """
    if len(z) >= z.shape[1]:
        return z, None
    left, values, right = np.linalg.svd(z, full_matrices=False)
    kept = values > values[0] * 1e-7
    return left[:, kept] * values[kept], right[kept].T


def _choose(
    z: NDArray[np.float64],
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    classes: int,
    weight: str | None,
    advance: Callable[[int], None],
) -> tuple[float, tuple[NDArray[np.float64], NDArray[np.int64]], float]:
    """The strength with the smallest log loss, the out-of-fold scores (N, C) with their labels, and that loss."""
    if len(z) > SELECTION_LIMIT:
        some = np.arange(len(z)) % (len(z) // SELECTION_LIMIT + 1) == 0
        some &= np.isin(labels, np.unique(labels[some]))
        if len(np.unique(labels[some])) == classes:
            z, labels, folds = z[some], labels[some], folds[some]
    warm: dict[int, Any] = {}
    tried: dict[float, tuple[float, NDArray[np.float64]]] = {}

    def attempt(strength: float) -> float:
        if strength not in tried:
            scores = np.empty((len(z), classes))
            for fold in np.unique(folds):
                inside = folds != fold
                start = warm.get(int(fold))
                coefficients, bias, _ = _solve(z[inside], labels[inside], strength, classes, weight, start)
                warm[int(fold)] = coefficients, bias
                scores[~inside] = z[~inside] @ coefficients.T + bias
            tried[strength] = log_loss(scores, labels), scores
            advance(1)
        return tried[strength][0]

    best, behind = STRENGTHS[0], 0
    for strength in STRENGTHS:
        if attempt(strength) < attempt(best):
            best, behind = strength, 0
        elif strength != best:
            behind += 1
        if behind == 2:
            break
    best = min((best, *(best * step for step in REFINEMENT)), key=attempt)
    advance(MAX_STEPS - 1 - len(tried))
    loss, scores = tried[best]
    return best, (scores, labels), loss


def _solve(
    z: NDArray[np.float64],
    labels: NDArray[np.int64],
    strength: float,
    classes: int,
    weight: str | None,
    start: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64], bool]:
    """Coefficients (C, R), intercepts (C,) and whether the solver converged; a class without images gets none."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    present = np.unique(labels)
    model = LogisticRegression(C=strength, class_weight=weight, max_iter=MAX_ITERATIONS, warm_start=start is not None)
    if start is not None:
        model.coef_, model.intercept_, model.classes_ = *_packed(*start, present), present
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(z, labels)
    coefficients, bias = np.zeros((classes, z.shape[1])), np.full(classes, -30.0)
    if len(present) == 2:  # scikit-learn's binary form: one row, for the second class
        coefficients[present], bias[present] = np.vstack([-model.coef_, model.coef_]) / 2, 0.0
        bias[present] = np.concatenate([-model.intercept_, model.intercept_]) / 2
    else:
        coefficients[present], bias[present] = model.coef_, model.intercept_
    return coefficients, bias, bool(model.n_iter_.max() < MAX_ITERATIONS)


def _packed(
    coefficients: NDArray[np.float64], bias: NDArray[np.float64], present: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(present) == 2:
        first, second = present
        return coefficients[[second]] - coefficients[[first]], bias[[second]] - bias[[first]]
    return coefficients[present], bias[present]
