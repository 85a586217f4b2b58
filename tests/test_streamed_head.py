"""A head that is fitted by passes over blocks: the solution of the head in memory, whatever blocks and threads."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from headstart.core.errors import SourceError
from headstart.core.runtime import Runtime
from headstart.heads import linear, softmax
from headstart.heads.balance import weights_of
from headstart.heads.penalty import whitening_factors
from headstart.heads.streamed import InMemory, fit_as_chosen, fit_recipe
from headstart.heads.streamed.blocks import Each
from headstart.heads.streamed.choice import part_of
from headstart.heads.streamed.fit import Solved, Strength, _solve
from headstart.heads.streamed.moments import basis, moments
from headstart.heads.streamed.objective import Objective
from headstart.heads.streamed.quasi_newton import minimise
from headstart.settings.recipe import Recipe
from headstart.targets.classes.temperature import (
    Temperature,
    fit_temperature,
    smoothed_log_loss,
    to_probabilities,
)

ROWS, WIDTH, CLASSES = 3000, 48, 12


def made(rows: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Embeddings of overlapping classes of different sizes, along directions of falling variance, cut off below 0."""
    shape, rng = np.random.default_rng(7), np.random.default_rng(seed)
    spread = np.arange(1, WIDTH + 1) ** -0.5
    turned = np.linalg.qr(shape.normal(size=(WIDTH, WIDTH)))[0]
    means = 0.6 * shape.normal(size=(CLASSES, WIDTH)) * spread
    labels = rng.choice(CLASSES, rows, p=np.arange(1, CLASSES + 1) / np.arange(1, CLASSES + 1).sum())
    features = np.maximum((means[labels] + rng.normal(size=(rows, WIDTH)) * spread) @ turned + 0.1, 0)
    return features.astype(np.float32), labels


X, Y = made(ROWS, 0)
UNSEEN, TRUE = made(2000, 1)


@pytest.mark.parametrize(
    ("c", "whitening", "class_weight"),
    [(0.01, 0.0, "none"), (0.1, 0.5, "none"), (1.0, 0.0, "balanced"), (10.0, 0.0, "none")],
)
def test_the_solution_is_that_of_the_head_in_memory(c: float, whitening: float, class_weight: str) -> None:
    order = np.argsort(Y, kind="stable")  # as in a folder: class after class
    passes: list[int] = []
    found = fit_as_chosen(
        InMemory(X[order], Y[order], 256), Strength(c, whitening), classes=CLASSES, class_weight=class_weight,
        advance=passes.append,
    )  # fmt: skip
    # Without axes, whitening and passes: by the same problem's other solver, to its end.
    expected = linear.fit_as_chosen(
        X, Y, classes=CLASSES, c=c, temperature=1.0, whitening=whitening, class_weight=class_weight
    )
    wanted, got = expected.probabilities(UNSEEN), to_probabilities(found.scores(UNSEEN))
    assert np.abs(got - wanted).max() < 1e-3
    assert (got.argmax(1) == TRUE).mean() > 0.6
    assert len(passes) < 120  # 14 to 73 on one machine: more with a weaker penalty
    assert not found.notes
    # The head in memory ends a little before the exact solution, which its solver finds if it is asked to.
    z, axes, centre, scale = linear.along_axes(X)
    weights, factors = weights_of(Y, class_weight), whitening_factors(z, whitening)
    exact = softmax.solve(z * factors, Y, classes=CLASSES, c=c, sample_weight=weights, decrement=1e-10)
    head = linear.Axes(z, axes, centre, scale).head(exact.weights * factors[:, None], exact.bias)
    assert np.abs(got - to_probabilities(head.scores(UNSEEN))).max() < 3e-4


