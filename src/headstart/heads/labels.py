"""The head `linear` of several labels an image: one logistic regression for each, on the same embeddings.

C and the whitening of each label are chosen by the rule of `headstart.heads.penalty`, and each is calibrated by a
temperature of its own, on out-of-fold predictions. On the same ones its threshold is chosen.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.text import listed
from headstart.core.threads import one_blas_thread
from headstart.heads import logistic, softmax
from headstart.heads.balance import weights_of_labels
from headstart.heads.calibrated import Calibrated
from headstart.heads.labels_penalty import ATTEMPTS, OutOfFold, choose
from headstart.heads.linear import LinearHead, along_axes, check_features
from headstart.heads.penalty import whitening_factors
from headstart.settings.recipe import ClassWeight
from headstart.settings.thresholds import threshold_rule
from headstart.targets.labels import TRUE
from headstart.targets.labels.sigmoid import Sigmoid
from headstart.targets.labels.thresholds import choose as choose_thresholds

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.runtime import Runtime
    from headstart.settings.recipe import Recipe
    from headstart.targets import Targets


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
    with runtime.progress.stage("Fitting", ATTEMPTS + 1) as advance:
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
        axes = along_axes(features)
        z, weights = axes.z, weights_of_labels(labels, class_weight)
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
    notes = () if converged.all() else (f"The head's fit was stopped after {softmax.MAX_ITERATIONS} iterations.",)
    head = replace(
        axes.head(v[:-1], v[-1]),
        notes=notes,
        log_loss=float(found.losses.mean()),
        cs=tuple(np.power(10.0, found.powers).tolist()),
        whitenings=tuple(found.whitenings.tolist()),
    )
    return head, found


def check(features: NDArray[np.float32], labels: NDArray[np.int8], count: int) -> None:
    """Refuse embeddings (N, D) that no head can be fitted on.

    Raises:
        SourceError: They are not finite, or all the same.
    """
    check_features(features, "labels")
