"""The head `linear`: multinomial logistic regression with an L2 penalty, calibrated by a temperature.

C, the inverse strength of the penalty, is chosen by the cross-validated log loss (not accuracy: a handful of images
decides that); see `headstart.heads.penalty`. The temperature (Guo et al. 2017) is fitted on the same
out-of-fold predictions.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.core.errors import SourceError
from headstart.core.threads import one_blas_thread
from headstart.heads import softmax
from headstart.heads.balance import weights_of
from headstart.heads.calibrated import Calibrated
from headstart.heads.penalty import ATTEMPTS, choose, whitening_factors
from headstart.settings.recipe import ClassWeight, Recipe
from headstart.targets.classes.temperature import Temperature, to_probabilities

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.graph import Graph
    from headstart.core.runtime import Runtime
    from headstart.targets import Targets


class OutOfFold(NamedTuple):
    """Out-of-fold predictions: of each row by a head that was fitted on the other folds.

    Attributes:
        rows: Which rows, (M,), rising; all, or those of ``penalty.some_of_each``.
        probabilities: Calibrated, float64 (M, C).
        c: The C that all these heads have; see `LinearHead`.
        whitening: The whitening that all these heads have; see `LinearHead`.
        temperature: What the scores were divided by.
    """

    rows: NDArray[np.int64]
    probabilities: NDArray[np.float64]
    c: float
    whitening: float
    temperature: float


@dataclass(frozen=True)
class LinearHead:
    """A fitted head.

    Attributes:
        weights: float32 (D, C).
        bias: float32 (C,).
        c: The chosen C of scikit-learn's LogisticRegression, for features of variance 1; None where `fit` did
            not find the weights.
        log_loss: Its cross-validated log loss, after the temperature; see `smoothed_losses`. None if `fit` did not find
            the weights.
        notes: Remarks for the user.
        whitening: How far the variances of the principal axes were equalised before the fit, in 0..1; see
            `whitening_factors`.
        cs: C of each label, (C,), where an image can have several and `fit` of `headstart.heads.labels` found the
            weights; else empty, as is the next one.
        whitenings: The whitening of each label, (C,).
    """

    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    c: float | None = None
    log_loss: float | None = None
    notes: tuple[str, ...] = ()
    whitening: float = 0.0
    cs: tuple[float, ...] = ()
    whitenings: tuple[float, ...] = ()

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Scores (N, C) of embeddings (N, D)."""
        result: NDArray[np.float32] = features @ self.weights + self.bias
        return result

    def add_nodes(self, graph: Graph, embedding: str) -> str:
        """Add the head to a graph; the name of the scores, float32 (N, C)."""
        weights = graph.constant("head.weights", self.weights)
        return graph.node("Gemm", [embedding, weights, graph.constant("head.bias", self.bias)], "head.scores")


def steps(folds: NDArray[np.int64]) -> int:
    """Steps of `fit` and `cross_validate`: a fit for each penalty and each of the folds (N,), and the last one."""
    return ATTEMPTS * len(np.unique(folds)) + 1


def fit(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    folds: NDArray[np.int64],
    *,
    classes: int,
    class_weight: ClassWeight = "none",
    workers: int = 1,
    advance: Callable[[int], None] = lambda steps: None,
) -> Calibrated[LinearHead]:
    """Fit a head.

    Args:
        features: Embeddings, float32 (N, D).
        labels: Class index of each, int64 (N,), in 0..classes-1; every class occurs.
        folds: Fold of each, int64 (N,); the folds keep groups together.
        classes: Number C of classes, at least 2.
        class_weight: ``balanced`` gives every class the same total weight.
        workers: Threads; they change the time and nothing else.
        advance: Called with the number of steps done, `steps` in all.

    Raises:
        SourceError: The features are not finite, or all the same.
    """
    check(features, labels, classes)
    sample_weight = weights_of(labels, class_weight)
    # One thread a fold, and none inside the matrix products.
    with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
        axes = along_axes(features)
        z = axes.z
        chosen = choose(z, labels, folds, classes=classes, weights=sample_weight, pool=pool, advance=advance)
        factors = whitening_factors(z, chosen.whitening)
        found = softmax.solve(
            z * factors, labels, classes=classes, c=chosen.c, sample_weight=sample_weight,
            start=chosen.start,
        )  # fmt: skip
    advance(1)
    head = replace(_head(found, axes, factors, chosen.c), log_loss=chosen.loss, whitening=chosen.whitening)
    return Calibrated(head, Temperature(chosen.temperature))


