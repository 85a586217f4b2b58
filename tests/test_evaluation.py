"""Metrics and intervals against scikit-learn, SciPy and simulation."""

from __future__ import annotations

import json
import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.stats import binomtest
from sklearn import metrics as reference

from headstart.evaluation import evaluate
from headstart.evaluation.intervals import (
    _student_97_5,
    balanced_accuracy_interval,
    macro_f1_interval,
    mean_interval,
    resampled_counts,
    wilson,
    wilson_of_share,
)
from headstart.evaluation.metrics import Confusion, Counts, negative_log_likelihood, sharpen


def predictions(n: int, classes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities (N, C) that lean to the label, and labels (N,)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    scores = rng.normal(size=(n, classes)) + 1.5 * np.eye(classes)[labels]
    powers = np.exp(scores)
    return powers / powers.sum(1, keepdims=True), labels


@pytest.mark.parametrize(("n", "classes", "seed"), [(60, 2, 0), (200, 5, 1), (500, 12, 2)])
def test_metrics_are_those_of_scikit_learn(n: int, classes: int, seed: int) -> None:
    probabilities, labels = predictions(n, classes, seed)
    predicted = probabilities.argmax(1)
    result = evaluate(probabilities, labels, [f"class {i}" for i in range(classes)], split="val")
    assert result.accuracy == pytest.approx(reference.accuracy_score(labels, predicted))
    assert result.balanced_accuracy == pytest.approx(reference.balanced_accuracy_score(labels, predicted))
    assert result.macro_f1 == pytest.approx(reference.f1_score(labels, predicted, average="macro"))
    assert result.log_loss == pytest.approx(reference.log_loss(labels, probabilities, labels=range(classes)))
    matrix = np.zeros((classes, classes), int)
    for true, other, images_of_cell in result.confusion:
        matrix[true, other] = images_of_cell
    assert np.array_equal(matrix, reference.confusion_matrix(labels, predicted))
    precision, recall, f1, images = reference.precision_recall_fscore_support(labels, predicted, zero_division=0)
    for i, one in enumerate(result.classes):
        assert (one.precision or 0) == pytest.approx(precision[i])
        assert (one.recall or 0) == pytest.approx(recall[i])
        assert (one.f1 or 0) == pytest.approx(f1[i])
        assert one.images == images[i]


def test_class_without_images_or_predictions_is_undefined_and_not_zero() -> None:
    probabilities = np.array([[0.9, 0.1, 0.0], [0.8, 0.2, 0.0], [0.3, 0.7, 0.0]])
    result = evaluate(probabilities, np.array([0, 0, 1]), ["a", "b", "c"], split="val")
    assert (result.classes[2].recall, result.classes[2].precision, result.classes[2].f1) == (None, None, None)
    assert result.balanced_accuracy == 1.0
    json.dumps(result.as_dict(), allow_nan=False)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_scipy(case: tuple[int, int]) -> None:
    successes, trials = case
    expected = binomtest(successes, trials).proportion_ci(method="wilson")
    assert wilson(successes, trials) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize(("share", "n"), [(0.95, 153), (0.7, 60), (0.9, 1000)])
def test_wilson_covers_at_its_level(share: float, n: int) -> None:
    rng = np.random.default_rng(3)
    covered = [low <= share <= high for low, high in (wilson(int(k), n) for k in rng.binomial(n, share, 4000))]
    assert 0.93 <= np.mean(covered) <= 0.97


def test_wilson_of_a_share() -> None:
    assert wilson_of_share(0.75, 40) == pytest.approx(wilson(30, 40))
    assert wilson_of_share(1.0, 20.5)[0] < wilson_of_share(1.0, 21)[0]


class Simulated(NamedTuple):
    """Predictions of a classifier that is known.

    Attributes:
        cells: Probability of each pair of true and predicted class, (C, C).
        images: Number of images of each set.
    """

    cells: np.ndarray
    images: int

    @classmethod
    def of(cls, classes: int, images: int, recall: float, balanced: bool) -> Simulated:
        shares = np.ones(classes) if balanced else 1 / np.arange(1, classes + 1)
        recalls = np.clip(recall + np.linspace(-0.5, 0.5, classes) * min(0.3, 1.8 * (1 - recall)), 0, 0.999)
        cells = np.diag(recalls) + (1 - np.eye(classes)) * ((1 - recalls) / (classes - 1))[:, None]
        return cls(cells * (shares / shares.sum())[:, None], images)

    def draw(self, rng: np.random.Generator) -> Confusion:
        drawn = rng.multinomial(self.images, self.cells.ravel()).reshape(self.cells.shape)
        true, predicted = np.nonzero(drawn)
        return Confusion(true, predicted, drawn[true, predicted], len(drawn))

    def recalls(self) -> np.ndarray:
        return np.diag(self.cells) / self.cells.sum(1)

    def macro_f1(self) -> float:
        return float((2 * np.diag(self.cells) / (self.cells.sum(0) + self.cells.sum(1))).mean())


SIMULATED = [
    (2, 50, 0.95, True), (2, 153, 0.95, True), (3, 60, 0.85, True), (5, 100, 0.98, True), (10, 300, 0.95, True),
    (10, 300, 0.8, False), (3, 200, 0.8, False), (10, 60, 0.85, True),
]  # fmt: skip
# Of 1,000 sets, the share that is covered varies by 0.7 points, and of 500 by one.
LEAST, MOST = 0.93 - 0.007, 0.97 + 0.007


@pytest.mark.parametrize(("classes", "images", "recall", "balanced"), [*SIMULATED, (30, 150, 0.85, True)])
def test_balanced_accuracy_is_covered(classes: int, images: int, recall: float, balanced: bool) -> None:
    """Over 1,000 simulated sets, down to 50 images or to 5 of a class; of the classes that are there."""
    simulated, rng = Simulated.of(classes, images, recall, balanced), np.random.default_rng(4)
    covered = 0
    for _ in range(1000):
        counts = Counts.of(simulated.draw(rng))
        low, high = balanced_accuracy_interval(counts)
        covered += low <= simulated.recalls()[counts.present > 0].mean() <= high
    assert LEAST <= covered / 1000 <= MOST


@pytest.mark.slow
@pytest.mark.parametrize(("classes", "images", "recall", "balanced"), SIMULATED)
def test_macro_f1_is_covered(classes: int, images: int, recall: float, balanced: bool) -> None:
    simulated, rng = Simulated.of(classes, images, recall, balanced), np.random.default_rng(5)
    covered = 0
    for seed in range(500):
        low, high = macro_f1_interval(simulated.draw(rng), seed)
        covered += low <= simulated.macro_f1() <= high
    assert LEAST - 0.003 <= covered / 500 <= MOST + 0.003


def test_intervals_where_nothing_is_wrong() -> None:
    """A bootstrap would say 1 to 1."""
    confusion = Confusion.of(np.repeat([0, 1], 20), np.repeat([0, 1], 20), 2)
    for low, high in (balanced_accuracy_interval(Counts.of(confusion)), macro_f1_interval(confusion)):
        assert 0.85 < low < 0.95
        assert high == pytest.approx(1)
    one = Confusion.of(np.array([0]), np.array([1]), 2)
    for low, high in (balanced_accuracy_interval(Counts.of(one)), macro_f1_interval(one)):
        assert low == pytest.approx(0)
        assert 0.5 < high < 1


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40))
def test_intervals_hold_what_was_found(pairs: list[tuple[int, int]]) -> None:
    true, predicted = np.array(pairs, np.int64).T
    confusion = Confusion.of(true, predicted, 4)
    counts = Counts.of(confusion)
    for (low, high), found in (
        (balanced_accuracy_interval(counts), counts.balanced_accuracy()),
        (macro_f1_interval(confusion), counts.macro_f1()),
    ):
        assert 0 <= low <= found + 1e-12
        assert found - 1e-12 <= high <= 1


