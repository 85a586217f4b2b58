"""Fitting a linear head by passes over blocks of rows; see `headstart.heads.streamed`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from headstart.heads import softmax
from headstart.heads.balance import balanced
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.heads.streamed import discriminant
from headstart.heads.streamed.blocks import Blocks, Each
from headstart.heads.streamed.choice import POWERS, Choice, SetAside, choose, part_of
from headstart.heads.streamed.moments import Basis, Moments, basis, moments
from headstart.heads.streamed.objective import Objective
from headstart.heads.streamed.quasi_newton import minimise
from headstart.targets.classes.temperature import Temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.runtime import Runtime
    from headstart.settings.recipe import ClassWeight, Recipe

# It ends where a step would lower the mean loss by less than this, in nats, as the method itself sees it. At 1e-9 the
# probabilities of other rows are within 1e-3 of those of the head in memory (`tests/test_streamed_head.py`), and below
# it single precision ends. Of more rows than `EXACT_ROWS`, where a pass takes minutes, the coarser value will do: each
# power of ten costs two to three passes, and the accuracy was the same to 0.0002 from 1e-5 on, to 0.003 from 1e-3 on
# (40,000 made rows of 50 classes, C = 0.001 and 0.01: 10 and 13 passes to 1e-5, 12 and 19 to 1e-7).
DECREMENT, EXACT_ROWS, COARSE_DECREMENT = 1e-9, 200_000, 1e-5
MAX_PASSES, EXACT_PASSES = 60, 200
_START_ROWS = 2000  # that decide how large the scores of the start are


@dataclass(frozen=True)
class Strength:
    """What `fit_as_chosen` is told, since it was chosen before; see `headstart.heads.linear.LinearHead`.

    Attributes:
        c: Inverse strength of the penalty.
        whitening: See there.
        log_loss: Of the cross-validation that chose both; None where none did.
    """

    c: float
    whitening: float = 0.0
    log_loss: float | None = None


def fit_as_chosen(
    blocks: Blocks,
    strength: Strength,
    *,
    classes: int,
    class_weight: ClassWeight = "none",
    workers: int = 1,
    advance: Callable[[int], None] = lambda passes: None,
) -> LinearHead:
    """Fit a head whose penalty is known, to the solution of `headstart.heads.linear.fit_as_chosen`.

    Args:
        blocks: The rows.
        strength: Of the penalty.
        classes: Number C of classes, at least 2; every class occurs.
        class_weight: ``balanced`` gives every class the same total weight.
        workers: Threads; they change the time and nothing else.
        advance: Called with 1 after each pass.

    Raises:
        SourceError: The features are not finite, or all the same.
    """
    each = Each(blocks, workers, advance)
    return _solve(each, moments(each, classes), strength, class_weight)


def fit_recipe(
    blocks: Blocks, aside: tuple[NDArray[np.float32], NDArray[np.int64]], classes: int, recipe: Recipe, runtime: Runtime
) -> Calibrated[LinearHead]:
    """Choose the penalty, fit the head, and find the temperature.

    Args:
        blocks: The rows that are learnt from.
        aside: Features, float32 (V, D), and labels, (V,), of rows that are not learnt from: they choose the penalty and
            the temperature.
        classes: Number C of classes.
        recipe: The weights of the classes.
        runtime: Threads, and where progress is shown.

    Raises:
        SourceError: As for `fit_as_chosen`.
    """
    with runtime.progress.stage("Measuring the embeddings", 1) as advance:
        each = Each(blocks, runtime.workers, advance)
        found = moments(each, classes)
    weights = _weights(found, recipe.class_weight).astype(np.float32)
    judges = SetAside(*aside, weights[aside[1]])
    chosen = _choose(blocks, classes, judges, recipe, runtime)
    # A stage of unknown length: the bar is full where a fit takes as many passes as they mostly do.
    with runtime.progress.stage("Fitting, in passes", 25) as advance:
        each = Each(blocks, runtime.workers, advance)
        head = _solve(each, found, Strength(chosen.c, chosen.whitening, chosen.log_loss), recipe.class_weight)
    scores = head.scores(judges.features)
    return Calibrated(head, Temperature.fit(scores, judges.labels, judges.weights))


def _choose(blocks: Blocks, classes: int, judges: SetAside, recipe: Recipe, runtime: Runtime) -> Choice:
    part = part_of(blocks, classes)
    with runtime.progress.stage("Choosing the penalty", len(POWERS) + 1) as advance:
        each = Each(part, runtime.workers, lambda _: None)
        found = moments(each, classes)

        def fitted(c: float, whitening: float) -> LinearHead:
            head = _solve(each, found, Strength(c, whitening), recipe.class_weight, COARSE_DECREMENT)
            advance(1)
            return head

        return choose(fitted, judges)


def _solve(each: Each, found: Moments, strength: Strength, class_weight: ClassWeight, least: float = 0.0) -> LinearHead:
    """Fit a head.

    Args:
        each: The rows.
        found: Sums over them.
        strength: Of the penalty.
        class_weight: See `fit_as_chosen`.
        least: The decrement is at least this.
    """
    weights = _weights(found, class_weight)
    total = float(weights @ found.counts)
    by = basis(found, strength.whitening)
    objective = Objective(each, by, weights / total, 1 / (strength.c * total))
    labels = each.blocks.labels
    few = np.unique(np.linspace(0, len(labels) - 1, _START_ROWS).astype(np.int64))
    begin = discriminant.start(found, by, by.of(each.blocks.take(few)), labels[few], objective.penalty)
    decrement = max(least, DECREMENT if len(labels) <= EXACT_ROWS else COARSE_DECREMENT)
    calls = EXACT_PASSES if len(labels) <= EXACT_ROWS else MAX_PASSES
    end = minimise(objective, begin, objective.curvature(begin).solve, decrement=decrement, calls=calls)
    head = _head(by, softmax.Solution(end.place[:-1], end.place[-1], end.converged), strength)
    if end.converged:
        return head
    note = (
        f"The head's fit was stopped after {end.calls} passes over the embeddings, where another would have lowered "
        f"the mean loss by {end.decrement:.0e}."
    )
    return replace(head, notes=(note,))


def _head(by: Basis, found: softmax.Solution, strength: Strength) -> LinearHead:
    weights = by.axes @ found.weights
    bias = found.bias - by.centre.astype(np.float64) @ weights
    return LinearHead(
        weights.astype(np.float32), bias.astype(np.float32), strength.c, strength.log_loss,
        whitening=strength.whitening,
    )  # fmt: skip


def _weights(found: Moments, class_weight: ClassWeight) -> NDArray[np.float64]:
    """Weight of a row of each class, (C,)."""
    counts = found.counts
    return balanced(counts) if class_weight == "balanced" else np.ones(len(counts))
