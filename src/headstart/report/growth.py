"""What more images would bring a run, from its embeddings and the C that its head was fitted with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from headstart.evaluation.learning_curve import LearningCurve, Part, learning_curve
from headstart.heads import softmax
from headstart.heads.penalty import whitening_factors
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Of 1,280 the first so many hold what a head uses: on ants-bees the accuracy of the reduced fit is that of the whole.
COMPONENTS = 96
# Images times components times classes, beyond which a report would have to wait for it: about a second.
MAX_VALUES = 20_000_000
MAX_AXES_FROM = 600  # images, spread over all: enough for the first components


def forecast(fitted: Fitted, recipe: Recipe, labels: NDArray[np.int64]) -> LearningCurve | str:
    """The learning curve of a probe; or the reason why there is none.

    Args:
        fitted: The result of the strategy.
        recipe: How.
        labels: Class index of each row, (N,).
    """
    head = fitted.details.head
    if recipe.spec.trains != "head" or head is None or head.strength is None:
        return (
            "It is computed only for the strategy probe with a linear head: here the embeddings themselves were learnt "
            "from all training images."
        )
    divided = fitted.partition.rounds()
    classes, strength = len(fitted.data.targets.names), head.strength
    width = min(COMPONENTS, len(divided[0][0]), fitted.data.matrix.shape[1])
    if len(divided[0][0]) * width * classes * len(divided) > MAX_VALUES:
        return "With so many images and classes it would take too long to compute."
    learnt_from = np.unique(np.concatenate([inside for inside, _ in divided]))
    reduced = _reduce(fitted.data.matrix, learnt_from, width)
    reduced *= whitening_factors(reduced[learnt_from] - reduced[learnt_from].mean(0), head.whitening or 0.0)

    def fit(features: NDArray[np.float32], known: NDArray[np.int64], asked: NDArray[np.float32]) -> NDArray[np.int64]:
        weight = np.ones(len(known), np.float32)
        if recipe.class_weight == "balanced":
            counts = np.bincount(known, minlength=classes)
            weight = (len(known) / (classes * counts[known])).astype(np.float32)
        centre = features.mean(0)
        found = softmax.solve(features - centre, known, classes=classes, c=strength, sample_weight=weight)
        predicted: NDArray[np.int64] = ((asked - centre) @ found.weights + found.bias).argmax(1)
        return predicted

    parts = [Part(reduced[inside], labels[inside], reduced[outside], labels[outside]) for inside, outside in divided]
    return learning_curve(parts, fit, seed=recipe.seed)


def _reduce(features: NDArray[np.float32], rows: NDArray[np.int64], width: int) -> NDArray[np.float32]:
    """All rows (N, D) by the principal components of some of them, scaled as the head scales them: float32 (N, R)."""
    some = features[rows[:: -(-len(rows) // MAX_AXES_FROM)]]
    centre = some.mean(0, dtype=np.float64).astype(np.float32)
    scale = np.float32(np.sqrt(some.var(0, dtype=np.float64).mean()))
    some = (some - centre) / scale
    # Eigenvectors of the products of images instead of those of dimensions: there are fewer.
    values, vectors = np.linalg.eigh((some @ some.T).astype(np.float64))
    kept = np.flatnonzero(values > values[-1] * 1e-9)[-width:]
    axes = (some.T @ vectors[:, kept] / np.sqrt(values[kept]) / scale).astype(np.float32)
    result: NDArray[np.float32] = features @ axes - centre @ axes  # without a copy of all features
    return result
