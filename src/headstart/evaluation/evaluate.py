"""The evaluation: all numbers on a set of held-out predictions, with their intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.markup import between, joined, paragraph, percent, table
from headstart.core.text import counted, portable
from headstart.evaluation import metrics
from headstart.evaluation.as_json import plain
from headstart.evaluation.calibration import Bin, calibration_error, expected_calibration_error, reliability
from headstart.evaluation.intervals import (
    Interval,
    balanced_accuracy_interval,
    macro_f1_interval,
    mean_interval,
    wilson,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray


_SHOWN = 50  # classes in a notebook


@dataclass(frozen=True)
class ClassResult:
    """The results of one class.

    Attributes:
        label: Its name.
        images: Held-out images of it.
        predicted: Held-out images that were predicted to be of it.
        precision: Share of those that are; None when there are none.
        recall: Share of its images that were found; None when there are none.
        recall_interval: 95 % Wilson interval of the recall.
        f1: Harmonic mean of precision and recall; None when the class is neither present nor predicted.
    """

    label: str
    images: int
    predicted: int
    precision: float | None
    recall: float | None
    recall_interval: Interval | None
    f1: float | None


@dataclass(frozen=True)
class Evaluation:
    """Numbers on held-out images. Intervals are at 95 %; shares are in 0..1; losses in nats.

    Attributes:
        split: What was held out: ``val``, ``test``, ``cross-validation``, or ``all`` images of a source without splits.
        n: Number of images.
        correct: Number predicted right.
        accuracy: Share predicted right, with Wilson's interval.
        balanced_accuracy: Mean recall over the classes.
        macro_f1: Mean F1 over the classes.
        log_loss: Mean negative log likelihood.
        log_loss_uncalibrated: The same before the temperature.
        calibration_error: Expected calibration error after the temperature.
        calibration_error_by_chance: What it would be with so many images, were all probabilities true.
        calibration_error_uncalibrated: The same before the temperature.
        reliability: The bars of the reliability diagram, after the temperature.
        classes: Results of each class.
        confusion: True class, predicted class (both as places in `classes`) and images of each pair that occurs.
    """

    split: str
    n: int
    correct: int
    accuracy: float
    accuracy_interval: Interval
    balanced_accuracy: float
    balanced_accuracy_interval: Interval
    macro_f1: float
    macro_f1_interval: Interval
    log_loss: float
    log_loss_interval: Interval
    log_loss_uncalibrated: float
    calibration_error: float
    calibration_error_interval: Interval
    calibration_error_by_chance: float
    calibration_error_uncalibrated: float
    reliability: tuple[Bin, ...]
    classes: tuple[ClassResult, ...]
    confusion: tuple[tuple[int, int, int], ...]

    def __repr__(self) -> str:
        return f"Evaluation({self.headline} on {counted(self.n, 'image')}, {self.split})"

    @property
    def headline(self) -> str:
        """The number that matters most, with its interval, in a few words."""
        low, high = self.accuracy_interval
        return f"accuracy {self.accuracy:.3f} ({low:.3f} to {high:.3f})"

    def _repr_html_(self) -> str:
        """What a notebook shows: the numbers, and how each class fares."""
        numbers = [
            ("Accuracy", percent(self.accuracy), between(self.accuracy_interval)),
            ("Balanced accuracy", percent(self.balanced_accuracy), between(self.balanced_accuracy_interval)),
            ("Macro F1", percent(self.macro_f1), between(self.macro_f1_interval)),
            ("Log loss", f"{self.log_loss:.3f}", "{:.3f} to {:.3f}".format(*self.log_loss_interval)),
            ("Calibration error", percent(self.calibration_error), between(self.calibration_error_interval)),
        ]
        classes = [
            (one.label, f"{one.images:,}", percent(one.recall), between(one.recall_interval), percent(one.precision))
            for one in self.classes[:_SHOWN]
        ]
        left = len(self.classes) - len(classes)
        return joined([
            paragraph(f"{self.correct:,} of {counted(self.n, 'image')} correct ({self.split})"),
            table(["", "", "95 % interval"], numbers, right=(1, 2)),
            table(["Class", "Images", "Recall", "95 % interval", "Precision"], classes, right=(1, 2, 3, 4)),
            paragraph(f"and {counted(left, 'more class', 'more classes')}") if left else "",
        ])  # fmt: skip

    def as_dict(self) -> dict[str, object]:
        """The evaluation as JSON values."""
        record = {
            **self.__dict__,
            "reliability": [one.__dict__ for one in self.reliability],
            "classes": [one.__dict__ | {"label": portable(one.label)} for one in self.classes],
        }
        return {key: plain(value) for key, value in record.items()}


def measure(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    split: str,
    calibrations: NDArray[np.object_],
) -> Evaluation:
    """The same as `evaluate`, with the `headstart.targets.Calibration` of each image, (N,)."""
    temperatures = np.array([one.temperature for one in calibrations], np.float64)
    return evaluate(probabilities, labels, classes, split=split, temperature=temperatures)


def evaluate(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int64],
    classes: Sequence[str],
    *,
    split: str,
    temperature: NDArray[np.float64] | float = 1.0,
) -> Evaluation:
    """Evaluate held-out predictions.

    Args:
        probabilities: (N, C), calibrated; each row sums to 1.
        labels: Class index of each image, (N,), in 0..C-1.
        classes: Names of the classes, in the order of the columns.
        split: What was held out.
        temperature: What the scores were divided by, one number or one for each image (N,).

    Raises:
        ValueError: There is no image, or the shapes do not fit.
    """
    if probabilities.shape != (len(labels), len(classes)) or not len(labels):
        raise ValueError(f"probabilities {probabilities.shape} for {len(labels)} labels of {len(classes)} classes")
    power = np.reshape(temperature, (-1, 1)) if np.ndim(temperature) else temperature
    uncalibrated = metrics.sharpen(probabilities, power)
    predicted = probabilities.argmax(1)
    confusion = metrics.Confusion.of(labels, predicted, len(classes))
    counts = metrics.Counts.of(confusion)
    calibrated = calibration_error(probabilities, labels)
    losses = metrics.negative_log_likelihood(probabilities, labels)
    correct = int(counts.hits.sum())
    return Evaluation(
        split=split,
        n=len(labels),
        correct=correct,
        accuracy=correct / len(labels),
        accuracy_interval=wilson(correct, len(labels)),
        balanced_accuracy=float(counts.balanced_accuracy()),
        balanced_accuracy_interval=balanced_accuracy_interval(counts),
        macro_f1=float(counts.macro_f1()),
        macro_f1_interval=macro_f1_interval(confusion),
        log_loss=float(losses.mean()),
        log_loss_interval=mean_interval(losses, 0.0),
        log_loss_uncalibrated=float(metrics.negative_log_likelihood(uncalibrated, labels).mean()),
        calibration_error=calibrated.error,
        calibration_error_interval=calibrated.interval,
        calibration_error_by_chance=calibrated.by_chance,
        calibration_error_uncalibrated=expected_calibration_error(uncalibrated, labels),
        reliability=reliability(probabilities, labels),
        classes=_class_results(counts, classes),
        confusion=tuple(zip(*(column.tolist() for column in confusion[:3]), strict=True)),
    )


def _class_results(counts: metrics.Counts, classes: Sequence[str]) -> tuple[ClassResult, ...]:
    precision, recall, f1 = counts.precisions(), counts.recalls(), counts.f1_scores()
    return tuple(
        ClassResult(
            label=label,
            images=(images := int(counts.present[i])),
            predicted=int(counts.predicted[i]),
            precision=_defined(precision[i]),
            recall=_defined(recall[i]),
            recall_interval=wilson(int(counts.hits[i]), images) if images else None,
            f1=_defined(f1[i]),
        )
        for i, label in enumerate(classes)
    )


def _defined(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
