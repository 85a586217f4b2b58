"""The evaluation where an image has any number of labels: each of them, and all together, with 95 % intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headstart.core.text import counted, portable
from headstart.evaluation.average_precision import (
    average_precision,
    average_precision_interval,
    average_precisions,
)
from headstart.evaluation.intervals import Interval, mean_interval, wilson, wilson_of_share
from headstart.evaluation.labels_calibration import labels_calibration_error

if TYPE_CHECKING:
    from numpy.typing import NDArray

RESAMPLES = 200  # for a variance, which takes fewer than quantiles do
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
        recall: Share of `correct` in `positives`; None where no image has it.
        recall_interval: Wilson's.
        f1: Harmonic mean of the two; None where no image has it and none was predicted to.
        f1_by_frequency: What predicting it of every image gets.
        log_loss: Mean, in nats.
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
    recall: float | None
    recall_interval: Interval | None
    f1: float | None
    f1_by_frequency: float | None
    log_loss: float | None
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
        macro_f1: Mean F1 over the labels.
        log_loss: Mean over the images, of the mean over the labels that are known of one.
        log_loss_by_frequency: What the share of each label gets.
        calibration_error: Expected calibration error over all pairs of image and label, with 15 bins.
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
    macro_f1: float | None
    macro_f1_interval: Interval | None
    log_loss: float
    log_loss_interval: Interval
    log_loss_by_frequency: float
    calibration_error: float
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
        record: dict[str, Any] = dict(self.__dict__)
        record["labels"] = [one.__dict__ | {"label": portable(one.label)} for one in self.labels]
        return {key: _plain(value) for key, value in record.items()}


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
    spread = _spread(probabilities, labels, found, np.random.default_rng(seed))
    positives = max(int(truth.sum()), 1)
    average = [one.average_precision for one in results if one.average_precision is not None]
    chance = [one.average_precision_by_frequency or 0 for one in results if one.average_precision is not None]
    counts = _Counts.of(known, truth, found)
    return LabelsEvaluation(
        split=split,
        n=len(labels),
        exact=int(exact.sum()),
        exact_match=float(exact.mean()),
        exact_match_interval=wilson(int(exact.sum()), len(exact)),
        exact_match_by_frequency=_commonest(labels),
        mean_average_precision=float(np.mean(average)) if average else None,
        mean_average_precision_interval=_around(average and float(np.mean(average)), spread[0], positives),
        mean_average_precision_by_frequency=float(np.mean(chance)) if chance else None,
        micro_f1=_value(counts.micro()),
        micro_f1_interval=_around(_value(counts.micro()), spread[1], positives),
        macro_f1=_value(counts.macro()),
        macro_f1_interval=_around(_value(counts.macro()), spread[2], positives),
        log_loss=float(losses.mean()),
        log_loss_interval=mean_interval(losses, least=0.0),
        log_loss_by_frequency=float(_losses(np.tile(frequencies, (len(labels), 1)), labels).mean()),
        calibration_error=labels_calibration_error(probabilities[known], truth[known]),
        unknown=int((~known).sum()),
        labels=results,
        together=_together(truth),
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
    right = np.where(truth, probabilities, 1 - probabilities)
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
        recall=correct / positives if positives else None,
        recall_interval=wilson(correct, positives) if positives else None,
        f1=2 * correct / (positives + predicted) if positives + predicted else None,
        f1_by_frequency=2 * positives / (positives + images) if images else None,
        log_loss=float(-np.log(np.maximum(right, _SMALLEST)).mean()) if images else None,
        log_loss_by_frequency=sum(entropy) if images else None,
    )


class _Counts(NamedTuple):
    """Of each label, in one sample or several: images that have it and were found to, that have it, that were found."""

    hits: NDArray[np.float64]  # (..., C)
    have: NDArray[np.float64]
    found: NDArray[np.float64]

    @classmethod
    def of(
        cls, known: NDArray[np.bool_], truth: NDArray[np.bool_], found: NDArray[np.bool_],
        weights: NDArray[np.float64] | None = None,
    ) -> _Counts:  # fmt: skip
        weights = np.ones((1, len(known))) if weights is None else weights  # (B, N)
        return cls(*(weights @ part for part in (truth & found & known, truth, found & known)))

    def micro(self) -> NDArray[np.float64]:
        return _ratio(2 * self.hits.sum(-1), (self.have + self.found).sum(-1))

    def macro(self) -> NDArray[np.float64]:
        each = _ratio(2 * self.hits, self.have + self.found)
        there = np.isfinite(each)
        return _ratio(np.where(there, each, 0).sum(-1), there.sum(-1))


def _spread(
    probabilities: NDArray[np.float64], labels: NDArray[np.int8], found: NDArray[np.bool_], rng: np.random.Generator
) -> tuple[float, float, float]:
    """Standard deviations over bootstrap samples of the images: of mean average precision, micro and macro F1."""
    known, truth = labels >= 0, labels == 1
    weights = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), RESAMPLES).astype(np.float64)
    counts = _Counts.of(known, truth, found, weights)
    some = [i for i in range(labels.shape[1]) if truth[:, i].any()]
    average = np.full((RESAMPLES, len(some)), np.nan)
    for place, i in enumerate(some):
        own = known[:, i]
        average[:, place] = average_precisions(probabilities[own, i], truth[own, i], weights[:, own])
    there = np.isfinite(average)
    means = _ratio(np.where(there, average, 0).sum(1), there.sum(1))
    return _std(means), _std(counts.micro()), _std(counts.macro())


def _around(value: float | list[float] | None, spread: float, positives: int) -> Interval | None:
    """Wilson's interval of a mean, of as many trials as have its variance; at most those that it has been made of."""
    if value is None or isinstance(value, list):
        return None
    trials = min(value * (1 - value) / spread**2, positives) if spread else positives
    return wilson_of_share(value, max(trials, 1.0))


def _commonest(labels: NDArray[np.int8]) -> float:
    """Share of the images, of which all is known, that have the commonest combination."""
    whole = labels[(labels >= 0).all(1)]
    if not len(whole):
        return 0.0
    return float(np.unique(whole, axis=0, return_counts=True)[1].max() / len(whole))


def _together(truth: NDArray[np.bool_]) -> tuple[tuple[int, int, int], ...]:
    counts = truth.astype(np.int64).T @ truth
    return tuple((int(i), int(j), int(counts[i, j])) for i, j in np.argwhere(np.triu(counts, 1)))


def _std(values: NDArray[np.float64]) -> float:
    values = values[np.isfinite(values)]
    return float(values.std()) if len(values) else 0.0


def _ratio(above: NDArray[Any], below: NDArray[Any]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = np.divide(above, below, out=np.full(np.shape(below), np.nan), where=below > 0)
    return result


def _value(one: NDArray[np.float64]) -> float | None:
    return float(one[0]) if np.isfinite(one[0]) else None


def _plain(value: Any) -> Any:
    if isinstance(value, tuple | list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return round(value, 6) if isinstance(value, float) else value
