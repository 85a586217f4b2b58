"""The evaluation where an image has any number of labels: each of them, and all together, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from headstart.core.text import counted, portable
from headstart.evaluation.as_json import plain
from headstart.evaluation.average_precision import average_precision, average_precision_interval
from headstart.evaluation.intervals import Interval, mean_interval, wilson, with_variance
from headstart.evaluation.label_curves import f1_interval
from headstart.evaluation.labels_calibration import labels_calibration_error
from headstart.evaluation.labels_spread import (
    LabelCounts,
    exact_match_by_frequency,
    micro_f1_by_frequency,
    occurring_together,
    spread_of,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

_SMALLEST = 1e-15  # probability


@dataclass(frozen=True)
class LabelResult:
    """The results of one label, on the images of which it is known. Shares are in 0..1.

    Attributes:
        label: Its name.
        images: Images of which it is known.
        positives: Those that have it.
        predicted: Those that were predicted to have it.
        correct: Those that were, and have it.
        threshold: From what probability on it is predicted; the mean over the models of a cross-validation.
        average_precision: None where no image has it.
        average_precision_interval: Of that.
        average_precision_by_frequency: What a random order gets: the share of the images that have it.
        precision: Share of `correct` in `predicted`; None where nothing was predicted.
        precision_interval: Wilson's.
        precision_by_frequency: What random predictions get: the share of the images that have it.
        recall: Share of `correct` in `positives`; None where no image has it.
        recall_interval: Wilson's.
        recall_by_frequency: What as many random predictions get: the share of the images that were predicted.
        f1: Harmonic mean of the two; None where no image has it and none was predicted to.
        f1_interval: See `headstart.evaluation.label_curves.f1_interval`.
        f1_by_frequency: What predicting it of every image gets.
        log_loss: Mean, in nats.
        log_loss_interval: See `headstart.evaluation.intervals.mean_interval`.
        log_loss_by_frequency: What its share of the measured images gets as the probability of each.
    """

    label: str
    images: int
    positives: int
    predicted: int
    correct: int
    threshold: float
    average_precision: float | None
    average_precision_interval: Interval | None
    average_precision_by_frequency: float | None
    precision: float | None
    precision_interval: Interval | None
    precision_by_frequency: float | None
    recall: float | None
    recall_interval: Interval | None
    recall_by_frequency: float | None
    f1: float | None
    f1_interval: Interval | None
    f1_by_frequency: float | None
    log_loss: float | None
    log_loss_interval: Interval | None
    log_loss_by_frequency: float | None


@dataclass(frozen=True)
class LabelsEvaluation:
    """Numbers on held-out images. Intervals are at 95 %; shares are in 0..1; losses in nats.

    Attributes:
        split: What was held out: ``val``, ``test``, ``cross-validation``, or ``all`` images of a source without splits.
        n: Number of images.
        exact: Images of which every known label was predicted right.
        exact_match: Their share, with Wilson's interval.
        exact_match_by_frequency: What predicting the commonest combination of every image gets.
        mean_average_precision: Mean over the labels that some image has.
        mean_average_precision_by_frequency: What a random order gets.
        micro_f1: F1 over all pairs of image and label.
        micro_f1_by_frequency: The largest that predicting the same labels of every image gets.
        macro_f1: Mean F1 over the labels.
        macro_f1_by_frequency: What predicting every label of every image gets.
        log_loss: Mean over the images, of the mean over the labels that are known of one.
        log_loss_by_frequency: What the share of each label gets.
        calibration_error: Expected calibration error over all pairs of image and label, with 15 bins.
        calibration_error_by_chance: What it would be with so many images, were all probabilities true.
        unknown: Pairs of image and label that are not known.
        labels: Results of each label.
        together: Of each pair of labels (places in `labels`, the first before the second), the images that have both;
            those of at least one image.
    """

    split: str
    n: int
    exact: int
    exact_match: float
    exact_match_interval: Interval
    exact_match_by_frequency: float
    mean_average_precision: float | None
    mean_average_precision_interval: Interval | None
    mean_average_precision_by_frequency: float | None
    micro_f1: float | None
    micro_f1_interval: Interval | None
    micro_f1_by_frequency: float | None
    macro_f1: float | None
    macro_f1_interval: Interval | None
    macro_f1_by_frequency: float | None
    log_loss: float
    log_loss_interval: Interval
    log_loss_by_frequency: float
    calibration_error: float
    calibration_error_interval: Interval
    calibration_error_by_chance: float
    unknown: int
    labels: tuple[LabelResult, ...]
    together: tuple[tuple[int, int, int], ...]

    def __repr__(self) -> str:
        return f"LabelsEvaluation({self.headline} on {counted(self.n, 'image')}, {self.split})"

    @property
    def headline(self) -> str:
        """The number that matters most, with its interval, in a few words."""
        if self.mean_average_precision is None or self.mean_average_precision_interval is None:
            return f"exact match {self.exact_match:.3f}"
        low, high = self.mean_average_precision_interval
        return f"mean average precision {self.mean_average_precision:.3f} ({low:.3f} to {high:.3f})"

    def as_dict(self) -> dict[str, object]:
        """The evaluation as JSON values."""
        record: dict[str, object] = dict(self.__dict__)
        record["labels"] = [one.__dict__ | {"label": portable(one.label)} for one in self.labels]
        return {key: plain(value) for key, value in record.items()}


def measure(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int8],
    names: Sequence[str],
    *,
    split: str,
    calibrations: NDArray[np.object_],
) -> LabelsEvaluation:
    """Evaluate held-out predictions.

    Args:
        probabilities: (N, C), calibrated.
        labels: 1, 0, or below 0 for not known, (N, C).
        names: Names of the labels.
        split: What was held out.
        calibrations: The `headstart.targets.labels.sigmoid.Sigmoid` of each image, (N,), with its thresholds.
    """
    thresholds = np.array([one.thresholds or (0.5,) * len(names) for one in calibrations])
    return evaluate(probabilities, labels, names, split=split, thresholds=thresholds)


def evaluate(
    probabilities: NDArray[np.float64],
    labels: NDArray[np.int8],
    names: Sequence[str],
    *,
    split: str,
    thresholds: NDArray[np.float64],
    seed: int = 0,
) -> LabelsEvaluation:
    """The same with the thresholds of each image, (N, C), and the seed of the bootstrap.

    Raises:
        ValueError: There is no image, or the shapes do not fit.
    """
    if not len(labels) or probabilities.shape != labels.shape or labels.shape[1:] != (len(names),):
        raise ValueError(f"probabilities {probabilities.shape}, labels {labels.shape}, {len(names)} names")
    known, truth, found = labels >= 0, labels == 1, probabilities >= thresholds
    results = tuple(
        _label(name, probabilities[own, i], truth[own, i], found[own, i], float(thresholds[:, i].mean()))
        for i, name in enumerate(names) for own in [known[:, i]]
    )  # fmt: skip
    frequencies = np.divide(truth.sum(0), known.sum(0), out=np.zeros(len(names)), where=known.any(0))
    exact, losses = judged(probabilities, labels, found)
    counts = LabelCounts.of(known, truth, found)
    micro, macro = (_value(one) for one in (counts.micro(), counts.macro()))
    mean, chance, always = (
        _mean(getattr(one, name) for one in results if one.positives)
        for name in ("average_precision", "average_precision_by_frequency", "f1_by_frequency")
    )
    spread = spread_of(probabilities, labels, found, np.random.default_rng(seed))
    calibration = labels_calibration_error(probabilities, truth, known, seed)
    around = partial(_around, positives=int(truth.sum()))
    return LabelsEvaluation(
        split=split,
        n=len(labels),
        exact=int(exact.sum()),
        exact_match=float(exact.mean()),
        exact_match_interval=wilson(int(exact.sum()), len(exact)),
        exact_match_by_frequency=exact_match_by_frequency(labels),
        mean_average_precision=mean,
        mean_average_precision_interval=around(mean, spread.mean_average_precision),
        mean_average_precision_by_frequency=chance,
        micro_f1=micro,
        micro_f1_interval=around(micro, spread.micro_f1),
        micro_f1_by_frequency=micro_f1_by_frequency(truth.sum(0), known.sum(0)),
        macro_f1=macro,
        macro_f1_interval=around(macro, spread.macro_f1),
        macro_f1_by_frequency=always,
        log_loss=float(losses.mean()),
        log_loss_interval=mean_interval(losses, least=0.0),
        log_loss_by_frequency=float(_losses(np.tile(frequencies, (len(labels), 1)), labels).mean()),
        calibration_error=calibration.error,
        calibration_error_interval=calibration.interval,
        calibration_error_by_chance=calibration.by_chance,
        unknown=int((~known).sum()),
        labels=results,
        together=occurring_together(truth),
    )


def judge(
    probabilities: NDArray[np.float64], labels: NDArray[np.int8]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Whether all labels of each image are right by a probability of a half, (N,), and its loss in nats, (N,)."""
    return judged(probabilities, labels, probabilities >= 0.5)