def fit_recipe(
    features: NDArray[np.float32],
    targets: Targets,
    folds: NDArray[np.int64],
    recipe: Recipe,
    runtime: Runtime,
) -> Calibrated[LinearHead]:
    """Fit a head as a recipe says, and show how far it is; the other arguments are those of `fit`."""
    with runtime.progress.stage("Fitting", steps(folds)) as advance:
        return fit(
            features, targets.labels, folds, classes=len(targets.names), class_weight=recipe.class_weight,
            workers=runtime.workers, advance=advance,
        )  # fmt: skip


def fit_as_chosen(
    features: NDArray[np.float32],
    labels: NDArray[np.int64],
    *,
    classes: int,
    c: float,
    temperature: float,
    whitening: float = 0.0,
    class_weight: ClassWeight = "none",
) -> Calibrated[LinearHead]:
    """Fit a head whose C, whitening and temperature are known, from `cross_validate` say; otherwise as `fit`."""
    check(features, labels, classes)
    with one_blas_thread():
        axes = along_axes(features)
        weights, factors = weights_of(labels, class_weight), whitening_factors(axes.z, whitening)
        found = softmax.solve(axes.z * factors, labels, classes=classes, c=c, sample_weight=weights)
    head = replace(_head(found, axes, factors, c), whitening=whitening)
    return Calibrated(head, Temperature(temperature))


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

    C and the temperature, two numbers, are chosen on the same predictions. That makes them slightly optimistic, equally
    for all embeddings that are compared by them.
    """
    check(features, labels, classes)
    with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
        z = along_axes(features).z
        weights = weights_of(labels, class_weight)
        chosen = choose(z, labels, folds, classes=classes, weights=weights, pool=pool, advance=advance)
    advance(1)
    probabilities = to_probabilities(chosen.scores / chosen.temperature)
    return OutOfFold(chosen.rows, probabilities, chosen.c, chosen.whitening, chosen.temperature)


def check(features: NDArray[np.float32], labels: NDArray[np.int64], classes: int) -> None:
    """Refuse embeddings (N, D) that no head can be fitted on.

    Raises:
        SourceError: They are not finite, all the same, or there is none of a class.
    """
    check_features(features, "classes")
    if len(np.unique(labels)) != classes:
        raise SourceError(f"Of {classes} classes, {len(np.unique(labels))} have training images.")


def check_features(features: NDArray[np.float32], what: str) -> None:
    """Refuse embeddings (N, D) that are not finite, or all the same: then nothing distinguishes `what`.

    Raises:
        SourceError: They are.
    """
    if not np.isfinite(features).all():
        row = int(np.argmin(np.isfinite(features).all(1)))
        raise SourceError(f"The features of row {row} hold values that are not finite.")
    if np.all(features == features[0]):
        raise SourceError(
            f"All images have the same embedding: nothing distinguishes the {what}.",
            "Look at the images: are they all the same picture?",
        )


class Axes(NamedTuple):
    """Features in the basis of their principal axes, after a shift and a scale.

    Attributes:
        z: The features, float32 (N, R).
        axes: float32 (D, R).
        centre: What was taken away, (D,).
        scale: What the rest was divided by.
    """

    z: NDArray[np.float32]
    axes: NDArray[np.float32]
    centre: NDArray[np.float64]
    scale: float

    def head(self, weights: NDArray[np.float64], bias: NDArray[np.float64]) -> LinearHead:
        """The head of weights (R, C) and a bias (C,) along the axes, for embeddings as they come."""
        into = self.axes @ weights / self.scale
        return LinearHead(into.astype(np.float32), (bias - self.centre @ into).astype(np.float32))


def along_axes(features: NDArray[np.float32]) -> Axes:
    """Embeddings (N, D) along their principal axes."""
    # One shift for all and one scale for all: unlike a scale for each feature it keeps the geometry that the
    # backbone learnt, and it commutes with the rotation below.
    centre = features.mean(0, dtype=np.float64)
    scale = float(np.sqrt(features.var(0, dtype=np.float64).mean()))
    centred = ((features - centre.astype(np.float32)) / np.float32(scale)).astype(np.float32)
    axes = softmax.principal_axes(centred)
    return Axes(centred @ axes, axes, centre, scale)


def _head(found: softmax.Solution, axes: Axes, factors: NDArray[np.float32], chosen: float) -> LinearHead:
    """The head of a solution for features that were multiplied by factors (R,), with the C that was chosen."""
    notes = () if found.converged else (f"The head's fit was stopped after {softmax.MAX_ITERATIONS} iterations.",)
    return replace(axes.head(found.weights * factors[:, None], found.bias), c=chosen, notes=notes)
