"""Prediction sets: classes that contain the true one with a chosen probability, by split-conformal prediction.

The score of an image and a class is 1 minus the probability of the class (LAC: Sadinle, Lei and Wasserman 2019, "Least
ambiguous set-valued classifiers with bounded error levels"). A set holds every class whose score is at most a quantile
of the scores that held-out images had with their true classes (Vovk et al. 2005; Angelopoulos and Bates 2023). If the
image is drawn as those were (exchangeable), the set holds its true class with at least the probability asked for.

Such a set can be empty: where the model is right more often than is asked for, those images go without a class that
are less certain than nearly all held-out ones were. So the most probable class always belongs, unless empty sets are
allowed. That only adds classes: sets then hold the true one at least as often, and no less often than the most probable
class is the true one. How often follows from the held-out images whose most probable class is another (mistakes): a set
misses the true class exactly where such an image has a score above the quantile.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from headstart.core.arguments import must_be_share
from headstart.core.errors import ModelError, OptionError
from headstart.core.proportions import Interval, wilson
from headstart.targets import TARGETS

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_SCORES = 1000  # so many are kept of more: a coverage is then met to a thousandth
CAVEAT = (
    "Prediction sets keep their coverage only on images drawn in the same way as the held-out images: other cameras, "
    "places or classes void it."
)
_DIGITS = 6  # of a score that is kept
# A true class of a larger probability than one half is the most probable one; below it, to the digits that are kept.
_SURELY_RIGHT = 0.4999999


@dataclass(frozen=True)
class Measured:
    """How often sets that are never empty held the true class of held-out images.

    Attributes:
        coverage: Share of the sets that held it, in 0..1.
        interval: 95 % interval of it, Wilson's. In simulations it holds the truth in 93 to 96 % of cases; in 89 to 94 %
            with 60 images that also chose the quantile, where the truth is then mostly above it.
        images: Number of images.
        split: Which images they are; empty where the file does not say.
        at_least: The share is a lower bound, since the file is of a version that did not store the mistakes.
    """

    coverage: float
    interval: Interval
    images: int
    split: str
    at_least: bool


@dataclass(frozen=True)
class Mistakes:
    """What a model file keeps, from which the coverage of sets that are never empty follows.

    Attributes:
        images: Number of held-out images, at least 1.
        mistakes: Those whose most probable class is another than the true one.
        scores: Of these, kept as in `Conformal`.
        split: Which images they are.
        apart: They are others than those of `Conformal`; else they are the same.
    """

    images: int
    mistakes: int
    scores: tuple[float, ...]
    split: str
    apart: bool

    @classmethod
    def of(cls, scores: NDArray[np.float64], mistaken: NDArray[np.bool_], split: str, *, apart: bool) -> Mistakes:
        """What is kept of held-out images.

        Args:
            scores: 1 minus the probability of the true class, (M,), in 0..1, M at least 1.
            mistaken: Whether the most probable class is another, (M,).
            split: Which images they are.
            apart: They are others than those that sets are made with.
        """
        wrong = scores[mistaken]
        return cls(len(scores), len(wrong), _kept(wrong), split, apart)


@dataclass(frozen=True)
class Conformal:
    """What a model file keeps of the scores of held-out images, to make sets with.

    Attributes:
        images: Their number M, at least 1.
        scores: 1 minus the probability of the true class, in 0..1; at most `MAX_SCORES` of them in ascending order: the
            j-th of m is the one of rank ceil(j * M / m) among all.
        split: Which images they are; empty where the file does not say.
        measured: From which the coverage of the sets follows; None in a file of a version that did not store it.
    """

    images: int
    scores: tuple[float, ...]
    split: str = ""
    measured: Mistakes | None = None

    @classmethod
    def of(cls, scores: NDArray[np.float64]) -> Conformal:
        """What is kept of scores (M,) in 0..1, M at least 1."""
        return cls(len(scores), _kept(scores))

    def as_dict(self) -> dict[str, object]:
        """The record as JSON values, without what it does not say."""
        values = {"images": self.images, "scores": list(self.scores)}
        split = {"split": self.split} if self.split else {}
        fared = asdict(self.measured) | {"scores": list(self.measured.scores)} if self.measured else None
        return {**values, **split, **({"measured": fared} if fared else {})}


def _kept(scores: NDArray[np.float64]) -> tuple[float, ...]:
    count = len(scores)
    kept = min(count, MAX_SCORES)
    ordered = np.sort(scores)
    ranks = [-(-number * count // kept) for number in range(1, kept + 1)]
    return tuple(float(f"{ordered[rank - 1]:.{_DIGITS}g}") for rank in ranks)


def required(conformal: Conformal | None, task: str) -> Conformal:
    """The record of a model file that must have one.

    Args:
        conformal: The record, or None.
        task: The task of the model.

    Raises:
        OptionError: It has none.
    """
    if not TARGETS[task].exclusive:
        raise OptionError(
            "A prediction set contains the one true class of an image; in the task of this model, "
            f"{task}, any number can be true.",
            "Leave the coverage out.",
        )
    if conformal is None:
        raise OptionError(
            "The model file holds no scores of held-out images, which sets of a given coverage need.",
            "Train it again, with images that are held out.",
        )
    return conformal


def limit(conformal: Conformal, coverage: float) -> float:
    """The largest score of a class in the sets of a coverage; infinite where there were too few images to say.

    Args:
        conformal: Scores of held-out images.
        coverage: Probability that a set holds the true class, above 0 and below 1.

    Raises:
        OptionError: The coverage is no such number.
    """
    must_be_share("The coverage", coverage)
    needed = _rank(coverage, conformal.images)
    return _of_rank(conformal, needed) if needed <= conformal.images else math.inf


def _rank(coverage: float, images: int) -> int:
    """The rank of the quantile among the scores of so many images; above their number where they are too few."""
    return math.ceil(coverage * (images + 1) - 1e-9)  # of a product that is whole but for rounding


def _of_rank(conformal: Conformal, rank: int) -> float:
    """The first score that is kept of this rank or above."""
    return conformal.scores[(rank - 1) * len(conformal.scores) // conformal.images]


def measured(conformal: Conformal, coverage: float) -> Measured:
    """How often sets that are never empty held the true class of held-out images.

    Images that the quantile was not chosen with are counted as they are. Of those that it was chosen with, each is
    counted with the quantile of the others (leave-one-out), so that the share is not flattered by its own score: an
    image beyond the rank that the others call for finds the score of just that rank as its quantile, and an image up to
    it is inside.

    Args:
        conformal: What a model file holds.
        coverage: What was asked for, above 0 and below 1.

    Raises:
        OptionError: The coverage is no such number.
    """
    most, images = limit(conformal, coverage), conformal.images
    at_least = conformal.measured is None  # what is certain of the scores alone
    kept = conformal.measured or Mistakes(images, images, conformal.scores, conformal.split, apart=False)
    count, split = kept.images, kept.split
    if most == math.inf:  # sets of all classes
        return Measured(1.0, (1.0, 1.0), count, split, at_least=False)
    if not kept.apart:
        most = _of_rank(conformal, _rank(coverage, images - 1))
    missed = _above(kept.scores, kept.mistakes, max(most, _SURELY_RIGHT) if at_least else most)
    low, high = wilson(count - missed, count)
    return Measured((count - missed) / count, (low, 1.0 if at_least else high), count, split, at_least)


def _above(kept: Sequence[float], count: int, most: float) -> int:
    """How many of so many scores are above; of more than are kept, a few too many rather than too few."""
    return count - -(-bisect_right(kept, most) * count // len(kept)) if kept else 0


def members(probabilities: NDArray[np.floating], most: float, *, allow_empty: bool = False) -> NDArray[np.int64]:
    """The classes of one image's set, from the most probable.

    Args:
        probabilities: (C,).
        most: What `limit` gave.
        allow_empty: Leave out the most probable class too, where its score is above.
    """
    order: NDArray[np.int64] = np.argsort(-probabilities, kind="stable")
    size = int((1 - probabilities.astype(np.float64) <= most).sum())
    return order[: size if allow_empty else max(size, 1)]


def parse(value: Any) -> Conformal | None:
    """The record of a model file, checked.

    Raises:
        ModelError: It is damaged.
    """
    if value is None:
        return None
    images = value.get("images") if isinstance(value, dict) else None
    scores = _parse_scores(value, images)
    if type(images) is not int or images < 1:
        raise ModelError("The model's metadata has no valid number of images of the conformal scores.")
    split, fared = value.get("split", ""), value.get("measured")
    if not isinstance(split, str):
        raise ModelError("The model's metadata has no valid split of the conformal scores.")
    return Conformal(images, scores, split, None if fared is None else _parse_measured(fared, images))


def _parse_measured(value: Any, calibrated_on: int) -> Mistakes:
    mistakes = value.get("mistakes") if isinstance(value, dict) else None
    scores = _parse_scores(value, mistakes)
    images, apart = value.get("images"), value.get("apart")
    valid = type(images) is int and images >= max(1, int(mistakes or 0)) and isinstance(value.get("split"), str)
    if not valid or not isinstance(apart, bool) or not (apart or images == calibrated_on):
        raise ModelError("The model's metadata has no valid record of the measured coverage of conformal sets.")
    return Mistakes(images, mistakes or 0, scores, value["split"], apart)


def _parse_scores(value: Any, count: Any) -> tuple[float, ...]:
    """The list under ``scores``, of which there were so many before at most `MAX_SCORES` were kept."""
    scores = value.get("scores") if isinstance(value, dict) else None
    if not isinstance(scores, list) or not all(type(one) in {int, float} and 0 <= one <= 1 for one in scores):
        raise ModelError("The model's metadata has no valid conformal scores.")
    if type(count) is not int or len(scores) != min(count, MAX_SCORES) or sorted(scores) != scores:
        raise ModelError("The model's metadata has conformal scores that are not in order, or not all there.")
    return tuple(float(one) for one in scores)