def test_a_block_more_or_less_and_threads_change_nothing() -> None:
    one, other = (
        fit_as_chosen(InMemory(X, Y, 512), Strength(0.1), classes=CLASSES, workers=workers) for workers in (1, 3)
    )
    np.testing.assert_array_equal(one.weights, other.weights)
    np.testing.assert_array_equal(one.bias, other.bias)
    another = fit_as_chosen(InMemory(X, Y, 700), Strength(0.1), classes=CLASSES)
    np.testing.assert_allclose(one.scores(UNSEEN), another.scores(UNSEEN), atol=5e-3)


def test_the_gradient_is_that_of_the_value() -> None:
    each = Each(InMemory(X, Y, 512), 1, lambda _: None)
    found = moments(each, CLASSES)
    share = np.full(CLASSES, 1 / ROWS)
    problem = Objective(each, basis(found, 0.5), share, 0.01)
    rng = np.random.default_rng(0)
    place, direction = (0.1 * rng.normal(size=(WIDTH + 1, CLASSES)) for _ in range(2))
    gradient = problem(place)[1]
    step = 1e-2
    slope = (problem(place + step * direction)[0] - problem(place - step * direction)[0]) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-3)
    guess = problem.curvature(place).solve
    one, other = (rng.normal(size=place.shape) for _ in range(2))
    assert (one * guess(other)).sum() == pytest.approx((other * guess(one)).sum())  # symmetric
    assert (one * guess(one)).sum() > 0


def test_moments_are_those_of_all_rows() -> None:
    found = moments(Each(InMemory(X, Y, 300), 2, lambda _: None), CLASSES)
    np.testing.assert_allclose(found.centre, X.mean(0, dtype=np.float64), atol=1e-6)
    np.testing.assert_allclose(found.covariance, np.cov(X.T, bias=True), atol=1e-5)
    np.testing.assert_allclose(found.class_means, [X[one == Y].mean(0) for one in range(CLASSES)], atol=1e-5)


@pytest.mark.slow
def test_the_penalty_suits_the_rows() -> None:
    """With few rows the penalty is strong, and with more the loss on others falls, also below that of other C."""
    aside, losses = made(1000, 2), []
    for rows in (300, 3000):
        found = fit_recipe(InMemory(X[:rows], Y[:rows]), aside, CLASSES, Recipe(), Runtime(cache=None))
        losses.append(smoothed_log_loss(found.head.scores(UNSEEN) / found.temperature, TRUE))
    assert losses[1] < losses[0]
    assert found.head.c is not None
    for c in (found.head.c / 100, found.head.c * 100):
        other = fit_as_chosen(InMemory(X, Y), Strength(c, found.head.whitening), classes=CLASSES)
        scores = other.scores(UNSEEN)
        temperature = fit_temperature(other.scores(aside[0]), aside[1])
        assert losses[1] < smoothed_log_loss(scores / temperature, TRUE) + 0.005


