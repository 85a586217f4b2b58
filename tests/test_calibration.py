"""Reliability and calibration error: against an independent reference, by hand, and by simulation."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binned_statistic
from sklearn.calibration import calibration_curve

from headstart.evaluation import calibration, evaluate
from headstart.evaluation.calibration import (
    MAX_DRAWN,
    _by_chance,
    _folded,
    calibration_error,
    expected_calibration_error,
    reliability,
)
from headstart.evaluation.intervals import wilson
from headstart.evaluation.metrics import sharpen
from helpers import numbers_of_other_types


def drawn(
    count: int, classes: int, apart: float, power: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Labels (N,) of normal classes whose centres are apart; before, their probabilities (N, C), sharpened."""
    labels = rng.integers(0, classes, count)
    scores = rng.normal(size=(count, classes))
    scores[np.arange(count), labels] += apart
    scores *= apart * power
    powers = np.exp(scores - scores.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True), labels


@pytest.mark.parametrize(("count", "classes"), [(40, 2), (153, 2), (1000, 7)])
def test_against_scikit_learn_and_scipy(count: int, classes: int) -> None:
    """The bins of scikit-learn's calibration curve, and SciPy's binned means."""
    probabilities, labels = drawn(count, classes, 1.5, 1.4, np.random.default_rng(count))
    confidence, right = probabilities.max(1), probabilities.argmax(1) == labels
    bins = reliability(probabilities, labels)
    accuracies, confidences = calibration_curve(right, confidence, n_bins=15)
    assert [one.accuracy for one in bins] == pytest.approx(accuracies.tolist())
    assert [one.confidence for one in bins] == pytest.approx(confidences.tolist())
    images, edges, _ = binned_statistic(confidence, right, "count", bins=15, range=(0, 1))
    kept = images > 0
    assert [one.images for one in bins] == images[kept].astype(int).tolist()
    assert [one.low for one in bins] == pytest.approx(edges[:-1][kept].tolist())
    assert [one.high for one in bins] == pytest.approx(edges[1:][kept].tolist())
    expected = np.average(np.abs(accuracies - confidences), weights=images[kept])
    assert expected_calibration_error(probabilities, labels) == pytest.approx(expected)
    assert calibration_error(probabilities, labels).error == pytest.approx(expected)
    for one in bins:
        assert one.accuracy_interval == wilson(round(one.accuracy * one.images), one.images)


def test_by_hand() -> None:
    probabilities = np.array([[0.95, 0.05]] * 10 + [[0.45, 0.55]] * 10)
    labels = np.array([0] * 8 + [1] * 2 + [1] * 5 + [0] * 5)
    # 0.95 against 8 of 10 right, 0.55 against 5 of 10 right.
    assert calibration_error(probabilities, labels).error == pytest.approx((0.15 + 0.05) / 2)
    low, high = reliability(probabilities, labels)
    assert (low.images, low.confidence, low.accuracy) == (10, pytest.approx(0.55), 0.5)
    assert (high.images, high.confidence, high.accuracy) == (10, pytest.approx(0.95), 0.8)
    assert (low.low, low.high) == (pytest.approx(8 / 15), pytest.approx(9 / 15))


def test_calibrated_predictions_of_many_images() -> None:
    probabilities, labels = drawn(200_000, 2, 1.5, 1.0, np.random.default_rng(5))
    found = calibration_error(probabilities, labels)
    assert found.error < 0.005
    assert found.interval[0] == 0
    assert found.interval[1] < 0.01
    assert expected_calibration_error(sharpen(probabilities, 3.0), labels) > 0.05


