"""Fitting a linear head by passes over blocks of rows; see `headstart.heads.streamed`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from headstart.core.thinning import evenly
from headstart.heads import softmax
from headstart.heads.balance import balanced
from headstart.heads.calibrated import Calibrated
from headstart.heads.linear import LinearHead
from headstart.heads.streamed import discriminant
from headstart.heads.streamed.blocks import Blocks, Each
from headstart.heads.streamed.choice import POWERS, Choice, SetAside, choose, part_of
from headstart.heads.streamed.moments import Basis, Moments, basis, moments
from headstart.heads.streamed.objective import Objective
from headstart.heads.streamed.quasi_newton import Minimum, Pair, minimise
from headstart.targets.classes.temperature import Temperature

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from headstart.core.runtime import Runtime
    from headstart.settings.recipe import ClassWeight, Recipe

# It ends where a step would lower the mean loss by less than this, in nats, as the method itself sees it. The last part
# of the way is gone with products in double precision: in single precision the gradient ends before, and what is left
# changes probabilities by 0.0004 at C = 1 and by 0.003 at C = 10, after three times as many passes. At 1e-11 they are
# within 2e-4 of the exact solution's at C up to 10 (`tests/test_streamed_head.py`).
SINGLE_DECREMENT, DECREMENT = 1e-6, 1e-11
# Of more rows than `EXACT_ROWS`, where a pass takes a minute, and where penalties are compared, less will do: each
# power of ten costs two to three passes. Another penalty is chosen for a hundredth of the loss, not for less.
EXACT_ROWS, COARSE_DECREMENT, COMPARED_SHARE = 200_000, 1e-4, 1e-3
MAX_PASSES, EXACT_PASSES = 60, 300
USUAL_PASSES = 15
_START_ROWS = 2000  # that decide how large the scores of the start are


class Solved(NamedTuple):
    """A fit, from which another can go on: with another penalty, or on more rows of the same kind.

    Attributes:
        head: What was found.
        end: Where the search ended, in the basis of the whitening.
        rows: On so many.
        penalty: Of the mean square of the weights.
    """

    head: LinearHead
    end: Minimum
    rows: int
    penalty: float

    def past_with(self, penalty: float) -> list[Pair]:
        """The steps of the search, and how the gradient changes along them with another penalty."""
        changes = []
        for step, change in self.end.past:
            other = change.copy()
            other[:-1] += (penalty - self.penalty) * step[:-1]
            changes.append((step, other))
        return changes


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
    return _solve(each, moments(each, classes), strength, class_weight).head


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
    judges = SetAside(*aside, _weights(found.counts, recipe.class_weight).astype(np.float32)[aside[1]])
    chosen = _choose(blocks, found, judges, recipe, runtime)
    # A stage of unknown length: the bar is full where a fit takes as many passes as they mostly do.
    with runtime.progress.stage("Fitting, in passes", USUAL_PASSES) as advance:
        each = Each(blocks, runtime.workers, advance)
        strength = Strength(chosen.c, chosen.whitening, chosen.log_loss)
        head = _solve(each, found, strength, recipe.class_weight, before=chosen.fit).head
    scores = head.scores(judges.features)
    return Calibrated(head, Temperature.fit(scores, judges.labels, judges.weights))


def _choose(blocks: Blocks, found: Moments, judges: SetAside, recipe: Recipe, runtime: Runtime) -> Choice[Solved]:
    part = part_of(blocks)
    with runtime.progress.stage("Choosing the penalty", len(POWERS) + 1) as advance:
        each = Each(part, runtime.workers, lambda _: None)

        def fitted(c: float, whitening: float, before: Solved | None) -> Solved:
            solved = _solve(each, found, Strength(c, whitening), recipe.class_weight, before, compared=True)
            advance(1)
            return solved

        return choose(fitted, judges)


def _solve(
    each: Each,
    found: Moments,
    strength: Strength,
    class_weight: ClassWeight,
    before: Solved | None = None,
    *,
    compared: bool = False,
) -> Solved:
    """Fit a head.

    Args:
        each: The rows.
        found: Sums over them, or over more rows of the same kind.
        strength: Of the penalty.
        class_weight: See `fit_as_chosen`.
        before: Where to begin; None for the discriminant analysis.
        compared: With others; then it does not go all the way.
    """
    labels, by = each.blocks.labels, basis(found, strength.whitening)
    counts = np.bincount(labels, minlength=len(found.counts))
    weights = _weights(counts, class_weight)
    total = float(weights @ counts)
    objective = Objective(each, by, weights / total, 1 / (strength.c * total))
    begin = discriminant.start(found, by) if before is None else before.end.place
    if before is None or len(labels) != before.rows:
        few = evenly(len(labels), _START_ROWS)
        some = discriminant.Some(by.of(each.blocks.take(few)), labels[few])
        begin = discriminant.scaled(begin, some, objective.penalty)
    past = before.past_with(objective.penalty) if before else []
    end = _end(objective, begin, past, compared=compared)
    head = _head(by, softmax.Solution(end.place[:-1], end.place[-1], end.converged), strength)
    if not end.converged:
        note = (
            f"The head's fit was stopped after {end.calls} passes over the embeddings, where another would have "
            f"lowered the mean loss by {end.decrement:.0e}."
        )
        head = replace(head, notes=(note,))
    return Solved(head, end, len(labels), objective.penalty)


def _end(objective: Objective, begin: NDArray[np.float64], past: list[Pair], *, compared: bool) -> Minimum:
    """The minimum, from a place on."""
    guess = objective.curvature(begin).solve
    if compared or len(objective.each.blocks.labels) > EXACT_ROWS:
        return minimise(
            objective, begin, guess, decrement=COARSE_DECREMENT, calls=MAX_PASSES, past=past,
            share=COMPARED_SHARE if compared else 0.0,
        )  # fmt: skip
    near = minimise(objective, begin, guess, decrement=SINGLE_DECREMENT, calls=EXACT_PASSES, past=past)
    left = EXACT_PASSES - near.calls
    if not near.converged or not left:
        return near
    double = replace(objective, exact=True)
    end = minimise(double, near.place, guess, decrement=DECREMENT, calls=left, past=near.past)
    return end._replace(calls=near.calls + end.calls)


def _head(by: Basis, found: softmax.Solution, strength: Strength) -> LinearHead:
    weights = by.axes @ found.weights
    bias = found.bias - by.centre.astype(np.float64) @ weights
    return LinearHead(
        weights.astype(np.float32), bias.astype(np.float32), strength.c, strength.log_loss,
        whitening=strength.whitening,
    )  # fmt: skip


def _weights(counts: NDArray[np.int64], class_weight: ClassWeight) -> NDArray[np.float64]:
    """Weight of a row of each class, (C,), by the rows of each."""
    return balanced(counts) if class_weight == "balanced" else np.ones(len(counts))
