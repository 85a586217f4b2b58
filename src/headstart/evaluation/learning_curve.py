"""What more images would bring: accuracy against the number of training images, from kept embeddings.

Nested shares of the training images are fitted, each measured on the same held-out images, and errors that fall as a
power of the number of images (Cortes et al. 1993; Hestness et al. 2017), perhaps towards a floor, are carried on to
twice as many. The interval comes from other held-out images and other draws, by the bootstrap, and covers both forms;
if it does not distinguish a gain from none, the result says so. Where an image has any number of labels, all this is
about their mean average precision in place of the accuracy.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from headstart.evaluation.intervals import Interval, percentiles, wilson

if TYPE_CHECKING:
    from numpy.typing import NDArray

# A fit: features (N, D) and labels (N, ...) of the images to learn from, and features (M, D) of those to predict; gives
# what is predicted for each, (M, ...).
Fit = Callable[["NDArray[np.float32]", "NDArray[Any]", "NDArray[np.float32]"], "NDArray[Any]"]

SHARES = (0.125, 0.25, 0.5, 1.0)
DRAWS = 4  # of each share that is not the whole: their mean is measured
RESAMPLES = 400
MIN_ERRORS = 3  # on the largest part, below which the curve's end is chance


class Measure(NamedTuple):
    """What a curve is of.

    Attributes:
        name: In words.
        one: What has to be learnt, in words.
        hardly_any: What is so where `MIN_ERRORS` are not reached, in words.
        errors: Of predictions and truth, both (M, ...): a number for each image, (M,). Their mean is what is wanting to
            1, and that over a bootstrap sample what would be wanting there.
        interval: At 95 %, of the mean of one minus such errors (M,), and the truth (M, ...).
        order: An order of the images with these labels (N, ...), of which every beginning is about like the whole.
        fewest: Of these labels (N, ...), images of the rarest among some of their rows.
    """

    name: str
    one: str
    hardly_any: str
    errors: Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]
    interval: Callable[[NDArray[np.float64], NDArray[Any]], Interval]
    order: Callable[[NDArray[Any], np.random.Generator], NDArray[np.int64]]
    fewest: Callable[[NDArray[Any], NDArray[np.int64]], int]


@dataclass(frozen=True)
class Point:
    """One number of training images.

    Attributes:
        images: How many were trained on.
        accuracy: Mean accuracy on the held-out images, or what `LearningCurve.measure` names.
        interval: At 95 %, from the held-out images alone.
    """

    images: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class LearningCurve:
    """What was measured, and what follows for twice as many images.

    Attributes:
        points: By number of images.
        power: Errors fall as this power of the number of images; None where no power can be fitted.
        twice: Number of images of the forecast.
        accuracy: The forecast; None where there is none.
        interval: Of the forecast, at 95 %.
        gain: Forecast less the accuracy that was measured with all images.
        gain_interval: Of the gain, at 95 %; narrower than the other, since both are of the same held-out images.
        told: Whether the gain is significant.
        reason: Why there is no forecast; empty where there is one.
        components: How many principal components of the embeddings were fitted; None where it was all that the head
            of the model is fitted on, so that the last point is its accuracy.
        measure: What `accuracy` is, in words.
        left_out: Labels that too few images have, or lack, to be measured on subsets of them.
    """

    points: tuple[Point, ...]
    power: float | None
    twice: int
    accuracy: float | None
    interval: Interval | None
    gain: float | None
    gain_interval: Interval | None
    told: bool
    reason: str
    components: int | None = None
    measure: str = "accuracy"
    left_out: int = 0

    def as_dict(self) -> dict[str, object]:
        """The curve as JSON values."""
        return {
            **self.__dict__,
            "points": [{**point.__dict__, "interval": list(point.interval)} for point in self.points],
            "interval": None if self.interval is None else list(self.interval),
            "gain_interval": None if self.gain_interval is None else list(self.gain_interval),
        }


class Part(NamedTuple):
    """Images to train on, and images to measure on.

    Attributes:
        features: Of the training images, float32 (N, D).
        labels: Their classes, (N,), in 0..C-1, or what else the measure knows of them, (N, ...).
        held_out: Features of the held-out images, float32 (M, D).
        truth: Their classes, (M, ...).
    """

    features: NDArray[np.float32]
    labels: NDArray[Any]
    held_out: NDArray[np.float32]
    truth: NDArray[Any]


def order_of_kinds(labels: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
    """An order of the images in which every beginning has the kinds (N,) in about their proportions."""
    order = rng.permutation(len(labels))
    place = np.empty(len(labels))
    for label in np.unique(labels):
        own = order[labels[order] == label]
        place[own] = (np.arange(len(own)) + rng.random()) / len(own)
    return np.argsort(place, kind="stable")


def _fewest_of_a_class(labels: NDArray[np.int64], rows: NDArray[np.int64]) -> int:
    return int(np.bincount(labels[rows], minlength=labels.max() + 1)[np.unique(labels)].min())


ACCURACY = Measure(
    name="accuracy",
    one="A class",
    hardly_any=f"fewer than {MIN_ERRORS} held-out images are misclassified",
    errors=lambda predicted, truth: (predicted != truth).astype(np.float64),
    interval=lambda errors, _: wilson(round(float(1 - errors.mean()) * len(errors)), len(errors)),
    order=order_of_kinds,
    fewest=_fewest_of_a_class,
)


def learning_curve(parts: Sequence[Part], fit: Fit, measure: Measure = ACCURACY, *, seed: int = 0) -> LearningCurve:
    """Fit nested shares of the training images, and carry the errors on to twice as many.

    Args:
        parts: One, or one for each fold of a cross-validation; the folds are of about the same size.
        fit: Learns and predicts.
        measure: What is measured.
        seed: Of the shares.

    Returns:
        The curve; with a reason instead of a forecast if too little is known.
    """
    wrong: list[NDArray[np.float64]] = []  # for each size, (draws, held-out images of all parts)
    sizes: list[int] = []
    truth = np.concatenate([part.truth for part in parts])
    orders = [
        [measure.order(part.labels, np.random.default_rng([seed, draw])) for draw in range(DRAWS)] for part in parts
    ]
    for share in SHARES:
        draws = 1 if share == 1 else DRAWS
        rows = [[order[: round(share * len(order))] for order in of_part[:draws]] for of_part in orders]
        fewest = (measure.fewest(part.labels, one) for part, own in zip(parts, rows, strict=True) for one in own)
        if min(fewest) < 2:
            continue
        predicted = [
            np.concatenate([
                fit(part.features[own], part.labels[own], part.held_out)
                for part, of_part in zip(parts, rows, strict=True) for own in [of_part[draw]]
            ])
            for draw in range(draws)
        ]  # fmt: skip
        wrong.append(np.array([measure.errors(one, truth) for one in predicted]))
        sizes.append(round(float(np.mean([len(of_part[0]) for of_part in rows]))))
    twice = 2 * round(float(np.mean([len(part.labels) for part in parts])))
    return _forecast(np.array(sizes), wrong, truth, twice, measure, seed)


def _forecast(
    sizes: NDArray[np.int64],
    wrong: list[NDArray[np.float64]],
    truth: NDArray[Any],
    twice: int,
    measure: Measure,
    seed: int,
) -> LearningCurve:
    """The curve of measured errors, for each size (draws, M), and its forecast."""
    errors = np.array([one.mean() for one in wrong])
    images = wrong[0].shape[1] if wrong else 0
    points = tuple(
        Point(int(size), float(1 - one.mean()), measure.interval(one.mean(0), truth))
        for size, one in zip(sizes, wrong, strict=True)
    )
    reason = ""
    if len(sizes) < 3:
        reason = f"{measure.one} has too few images to train on subsets of them."
    elif errors[-1] * images < MIN_ERRORS:
        reason = f"With all images {measure.hardly_any}: what is left is noise."
    if reason:
        return LearningCurve(points, None, twice, None, None, None, None, False, reason, measure=measure.name)
    resampled = _resample(wrong, np.random.default_rng(seed))
    both = np.vstack([errors, resampled]) + 0.5 / images  # half an error more: without any there is no logarithm
    powers, gain_of_power = _by_power(sizes, both)
    gain_of_floor = _by_floor(both)
    # A few points cannot show which of the two holds, so the interval covers both.
    gains = np.concatenate([gain_of_power[1:], gain_of_floor[1:]])
    accuracies = (1 - np.tile(resampled[:, -1], 2) + gains).clip(0, 1)
    gain = float(gain_of_power[0] + gain_of_floor[0]) / 2
    low, high = percentiles(gains)
    return LearningCurve(
        points=points,
        power=float(powers[0]),
        twice=twice,
        accuracy=float(1 - errors[-1] + gain),
        interval=percentiles(accuracies),
        gain=gain,
        gain_interval=(low, high),
        told=low > 0,
        reason="",
        measure=measure.name,
    )


def _resample(wrong: list[NDArray[np.float64]], rng: np.random.Generator) -> NDArray[np.float64]:
    """Errors (B, S) of other held-out images, and of other draws of training images."""
    images = wrong[0].shape[1]
    counts = rng.multinomial(images, np.full(images, 1 / images), size=RESAMPLES).astype(np.float64)  # (B, M)
    columns = []
    for one in wrong:
        errors = counts @ one.T / images  # (B, draws)
        picks = rng.integers(0, len(one), errors.shape)
        columns.append(np.take_along_axis(errors, picks, 1).mean(1).clip(0, 1))
    # There is one draw of all images; another set of as many would differ by about as much as draws of half of them.
    chance = wrong[-2].mean(1).std(ddof=1)
    columns[-1] = (columns[-1] + rng.normal(0, chance, RESAMPLES)).clip(0, 1)
    return np.column_stack(columns)


def _by_power(sizes: NDArray[np.int64], errors: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The power by which each row of errors (B, S) falls, and the gain of twice the images, where that goes on; (B,).

    A straight line through the logarithms, made to pass through the error with all images: that is measured best, and
    the question is how it goes on from there. Rising errors count as constant.
    """
    x = np.log(sizes / sizes[-1])  # (S,), the last is 0
    y = np.log(errors / errors[:, -1:])
    powers = (-(y @ x) / (x @ x)).clip(0)
    return powers, errors[:, -1] * (1 - 2.0**-powers)


def _by_floor(errors: NDArray[np.float64]) -> NDArray[np.float64]:
    """The gain of twice the images where errors fall towards a floor that is not zero, (B,).

    Of errors ``a n^-b + c`` each doubling gains the same fraction of what the one before gained, whatever a, b and c.
    """
    before, last = errors[:, -3] - errors[:, -2], errors[:, -2] - errors[:, -1]
    fraction = np.divide(last, before, out=np.ones_like(last), where=before > 0).clip(0, 1)
    gains: NDArray[np.float64] = last.clip(0) * fraction
    return gains
