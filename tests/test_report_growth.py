"""The learning curve over the number of images, against worlds in which the truth is known."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import headstart
from headstart.evaluation import learning_curve as curves
from headstart.evaluation.labels_curve import MEAN_AVERAGE_PRECISION
from headstart.evaluation.learning_curve import Part, learning_curve
from headstart.report import growth
from headstart.report.growth import forecast, forecast_labels


def nearest_mean(features: Any, labels: Any, asked: Any) -> Any:
    means = np.stack([features[labels == label].mean(0) for label in range(labels.max() + 1)])
    return (asked @ means.T - 0.5 * (means**2).sum(1)).argmax(1)


def gaussian_world(distance: float, dimensions: int = 60, classes: int = 3) -> Callable[..., Any]:
    """Classes that are told the better the more images there are, and whose accuracy a large draw measures."""
    centres = np.random.default_rng(99).normal(0, 1, (classes, dimensions))
    centres *= distance / np.linalg.norm(centres, axis=1, keepdims=True)

    def draw(images: int, seed: int) -> tuple[Any, Any]:
        rng = np.random.default_rng([seed, images])
        labels = np.arange(images) % classes
        return (centres[labels] + rng.normal(0, 1, (images, dimensions))).astype(np.float32), labels

    return draw


def true_accuracy(draw: Callable[..., Any], images: int) -> float:
    asked, truth = draw(3000, 1)
    return float(np.mean([(nearest_mean(*draw(images, 100 + seed), asked) == truth).mean() for seed in range(15)]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("distance", "images", "held_out"), [(2, 60, 150), (3, 60, 150), (2, 240, 600), (2.5, 120, 300)]
)
def test_intervals_hold_the_truth(distance: float, images: int, held_out: int) -> None:
    draw = gaussian_world(distance)
    now, twice = true_accuracy(draw, images), true_accuracy(draw, 2 * images)
    found = [
        learning_curve([Part(*draw(images, 1000 + seed), *draw(held_out, 5000 + seed))], nearest_mean, seed=seed)
        for seed in range(100)
    ]
    known = [one for one in found if one.accuracy is not None]
    assert len(known) > 80
    assert np.mean([one.interval[0] <= twice <= one.interval[1] for one in known]) >= 0.93
    assert np.mean([one.gain_interval[0] <= twice - now <= one.gain_interval[1] for one in known]) >= 0.93
    assert abs(np.mean([one.accuracy for one in known]) - twice) < 0.02


def test_no_gain_is_claimed_where_there_is_none() -> None:
    """Of two classes that no number of images tells apart."""
    told = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        part = Part(
            rng.normal(size=(120, 8)).astype(np.float32), np.arange(120) % 2,
            rng.normal(size=(100, 8)).astype(np.float32), np.arange(100) % 2,
        )  # fmt: skip
        told += learning_curve([part], nearest_mean, seed=seed).told
    assert told <= 4


def test_a_gain_is_told_where_it_is_large() -> None:
    draw = gaussian_world(2.0)
    curve = learning_curve([Part(*draw(60, 1), *draw(1500, 2))], nearest_mean)
    assert curve.told
    assert curve.gain_interval is not None
    assert curve.gain_interval[0] > 0
    assert [point.images for point in curve.points] == [8, 15, 30, 60]
    accuracies = [point.accuracy for point in curve.points]
    assert accuracies == sorted(accuracies)
    assert curve.twice == 120


def test_errors_that_follow_a_power_are_carried_on_by_it() -> None:
    """Of 10,000 held-out images, exactly 0.4 n^-0.5 are mistaken: twice the images must be forecast as it says."""

    def fit(features: Any, labels: Any, asked: Any) -> Any:
        return (np.arange(len(asked)) >= 0.4 * len(labels) ** -0.5 * len(asked)).astype(int)

    part = Part(
        np.zeros((800, 1), np.float32), np.arange(800) % 2, np.zeros((10000, 1), np.float32), np.ones(10000, int)
    )
    curve = learning_curve([part], fit)
    assert curve.power == pytest.approx(0.5, abs=0.01)
    assert curve.accuracy == pytest.approx(1 - 0.4 * 1600**-0.5, abs=2e-4)
    # With a floor the same points would gain the fraction of the last doubling that it gained of the one before.
    assert curve.interval is not None
    assert curve.interval[0] < curve.accuracy < curve.interval[1]


@pytest.mark.parametrize(("images", "wrong", "words"), [(4, 10, "too few images"), (100, 1, "what is left is noise")])
def test_it_says_why_there_is_no_forecast(images: int, wrong: int, words: str) -> None:
    def fit(features: Any, labels: Any, asked: Any) -> Any:
        return (np.arange(len(asked)) >= wrong).astype(int)

    part = Part(
        np.zeros((images, 1), np.float32), np.arange(images) % 2, np.zeros((40, 1), np.float32), np.ones(40, int)
    )
    curve = learning_curve([part], fit)
    assert words in curve.reason
    assert curve.accuracy is None
    assert not curve.told


def test_shares_are_nested_and_keep_the_proportions_of_the_classes() -> None:
    labels = np.array([0] * 30 + [1] * 10)
    order = curves.order_of_kinds(labels, np.random.default_rng(0))
    assert sorted(order.tolist()) == list(range(40))
    for beginning in (8, 20, 40):
        assert np.bincount(labels[order[:beginning]])[1] == pytest.approx(beginning / 4, abs=1)
    assert order.tolist() != curves.order_of_kinds(labels, np.random.default_rng(1)).tolist()


# Of several labels an image


def labels_world(images: int, seed: int) -> tuple[Any, Any]:
    """Three labels, each of which moves an image of 40 numbers a little along a direction of its own."""
    rng = np.random.default_rng([seed, images])
    truth = (rng.random((images, 3)) < [0.2, 0.3, 0.5]).astype(np.int8)
    return (1.5 * truth @ np.eye(3, 40) + rng.normal(0, 1, (images, 40))).astype(np.float32), truth


def differences(features: Any, labels: Any, asked: Any) -> Any:
    """Scores by the difference of the means of images with and without each label."""
    have, lack = (np.stack([features[one].mean(0) for one in (labels == value).T], 1) for value in (1, 0))
    return asked @ (have - lack)


def wanting(asked: Any, truth: Any, images: int) -> float:
    scores = [differences(*labels_world(images, 100 + seed), asked) for seed in range(25)]
    return float(np.mean([MEAN_AVERAGE_PRECISION.errors(one, truth).mean() for one in scores]))


@pytest.mark.slow
def test_intervals_of_labels_hold_the_truth() -> None:
    world = labels_world(4000, 1)
    now, twice = 1 - wanting(*world, 100), 1 - wanting(*world, 200)
    found = [
        learning_curve(
            [Part(*labels_world(100, 1000 + seed), *labels_world(250, 5000 + seed))], differences,
            MEAN_AVERAGE_PRECISION, seed=seed,
        )
        for seed in range(100)
    ]  # fmt: skip
    known = [one for one in found if one.accuracy is not None]
    assert len(known) > 80
    assert np.mean([one.interval[0] <= twice <= one.interval[1] for one in known]) >= 0.92
    assert np.mean([one.gain_interval[0] <= twice - now <= one.gain_interval[1] for one in known]) >= 0.92
    assert abs(np.mean([one.accuracy for one in known]) - twice) < 0.02
    assert np.mean([one.points[-1].interval[0] <= now <= one.points[-1].interval[1] for one in known]) >= 0.9


def test_the_curve_of_labels_ends_at_the_measured_number(labelled: headstart.Run) -> None:
    """Of a cross-validation, up to the temperatures of its rounds; with fewer labels where one is too rare."""
    labels = labelled.fitted.data.targets.labels
    curve = forecast_labels(labelled.fitted, labelled.recipe, labels)
    assert not isinstance(curve, str)
    assert (curve.measure, curve.left_out, curve.components) == ("mean average precision", 0, None)
    assert curve.points[-1].accuracy == pytest.approx(labelled.evaluation.mean_average_precision, abs=0.01)  # type: ignore[attr-defined]
    assert curve.points[0].accuracy < curve.points[-1].accuracy
    rare = labels.copy()
    rare[np.flatnonzero(rare[:, 1] == 1)[8:], 1] = 0
    fewer = forecast_labels(labelled.fitted, labelled.recipe, rare)
    assert not isinstance(fewer, str)
    assert fewer.left_out == 1
    none = forecast_labels(labelled.fitted, labelled.recipe, np.zeros_like(labels))
    assert isinstance(none, str)
    assert "too few images" in none


def test_the_last_point_is_the_probe_itself(photos: Path, warm: Path) -> None:
    """The fit of all training images is the model that was handed out."""
    run = headstart.train(photos, runtime=headstart.Runtime(cache=warm))
    labels = np.array([run.fitted.data.targets.names.index(row.label) for row in run.fitted.data.table.rows])
    curve = forecast(run.fitted, run.recipe, labels)
    assert not isinstance(curve, str)
    assert curve.points[-1].images == run.fitted.partition.names().count("train")
    assert curve.points[-1].accuracy == pytest.approx(run.evaluation.accuracy, abs=0.5 / 153)
    assert curve.components is None
    trained = dataclasses.replace(run.recipe, strategy="finetune", precision="float32")
    assert isinstance(forecast(run.fitted, trained, labels), str)  # its embeddings have seen all training images


@pytest.mark.slow
def test_digits_end_at_the_accuracy_of_the_run_or_say_why_not(
    digits: Path, warm: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their embeddings differ in components that vary little: the first 96 alone give 95.6 % in place of 99.2 %."""
    run = headstart.train(digits, runtime=headstart.Runtime(cache=warm))
    labels = np.array([run.fitted.data.targets.names.index(row.label) for row in run.fitted.data.table.rows])
    curve = forecast(run.fitted, run.recipe, labels)
    assert not isinstance(curve, str)
    assert curve.points[-1].accuracy == pytest.approx(run.evaluation.accuracy, abs=0.5 / 360)
    monkeypatch.setattr(growth, "MAX_VALUES", 100 * 1437 * 10)
    reduced = forecast(run.fitted, run.recipe, labels)
    assert not isinstance(reduced, str)
    assert (curve.components, reduced.components) == (None, 100)
    page = (run.save(digits.parent / "digits-run") / "report.html").read_text()
    assert "on the first 100 principal components of the embeddings" in page


def test_a_cross_validated_run_has_a_curve_over_its_folds(shapes: Path) -> None:
    run = headstart.train(shapes)
    assert run.evaluation.split == "cross-validation"
    labels = np.array([run.fitted.data.targets.names.index(row.label) for row in run.fitted.data.table.rows])
    curve = forecast(run.fitted, run.recipe, labels)
    assert not isinstance(curve, str)
    assert curve.points[-1].images == round(len(labels) * 4 / 5)
