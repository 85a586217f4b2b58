"""What more images would bring a run, from its embeddings and the C that its head was fitted with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple, Self

import numpy as np

from headstart.core.threads import one_blas_thread
from headstart.evaluation.labels_curve import ENOUGH, MEAN_AVERAGE_PRECISION, measurable
from headstart.evaluation.learning_curve import LearningCurve, Part, learning_curve
from headstart.heads import logistic, softmax
from headstart.heads.balance import weights_of, weights_of_labels
from headstart.heads.linear import along_axes
from headstart.heads.penalty import whitening_factors
from headstart.runs.result import Fitted
from headstart.settings.recipe import Recipe
from headstart.targets.labels import TRUE

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Images times components times classes times folds, beyond which a report would have to wait: one to two seconds.
MAX_VALUES = 20_000_000
# Where the head's own components would be too many, the first of them are fitted, as many as that allows. With too few
# the curve is another head's: at 10 digits 96 of 1,280 take the accuracy from 99.2 % to 95.6 %, and the page says so.
MIN_COMPONENTS = 96
MAX_AXES_FROM = 4_000  # images, spread over all: enough for the components of more


_LEARNT = (
    "It is computed only for the strategy probe with a linear head: here the embeddings themselves were learnt from "
    "all training images."
)
_TOO_MANY = "With so many images and {} it would take too long to compute."


def forecast(fitted: Fitted, recipe: Recipe, labels: NDArray[np.int64]) -> LearningCurve | str:
    """The learning curve of a probe; or the reason why there is none.

    Args:
        fitted: The result of the strategy.
        recipe: How.
        labels: Class index of each row, (N,).
    """
    head, classes = fitted.details.head, len(fitted.data.targets.names)
    if recipe.spec.trains != "head" or head is None or head.strength is None:
        return _LEARNT
    strength, space = head.strength, _Space.of(fitted, classes)
    if space is None:
        return _TOO_MANY.format("classes")
    x = space.features * space.factors(head.whitening or 0.0)

    def fit(features: NDArray[np.float32], known: NDArray[np.int64], asked: NDArray[np.float32]) -> NDArray[np.int64]:
        weight = weights_of(known, recipe.class_weight)
        centre = features.mean(0)
        found = softmax.solve(features - centre, known, classes=classes, c=strength, sample_weight=weight)
        predicted: NDArray[np.int64] = ((asked - centre) @ found.weights + found.bias).argmax(1)
        return predicted

    curve = learning_curve(space.parts(x, labels), fit, seed=recipe.seed)
    return replace(curve, components=space.components)


def forecast_labels(fitted: Fitted, recipe: Recipe, labels: NDArray[np.int8]) -> LearningCurve | str:
    """The same where an image has any number of labels: of their mean average precision.

    Args:
        fitted: The result of the strategy.
        recipe: How.
        labels: 1, 0, or below 0 for not known, (N, C).
    """
    head = fitted.details.head
    if recipe.spec.trains != "head" or head is None or head.strengths is None or head.whitenings is None:
        return _LEARNT
    space = _Space.of(fitted, labels.shape[1])
    if space is None:
        return _TOO_MANY.format("labels")
    known = [measurable(labels[inside], labels[outside]) for inside, outside in space.divided]
    own = np.array(sorted(set(known[0].tolist()).intersection(*map(np.ndarray.tolist, known))), np.int64)
    if not len(own):
        return f"Each label has too few images to train on subsets of them: {ENOUGH} must have it, and lack it."
    strengths, whitenings = np.array(head.strengths)[own], np.array(head.whitenings)[own]
    factors = {whitening: space.factors(whitening) for whitening in set(whitenings.tolist())}

    def fit(features: NDArray[np.float32], known: NDArray[np.int8], asked: NDArray[np.float32]) -> NDArray[np.float64]:
        centre, scores = features.mean(0), np.empty((len(asked), len(own)))
        weights, truth = weights_of_labels(known, recipe.class_weight), (known == TRUE).astype(np.float32)
        for whitening, by in factors.items():
            some = np.flatnonzero(whitenings == whitening)
            found = logistic.solve(
                (features - centre) * by, truth[:, some], c=strengths[some], weights=weights[:, some]
            )
            scores[:, some] = found.scores((asked - centre) * by)
        return scores

    curve = learning_curve(space.parts(space.features, labels[:, own]), fit, MEAN_AVERAGE_PRECISION, seed=recipe.seed)
    return replace(curve, components=space.components, left_out=labels.shape[1] - len(own))


class _Space(NamedTuple):
    """Where the curve's heads are fitted.

    Attributes:
        features: Of all images, by the components that the head has, float32 (N, R).
        divided: The rows that each round of the measuring learns from, and those that it measures.
        components: R, where it is less than what the head of the model is fitted on; else None.
    """

    features: NDArray[np.float32]
    divided: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]
    components: int | None

    @classmethod
    def of(cls, fitted: Fitted, names: int) -> Self | None:
        """That of a run with so many classes or labels; None where there would be too much to compute."""
        divided = fitted.partition.rounds()
        images = len(divided[0][0])
        width = MAX_VALUES // (images * names * len(divided))
        if width < min(MIN_COMPONENTS, images, fitted.data.matrix.shape[1]):
            return None
        with one_blas_thread():
            reduced, left_out = _along_axes(fitted.data.matrix, _learnt(divided), width)
        return cls(reduced, divided, reduced.shape[1] if left_out else None)

    def factors(self, whitening: float) -> NDArray[np.float32]:
        """What each component is multiplied by, (R,)."""
        learnt = self.features[_learnt(self.divided)]
        return whitening_factors(learnt - learnt.mean(0), whitening)

    def parts(self, features: NDArray[np.float32], labels: NDArray[np.signedinteger]) -> list[Part]:
        """What is learnt from and measured, of features (N, R) and labels (N, ...)."""
        return [
            Part(features[inside], labels[inside], features[outside], labels[outside])
            for inside, outside in self.divided
        ]


def _learnt(divided: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]]) -> NDArray[np.int64]:
    """All rows that any round learns from."""
    return np.unique(np.concatenate([inside for inside, _ in divided]))


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