def test_the_penalty_is_chosen_on_a_part_in_which_each_class_has_its_share(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.heads.streamed.choice.ROWS", 600)
    part = part_of(InMemory(X, Y))
    assert len(part.labels) == 600
    np.testing.assert_allclose(np.bincount(part.labels) / 600, np.bincount(Y) / ROWS, atol=0.003)
    rare = np.where(np.arange(ROWS) == 1234, CLASSES, Y)  # else all rows would be taken into memory
    part = part_of(InMemory(X, rare))
    assert len(part.labels) in {600, 601}
    assert np.bincount(part.labels)[CLASSES] == 1
    np.testing.assert_array_equal(part.features[part.labels == CLASSES], X[1234:1235])


def test_a_fit_goes_on_from_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """From a fit on some rows, or with another penalty, the way is shorter and the end is the same."""
    monkeypatch.setattr("headstart.heads.streamed.choice.ROWS", 1000)
    whole = Each(InMemory(X, Y), 1, lambda _: None)
    some = Each(part_of(InMemory(X, Y)), 1, lambda _: None)
    found = moments(whole, CLASSES)
    monkeypatch.setattr("headstart.heads.streamed.fit.COARSE_DECREMENT", 1e-6)
    monkeypatch.setattr("headstart.heads.streamed.fit.COMPARED_SHARE", 0.0)

    def solved(each: Each, c: float, before: Solved | None = None) -> Solved:
        return _solve(each, found, Strength(c), "none", before, compared=True)

    direct = solved(whole, 0.1)
    for before in (solved(some, 0.1), solved(whole, 0.03)):
        other = solved(whole, 0.1, before)
        assert other.end.calls < direct.end.calls
        one, two = (to_probabilities(each.head.scores(UNSEEN)) for each in (direct, other))
        np.testing.assert_allclose(one, two, atol=0.01)


def test_minimise_ends_at_the_minimum_of_a_quadratic() -> None:
    rng = np.random.default_rng(0)
    root = rng.normal(size=(30, 30))
    hessian, goal = root @ root.T + np.eye(30), rng.normal(size=(30, 1))

    def value(place: np.ndarray) -> tuple[float, np.ndarray]:
        off = place - goal
        return float((off * (hessian @ off)).sum() / 2), hessian @ off

    found = minimise(value, np.zeros((30, 1)), lambda g: g / np.diag(hessian)[:, None], decrement=1e-12, calls=200)
    assert found.converged
    np.testing.assert_allclose(found.place, goal, atol=1e-4)
    short = minimise(value, np.zeros((30, 1)), lambda g: g, decrement=1e-12, calls=3)
    assert (short.converged, short.calls) == (False, 3)
    coarse = minimise(value, np.zeros((30, 1)), lambda g: g / np.diag(hessian)[:, None], decrement=0.0, calls=200,
                      share=0.1)  # fmt: skip
    assert coarse.converged
    assert found.calls > coarse.calls > 3


def _not_finite(x: np.ndarray) -> None:
    x[17, 3] = np.inf


def _all_the_same(x: np.ndarray) -> None:
    x[:] = x[0]


@pytest.mark.parametrize(("spoil", "message"), [(_not_finite, "not finite"), (_all_the_same, "same embedding")])
def test_embeddings_that_no_head_can_be_fitted_on(spoil: Callable[[np.ndarray], None], message: str) -> None:
    x = X[:200].copy()
    spoil(x)
    with pytest.raises(SourceError, match=message):
        fit_as_chosen(InMemory(x, np.arange(200) % CLASSES), Strength(0.1), classes=CLASSES)


def test_a_class_without_rows() -> None:
    with pytest.raises(SourceError, match="Of 13 classes, 12"):
        fit_as_chosen(InMemory(X, Y), Strength(0.1), classes=13)


def test_a_note_where_the_passes_were_not_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("headstart.heads.streamed.fit.EXACT_PASSES", 3)
    found = fit_as_chosen(InMemory(X, Y), Strength(1.0), classes=CLASSES)
    assert found.notes
    assert "stopped after 3 passes" in found.notes[0]


def test_the_start_is_near(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the passes are saved by: after ten of them the loss is within 1e-4 of the minimum."""
    monkeypatch.setattr("headstart.heads.streamed.fit.EXACT_PASSES", 10)
    found = fit_as_chosen(InMemory(X, Y), Strength(0.1), classes=CLASSES)
    z, axes, _, scale = linear.along_axes(X)
    best = softmax.solve(z, Y, classes=CLASSES, c=0.1, sample_weight=np.ones(ROWS, np.float32), decrement=1e-9)

    def objective(scores: np.ndarray, weights: np.ndarray) -> float:
        p = Temperature(1.0).probabilities(scores)
        return float(-np.log(p[np.arange(ROWS), Y]).mean() + (weights**2).sum() / (2 * 0.1 * ROWS))

    rotated = axes.T @ found.weights * scale
    assert objective(found.scores(X), rotated) < objective(z @ best.weights + best.bias, best.weights) + 1e-4