def losses(kind: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Of an exponential distribution, or of a calibrated classifier of two classes: log(1 + exp(-score))."""
    if kind == "exponential":
        return rng.exponential(size=count)
    apart = 2.0 if kind == "good" else 4.0
    return np.log1p(np.exp(-rng.normal(apart, math.sqrt(2 * apart), count)))


@pytest.mark.parametrize("count", [30, 60, 150, 400])
@pytest.mark.parametrize("kind", ["exponential", "good", "very good"])
def test_mean_loss_is_covered(kind: str, count: int) -> None:
    """Over 1,000 simulated sets; with 30 images of which two are wrong, 91 %."""
    truth = losses(kind, 4_000_000, np.random.default_rng(0)).mean()
    rng = np.random.default_rng(count)
    intervals = [mean_interval(losses(kind, count, rng), 0.0) for _ in range(1000)]
    covered = np.mean([low <= truth <= high for low, high in intervals])
    assert (0.91 if (kind, count) == ("very good", 30) else LEAST) <= covered <= MOST


def test_mean_interval_is_students_without_skewness() -> None:
    values = np.concatenate([np.arange(20.0), -np.arange(20.0)])
    expected = stats.t.interval(0.95, 39, 0, stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected, abs=1e-4)
    assert mean_interval(np.array([2.0])) == mean_interval(np.full(9, 2.0)) == (2.0, 2.0)
    assert mean_interval(np.array([0.0, 0.0, 0.0, 9.0]), 0.0)[0] == 0
    for freedom in (4, 9, 29, 152, 10_000):
        assert _student_97_5(freedom) == pytest.approx(stats.t.ppf(0.975, freedom), abs=0.01)


def test_resampled_counts_are_bootstrap_samples_of_the_images() -> None:
    pairs = np.repeat([(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)], [30, 5, 2, 40, 3], axis=0)
    confusion = Confusion.of(pairs[:, 0], pairs[:, 1], 3)
    counts = resampled_counts(confusion)
    assert (counts.present.sum(1) == 80).all()
    assert (counts.predicted.sum(1) == 80).all()
    assert counts.hits.mean(0) == pytest.approx([30, 40, 0], rel=0.05)
    assert (counts.hits <= np.minimum(counts.present, counts.predicted)).all()
    expected = Counts.of(confusion).balanced_accuracy()
    assert counts.balanced_accuracy().mean() == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_temperature_is_taken_back(temperature: float) -> None:
    scores = np.random.default_rng(6).normal(size=(50, 4)) * 3
    plain, tempered = (np.exp(s) / np.exp(s).sum(1, keepdims=True) for s in (scores, scores / temperature))
    assert sharpen(tempered, temperature) == pytest.approx(plain, abs=1e-9)
    labels = np.arange(50) % 4
    result = evaluate(tempered, labels, list("abcd"), split="val", temperature=temperature)
    assert result.log_loss_uncalibrated == pytest.approx(reference.log_loss(labels, plain))


def test_a_certain_mistake_stays_finite() -> None:
    assert math.isfinite(negative_log_likelihood(np.array([[1.0, 0.0]]), np.array([1]))[0])


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        evaluate(np.ones((3, 2)) / 2, np.zeros(2, int), ["a", "b"], split="val")
    with pytest.raises(ValueError, match="labels"):
        evaluate(np.ones((0, 2)), np.zeros(0, int), ["a", "b"], split="val")


def test_many_classes_take_little_memory_and_time() -> None:
    probabilities, labels = predictions(3000, 1000, 7)
    result = evaluate(probabilities, labels, [str(i) for i in range(1000)], split="val")
    assert 0 < result.balanced_accuracy_interval[0] <= result.balanced_accuracy_interval[1] < 1