# Apart, power: true, a little too sure, much too sure, too modest.
CASES = [(2, 2.0, 1.0), (2, 2.0, 1.3), (2, 2.0, 0.6), (10, 3.0, 1.0), (10, 3.0, 2.0), (2, 3.2, 1.0)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("classes", "apart", "power", "count"),
    [*((*case, 153) for case in CASES), (*CASES[0], 50), (*CASES[4], 50), (*CASES[1], 500), (*CASES[3], 500)],
)
def test_interval_covers_the_truth(
    classes: int, apart: float, power: float, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over 1,000 simulated sets: 93 to 98 %, and more where next to none is wrong; a bootstrap covers 0 to 95 %."""
    monkeypatch.setattr(calibration, "RESAMPLES", 200)  # five times as quick
    many = np.random.default_rng(0)
    truth = expected_calibration_error(*drawn(1_000_000, classes, apart, power, many)) if power != 1 else 0.0
    rng, covered = np.random.default_rng(count), 0
    for seed in range(1000):
        low, high = calibration_error(*drawn(count, classes, apart, power, rng), seed).interval
        covered += low <= truth <= high
    assert 0.915 <= covered / 1000 <= (0.99 if apart < 3 or classes > 2 else 1.0)


def test_chance_is_what_true_probabilities_show() -> None:
    """The same by single draws and by normal sums; and what new calibrated sets show on average."""
    rng = np.random.default_rng(1)
    errors, chances = [], []
    for seed in range(200):
        probabilities, labels = drawn(153, 2, 2.0, 1.0, rng)
        found = calibration_error(probabilities, labels, seed)
        errors.append(found.error)
        chances.append(found.by_chance)
    assert np.mean(chances) == pytest.approx(np.mean(errors), rel=0.05)
    confidence = drawn(MAX_DRAWN, 2, 2.0, 1.0, rng)[0].max(1)
    exact = _by_chance(confidence, np.random.default_rng(2))
    normal = _by_chance(np.repeat(confidence, 2), np.random.default_rng(2)) * math.sqrt(2)
    assert exact.mean() == pytest.approx(normal.mean(), rel=0.03)
    assert np.quantile(exact, 0.95) == pytest.approx(np.quantile(normal, 0.95), rel=0.05)


def test_mean_of_a_folded_normal() -> None:
    draws = np.random.default_rng(3).normal(size=400_000)
    for mean, std in ((0.0, 1.0), (0.7, 0.5), (3.0, 0.1), (0.2, 0.0)):
        assert _folded(mean, std) == pytest.approx(np.abs(mean + std * draws).mean(), abs=0.005)


@given(st.integers(1, 60), st.integers(2, 5), st.integers(0, 1000))
def test_interval_holds_what_was_found(count: int, classes: int, seed: int) -> None:
    probabilities, labels = drawn(count, classes, 2.0, 1.5, np.random.default_rng(seed))
    error, (low, high), chance = calibration_error(probabilities, labels)
    assert 0 <= low <= error <= high <= 1
    assert 0 <= chance <= 1


@pytest.mark.parametrize("power", [0.5, 1.0, 4.0])
def test_an_evaluation_holds_no_number_of_numpy(power: float) -> None:
    """Whichever bound of an interval is the one that counts."""
    for seed in range(10):
        probabilities, labels = drawn(60, 3, 2.0, power, np.random.default_rng(seed))
        assert numbers_of_other_types(evaluate(probabilities, labels, list("abc"), split="val")) == []


def test_evaluation_tells_them() -> None:
    probabilities, labels = drawn(153, 3, 2.0, 1.5, np.random.default_rng(6))
    record = json.loads(
        json.dumps(evaluate(probabilities, labels, list("abc"), split="val").as_dict(), allow_nan=False)
    )
    assert record["calibration_error_interval"][0] <= record["calibration_error"]
    assert 0 < record["calibration_error_by_chance"] < 0.2
    bars = record["reliability"]
    assert sum(one["images"] for one in bars) == 153
    assert set(bars[0]) == {"low", "high", "images", "confidence", "accuracy", "accuracy_interval"}
    error = sum(one["images"] * abs(one["confidence"] - one["accuracy"]) for one in bars) / 153
    assert record["calibration_error"] == pytest.approx(error)
    certain = evaluate(np.eye(2)[[0, 1]], np.array([0, 1]), ["a", "b"], split="val")
    assert certain.calibration_error == 0
    assert certain.calibration_error_interval[0] == 0
    assert [one.images for one in certain.reliability] == [2]