def judged(
    probabilities: NDArray[np.float64], labels: NDArray[np.int8], found: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """The same for labels that were decided on, bool (N, C)."""
    return np.asarray(((found == (labels == 1)) | (labels < 0)).all(1)), _losses(probabilities, labels)


def _losses(probabilities: NDArray[np.float64], labels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Mean loss of each image over the labels that are known of it, (N,), in nats."""
    right = np.where(labels == 1, probabilities, 1 - probabilities)
    known = labels >= 0
    each = np.where(known, -np.log(np.maximum(right, _SMALLEST)), 0)
    result: NDArray[np.float64] = each.sum(1) / np.maximum(known.sum(1), 1)
    return result


def _label(
    name: str, probabilities: NDArray[np.float64], truth: NDArray[np.bool_], found: NDArray[np.bool_], threshold: float
) -> LabelResult:
    images, positives, predicted, correct = len(truth), int(truth.sum()), int(found.sum()), int((truth & found).sum())
    share = positives / images if images else None
    average = average_precision(probabilities, truth) if positives else None
    losses = -np.log(np.maximum(np.where(truth, probabilities, 1 - probabilities), _SMALLEST))
    entropy = [-p * math.log(p) for p in (share or 0, 1 - (share or 0)) if p > 0]
    return LabelResult(
        label=name,
        images=images,
        positives=positives,
        predicted=predicted,
        correct=correct,
        threshold=threshold,
        average_precision=average,
        average_precision_interval=None if average is None else average_precision_interval(average, positives),
        average_precision_by_frequency=share,
        precision=correct / predicted if predicted else None,
        precision_interval=wilson(correct, predicted) if predicted else None,
        precision_by_frequency=share,
        recall=correct / positives if positives else None,
        recall_interval=wilson(correct, positives) if positives else None,
        recall_by_frequency=predicted / images if images else None,
        f1=2 * correct / (positives + predicted) if positives + predicted else None,
        f1_interval=f1_interval(correct, predicted, positives),
        f1_by_frequency=2 * positives / (positives + images) if images else None,
        log_loss=float(losses.mean()) if images else None,
        log_loss_interval=mean_interval(losses, least=0.0) if images else None,
        log_loss_by_frequency=sum(entropy) if images else None,
    )


def _around(value: float | None, variance: float, *, positives: int) -> Interval | None:
    return None if value is None else with_variance(value, variance, most=max(positives, 1))


def _mean(values: Iterable[float]) -> float | None:
    found = list(values)
    return float(np.mean(found)) if found else None


def _value(one: NDArray[np.float64]) -> float | None:
    return float(one[0]) if np.isfinite(one[0]) else None
