"""What more images would bring a run, from its embeddings and the C that its head was fitted with."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.threads import one_blas_thread
from headstart.evaluation.learning_curve import LearningCurve, Part, learning_curve
from headstart.heads import softmax
from headstart.heads.balance import weights_of
from headstart.heads.linear import along_axes
from headstart.heads.penalty import whitening_factors
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Images times components times classes times folds, beyond which a report would have to wait: one to two seconds.
MAX_VALUES = 20_000_000
# Where the head's own components would be too many, the first of them are fitted, as many as that allows. With too few
# the curve is another head's: at 10 digits 96 of 1,280 take the accuracy from 99.2 % to 95.6 %, and the page says so.
MIN_COMPONENTS = 96
MAX_AXES_FROM = 4_000  # images, spread over all: enough for the components of more


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
    images = len(divided[0][0])
    width = MAX_VALUES // (images * classes * len(divided))
    if width < min(MIN_COMPONENTS, images, fitted.data.matrix.shape[1]):
        return "With so many images and classes it would take too long to compute."
    learnt_from = np.unique(np.concatenate([inside for inside, _ in divided]))
    with one_blas_thread():
        reduced, left_out = _along_axes(fitted.data.matrix, learnt_from, width)
    reduced *= whitening_factors(reduced[learnt_from] - reduced[learnt_from].mean(0), head.whitening or 0.0)

    def fit(features: NDArray[np.float32], known: NDArray[np.int64], asked: NDArray[np.float32]) -> NDArray[np.int64]:
        weight = weights_of(known, recipe.class_weight)
        centre = features.mean(0)
        found = softmax.solve(features - centre, known, classes=classes, c=strength, sample_weight=weight)
        predicted: NDArray[np.int64] = ((asked - centre) @ found.weights + found.bias).argmax(1)
        return predicted

    parts = [Part(reduced[inside], labels[inside], reduced[outside], labels[outside]) for inside, outside in divided]
    curve = learning_curve(parts, fit, seed=recipe.seed)
    return replace(curve, components=reduced.shape[1]) if left_out else curve


def _along_axes(features: NDArray[np.float32], rows: NDArray[np.int64], width: int) -> tuple[NDArray[np.float32], bool]:
    """All features (N, D) by the components that the head has on some of their rows, and whether any are left out.

    Args:
        features: Of all images, (N, D).
        rows: Those to learn from.
        width: Components at most: the first, in which the embeddings vary most.

    Returns:
        float32 (N, R), and whether R is less than what the head is fitted on.
    """
    _, axes, centre, scale = along_axes(features[rows[:: -(-len(rows) // MAX_AXES_FROM)]])
    first = axes[:, -width:] / np.float32(scale)
    result: NDArray[np.float32] = features @ first - centre.astype(np.float32) @ first  # no copy of all features
    return result, first.shape[1] < axes.shape[1]
