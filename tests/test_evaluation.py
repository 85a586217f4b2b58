"""Metrics and intervals against scikit-learn, SciPy and simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from headstart.evaluation import evaluate
from headstart.evaluation.intervals import bootstrap_mean, percentiles, resampled_counts, wilson
from headstart.evaluation.metrics import (
    Confusion,
    Counts,
    calibration_error,
    negative_log_likelihood,
    sharpen,
)


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


def test_bootstrap_intervals_cover_the_truth() -> None:
    """Balanced accuracy and mean loss of a known distribution, over 300 simulated sets of 200 images."""
    rng = np.random.default_rng(4)
    recall, hits = (0.9, 0.7, 0.8), {"balanced": 0, "mean": 0}
    for seed in range(300):
        labels = np.repeat([0, 1, 2], [80, 60, 60])
        right = rng.random(200) < np.array(recall)[labels]
        confusion = Confusion.of(labels, np.where(right, labels, (labels + 1) % 3), 3)
        low, high = percentiles(resampled_counts(confusion, seed).balanced_accuracy())
        hits["balanced"] += low <= np.mean(recall) <= high
        if seed < 100:
            low, high = bootstrap_mean(rng.exponential(size=200), seed)
            hits["mean"] += low <= 1 <= high
    assert 0.91 <= hits["balanced"] / 300 <= 0.98
    assert hits["mean"] >= 88


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


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05]] * 10 + [[0.45, 0.55]] * 10)
    labels = np.array([0] * 8 + [1] * 2 + [1] * 5 + [0] * 5)
    # 0.95 against 8 of 10 right, 0.55 against 5 of 10 right.
    assert calibration_error(probabilities, labels) == pytest.approx((0.15 + 0.05) / 2)


def test_calibration_error_of_calibrated_predictions_is_small() -> None:
    rng = np.random.default_rng(5)
    first = rng.uniform(0, 1, 200_000)
    probabilities = np.stack([first, 1 - first], 1)
    labels = (rng.random(200_000) > first).astype(int)
    assert calibration_error(probabilities, labels) < 0.005
    assert calibration_error(sharpen(probabilities, 3.0), labels) > 0.05


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
